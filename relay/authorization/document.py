"""JSON text with places: every value of a policy document knows where it stands.

The standard library decides what is JSON; a second walk over text that is known to be good finds the
pointer (RFC 6901), line and column of each value, keeps numbers as they were written, and sees the
duplicate keys that ``json`` swallows.  Size and nesting are bounded before either runs.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

# Far above what may be stored (4 KB, SES policy anatomy), so that `relay policy test` takes larger ones.
MOST_CHARACTERS = 256 * 1024
# Statement, Condition, operator, key, list of values: six levels; a few more to name the fault well.
_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where: a JSON pointer, and line and column from 1."""

    pointer: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}"
        return f"{place} ({self.pointer}): {self.message}" if self.pointer else f"{place}: {self.message}"


class PolicyError(Exception):
    """The document is no policy; ``faults`` has everything that is wrong with it."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Node:
    """One JSON value.  ``value`` is a str, bool, None, a list of nodes, a list of members, or a number.

    A number is given as a ``Number``: the text as written.
    """

    value: Any
    pointer: str
    offset: int

    @property
    def members(self) -> list[Member]:
        return self.value if isinstance(self.value, Members) else []


@dataclass(frozen=True, slots=True)
class Member:
    """A name and its value in an object."""

    name: str
    offset: int
    node: Node


class Members(list[Member]):
    """The members of an object, in order, duplicates and all."""


class Number(str):
    """A number as it was written."""

    __slots__ = ()


def plain(node: Node) -> Any:
    """The value as ``json`` would give it; of duplicate keys the last."""
    if isinstance(node.value, Members):
        return {member.name: plain(member.node) for member in node.value}
    if type(node.value) is list:
        return [plain(one) for one in node.value]
    return json.loads(node.value) if isinstance(node.value, Number) else node.value


class Document:
    """The text, to say where an offset is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def fault(self, pointer: str, offset: int, message: str) -> Fault:
        line = bisect_left(self._line_ends, offset)
        return Fault(pointer, line + 1, offset - (self._line_ends[line - 1] if line else -1), message)

    @cached_property
    def _line_ends(self) -> list[int]:
        return [found.start() for found in re.finditer("\n", self.text)]


def read(text: str | bytes) -> tuple[Document, Node]:
    """The document's root; PolicyError if it is not JSON in UTF-8, or too large or too deep."""
    if isinstance(text, bytes):
        text = _decode(text)
    document = Document(text)
    if len(text) > MOST_CHARACTERS:
        _fail(document, 0, f"the document has more than {MOST_CHARACTERS} characters")
    _check_depth(document)
    try:
        json.loads(text, parse_constant=_refuse_constant, parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        _fail(document, error.pos, f"not JSON: {error.msg}")
    except _Constant as error:
        _fail(document, _constant_offset(text), f"not JSON: {error.args[0]} is no value")
    return document, _Walk(document).root()


class _Constant(Exception):
    """``NaN`` or ``Infinity``, which Python's reader would take."""


_STRING_OR_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(NaN|-?Infinity)', re.DOTALL)


def _constant_offset(text: str) -> int:
    """Where the first constant stands; a string may hold its name too."""
    return next((found.start() for found in _STRING_OR_CONSTANT.finditer(text) if found[1]), 0)


def _refuse_constant(name: str) -> NoReturn:
    raise _Constant(name)


def _decode(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode("utf-8")
        _fail(Document(before), len(before), "not UTF-8")


def _fail(document: Document, offset: int, message: str) -> NoReturn:
    raise PolicyError((document.fault("", offset, message),))


_BRACKET_OR_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


def _check_depth(document: Document) -> None:
    depth = 0
    for found in _BRACKET_OR_STRING.finditer(document.text):
        mark = found.group()
        depth += (mark in "[{") - (mark in "]}")
        if depth > _DEEPEST:
            _fail(document, found.start(), f"nested more than {_DEEPEST} levels deep")


_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LITERALS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


class _Walk:
    """Walks text that is known to be JSON."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._text = document.text
        self._at = 0

    def root(self) -> Node:
        return self._value("")

    def _next(self) -> str:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at]

    def _value(self, pointer: str) -> Node:
        first = self._next()
        start = self._at
        if first == '"':
            return Node(self._string(pointer), pointer, start)
        if first == "{":
            return Node(Members(self._members(pointer)), pointer, start)
        if first == "[":
            return Node(list(self._items(pointer)), pointer, start)
        if first in _LITERALS:
            text, value = _LITERALS[first]
            self._at += len(text)
            return Node(value, pointer, start)
        found = _NUMBER.match(self._text, start)
        assert found is not None
        self._at = found.end()
        return Node(Number(found.group()), pointer, start)

    def _string(self, pointer: str) -> str:
        start = self._at
        decoded, self._at = _DECODER.raw_decode(self._text, start)
        value = str(decoded)
        if any("\ud800" <= character <= "\udfff" for character in value):
            fault = self._document.fault(pointer, start, "half of a surrogate pair is no character")
            raise PolicyError((fault,))
        return value

    def _items(self, pointer: str) -> Iterator[Node]:
        self._at += 1
        number = 0
        while self._next() != "]":
            yield self._value(f"{pointer}/{number}")
            number += 1
            self._at += self._next() == ","
        self._at += 1

    def _members(self, pointer: str) -> Iterator[Member]:
        self._at += 1
        while self._next() != "}":
            start = self._at
            name = self._string(pointer)
            self._next()
            self._at += 1  # the colon
            escaped = name.replace("~", "~0").replace("/", "~1")
            yield Member(name, start, self._value(f"{pointer}/{escaped}"))
            self._at += self._next() == ","
        self._at += 1
