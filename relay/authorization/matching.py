"""Texts with wildcards and policy variables, and how they match.

``*`` is any run of characters, ``?`` exactly one; a pattern is split at ``*`` and its pieces are searched
one after another, each from where the last one ended.  A piece has a fixed length, so nothing is tried
twice and a hostile pattern costs no more than its length times the value's.

Variables (``${key}``, version 2012-10-17 only) are resolved while the pattern is built, never before: a
value that holds ``*`` stays plain text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

Context = Mapping[str, str | tuple[str, ...]]
# True, False, or None: the policy's value has no meaning here (a variable without value, a wrong type).
Match = Callable[[str, Context], bool | None]


@dataclass(frozen=True, slots=True)
class Variable:
    """``${key}`` or ``${key, 'default'}``; ``key`` in lower case."""

    key: str
    default: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Wildcard:
    """A naked ``*`` or ``?``."""

    text: str


ANY_RUN, ANY_ONE = Wildcard("*"), Wildcard("?")
# Plain text, wildcards and variables, in order.
Template = tuple[str | Wildcard | Variable, ...]

_WITH_DEFAULT = re.compile(r"([^,']+), '([^']+)'")


def parse_template(text: str, *, variables: bool, wildcards: bool) -> Template:
    """The parts of a policy's text.  An unclosed ``${`` is plain text."""
    parts: list[str | Wildcard | Variable] = []
    start = 0
    while variables and (opened := text.find("${", start)) >= 0 and (closed := text.find("}", opened)) >= 0:
        parts += _plain(text[start:opened], wildcards)
        parts.append(_variable(text[opened + 2 : closed]))
        start = closed + 1
    parts += _plain(text[start:], wildcards)
    return tuple(_joined(parts))


def _plain(text: str, wildcards: bool) -> list[str | Wildcard]:
    if not wildcards:
        return [text] if text else []
    marks: dict[str, Wildcard] = {"*": ANY_RUN, "?": ANY_ONE}
    return [marks.get(piece, piece) for piece in re.split(r"([*?])", text) if piece]


def _variable(inside: str) -> str | Variable:
    if inside in ("*", "?", "$"):
        return inside
    found = _WITH_DEFAULT.fullmatch(inside)
    return Variable(found[1].lower(), found[2]) if found else Variable(inside.lower())


def _joined(parts: Sequence[str | Wildcard | Variable]) -> Iterator[str | Wildcard | Variable]:
    """Neighbouring plain texts as one."""
    held = ""
    for part in parts:
        if isinstance(part, str):
            held += part
            continue
        if held:
            yield held
            held = ""
        yield part
    if held:
        yield held


def has_variables(template: Template) -> bool:
    return any(isinstance(part, Variable) for part in template)


def variables_of(text: str) -> frozenset[str]:
    """The keys, in lower case, of the variables that stand in a policy's text."""
    parts = parse_template(text, variables=True, wildcards=False)
    return frozenset(part.key for part in parts if isinstance(part, Variable))


def resolve(template: Template, context: Context) -> Template | None:
    """The template without variables, or None if one has no value here."""
    parts: list[str | Wildcard | Variable] = []
    for part in template:
        if not isinstance(part, Variable):
            parts.append(part)
            continue
        value = context.get(part.key)
        if not isinstance(value, str) or not value:  # a multi-valued key has no value here
            value = part.default
        if value is None:
            return None
        parts.append(value)
    return tuple(_joined(parts))


# ---------------------------------------------------------------- one pattern


# A policy keeps its own patterns; the cache is for those that are made of a sender's values again and
# again.  What is long is not kept, or documents that were thrown away would fill the memory.
_MOST_PARTS_KEPT = 8


def like(template: Template) -> Callable[[str], bool]:
    """A predicate that the whole text must satisfy; ``template`` has no variables."""
    return _kept(template) if len(template) <= _MOST_PARTS_KEPT else _like(template)


@lru_cache(maxsize=2048)
def _kept(template: Template) -> Callable[[str], bool]:
    return _like(template)


def _like(template: Template) -> Callable[[str], bool]:
    if ANY_RUN not in template:
        return _whole(template)
    first, *inner, last = _pieces(template)
    return _Pattern(first, tuple(piece for piece in inner if piece), last).matches


def _whole(template: Template) -> Callable[[str], bool]:
    if all(isinstance(part, str) for part in template):
        return "".join(part for part in template if isinstance(part, str)).__eq__
    matches = _compiled(template).fullmatch
    return lambda text: matches(text) is not None


def _pieces(template: Template) -> list[Template]:
    pieces: list[list[str | Wildcard | Variable]] = [[]]
    for part in template:
        if part is ANY_RUN:
            pieces.append([])
        else:
            pieces[-1].append(part)
    return [tuple(piece) for piece in pieces]


def _length(piece: Template) -> int:
    return sum(len(part) if isinstance(part, str) else 1 for part in piece)


def _compiled(piece: Template) -> re.Pattern[str]:
    """Literals and dots only: a fixed length, so that the search never goes back."""
    source = "".join(re.escape(part) if isinstance(part, str) else "." for part in piece)
    return re.compile(source, re.DOTALL)


class _Pattern:
    """Pieces between ``*``: the first at the start, the last at the end, the others in order between."""

    __slots__ = ("_first", "_first_length", "_inner", "_last", "_last_length", "_prefix", "_suffix")

    def __init__(self, first: Template, inner: tuple[Template, ...], last: Template) -> None:
        self._prefix, self._first = _plain_or_test(first)
        self._suffix, self._last = _plain_or_test(last)
        self._first_length, self._last_length = _length(first), _length(last)
        self._inner = [_search(piece) for piece in inner]

    def matches(self, text: str) -> bool:
        end = len(text) - self._last_length
        start = self._first_length
        if end < start or not text.startswith(self._prefix) or not text.endswith(self._suffix):
            return False
        if self._first is not None and not self._first(text, 0):
            return False
        if self._last is not None and not self._last(text, end):
            return False
        for search in self._inner:
            start = search(text, start, end)
            if start < 0:
                return False
        return True


def _plain_or_test(piece: Template) -> tuple[str, Callable[[str, int], bool] | None]:
    """The piece as plain text, or else a test of whether it stands at an offset."""
    if all(isinstance(part, str) for part in piece):
        return "".join(part for part in piece if isinstance(part, str)), None
    match = _compiled(piece).match
    return "", lambda text, offset: match(text, offset) is not None


def _search(piece: Template) -> Callable[[str, int, int], int]:
    """Where the piece ends that is found first between two offsets, or -1."""
    if len(piece) == 1 and isinstance(piece[0], str):
        plain, length = piece[0], len(piece[0])

        def find(text: str, start: int, end: int) -> int:
            found = text.find(plain, start, end)
            return found + length if found >= 0 else -1

        return find
    search = _compiled(piece).search

    def find_with_wildcards(text: str, start: int, end: int) -> int:
        found = search(text, start, end)
        return found.end() if found else -1

    return find_with_wildcards


# ---------------------------------------------------------------- several patterns

# To look one text up among others of its length costs as much as to compare it with so many.
_WORTH_A_SET = 16


def any_like(templates: Sequence[Template]) -> Match:
    """Whether the text is like any of them; None if none is and one has no value."""
    fixed = [template for template in templates if not has_variables(template)]
    return with_variables(_any_fixed(fixed), [t for t in templates if has_variables(t)], like)


def with_variables(
    fixed: Callable[[str, Context], bool],
    variable: Sequence[Template],
    build: Callable[[Template], Callable[[str], bool] | None],
) -> Match:
    """``fixed``, or any of the templates once their variables are resolved; ``build`` makes the predicate."""
    if not variable:
        return fixed

    def match(have: str, context: Context) -> bool | None:
        if fixed(have, context):
            return True
        resolved = [resolve(template, context) for template in variable]
        built = [build(template) if template is not None else None for template in resolved]
        if any(matches(have) for matches in built if matches is not None):
            return True
        return None if None in built else False

    return match


def _any_fixed(templates: Sequence[Template]) -> Callable[[str, Context], bool]:
    """The common shapes (``text``, ``text*``, ``*text``) are looked up together."""
    exact: set[str] = set()
    prefixes: list[str] = []
    suffixes: list[str] = []
    others: list[Callable[[str], bool]] = []
    for template in templates:
        match template:
            case () | (str(),):
                exact.add("".join(part for part in template if isinstance(part, str)))
            case (str(text), last) if last is ANY_RUN:
                prefixes.append(text)
            case (first, str(text)) if first is ANY_RUN:
                suffixes.append(text)
            case _:
                others.append(like(template))
    (starts, begun), (ends, ended) = _by_length(prefixes), _by_length(suffixes)

    def fixed(have: str, _context: Context) -> bool:
        if have in exact or have.startswith(starts) or have.endswith(ends):
            return True
        for length, texts in begun:
            if have[:length] in texts:
                return True
        for length, texts in ended:
            if have[-length:] in texts:
                return True
        for matches in others:  # noqa: SIM110 - a generator costs more than all of the above
            if matches(have):
                return True
        return False

    return fixed


def _by_length(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[int, frozenset[str]], ...]]:
    """Those that are compared one by one, and by their length those of which there are many."""
    groups: dict[int, set[str]] = {}
    for text in texts:
        groups.setdefault(len(text), set()).add(text)
    few = [group for group in groups.values() if len(group) < _WORTH_A_SET]
    many = [(length, frozenset(group)) for length, group in groups.items() if len(group) >= _WORTH_A_SET]
    return tuple(itertools.chain.from_iterable(few)), tuple(many)


# ---------------------------------------------------------------- ARNs

_ARN_SEGMENTS = 6


def is_arn(text: str) -> bool:
    return text.startswith("arn:") and text.count(":") >= _ARN_SEGMENTS - 1


def arn_segments(template: Template) -> tuple[Template, ...] | None:
    """The six colon segments of an ARN pattern; None if there are fewer, or a variable in the first five."""
    segments: list[list[str | Wildcard | Variable]] = [[]]
    for part in template:
        if not isinstance(part, str) or len(segments) == _ARN_SEGMENTS:
            segments[-1].append(part)
            continue
        first, *rest = part.split(":", _ARN_SEGMENTS - len(segments))
        segments[-1] += [first] if first else []
        segments += [[text] if text else [] for text in rest]
    if len(segments) != _ARN_SEGMENTS:
        return None
    if any(isinstance(part, Variable) for segment in segments[:-1] for part in segment):
        return None
    return tuple(tuple(segment) for segment in segments)


def arn_like(segments: tuple[Template, ...]) -> Callable[[str], bool]:
    """A predicate over ARNs, segment by segment; the last one takes colons and slashes as they come."""
    if all(len(segment) <= 1 and all(isinstance(p, str) for p in segment) for segment in segments):
        return ":".join("".join(map(str, segment)) for segment in segments).__eq__
    tests = [like(segment) for segment in segments]

    def matches(arn: str) -> bool:
        if not is_arn(arn):
            return False
        parts = arn.split(":", _ARN_SEGMENTS - 1)
        return all(test(part) for test, part in zip(tests, parts, strict=True))

    return matches


def any_arn_like(templates: Sequence[Template]) -> Match:
    """Whether an ARN is like any of them; None if it is no ARN, or none matches and one is unusable."""
    split = [arn_segments(template) for template in templates]
    usable = [segments for segments in split if segments is not None]
    fixed = [arn_like(segments) for segments in usable if not has_variables(segments[-1])]
    variable = [segments for segments in usable if has_variables(segments[-1])]
    is_unusable = None in split

    def match(have: str, context: Context) -> bool | None:
        if not is_arn(have):
            return None
        if any(matches(have) for matches in fixed):
            return True
        unknown = is_unusable
        for segments in variable:
            last = resolve(segments[-1], context)
            if last is None:
                unknown = True
            elif arn_like((*segments[:-1], last))(have):
                return True
        return None if unknown else False

    return match
