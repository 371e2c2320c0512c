"""MTA-STS (RFC 8461), the pure part: what a domain published, read; and what it says about a host."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from relay.submission.address import AddressError, parse_domain

# Section 3.1: the version first, then fields in any order; an id has up to 32 letters and digits.
_RECORD = re.compile(r"v=STSv1[ \t]*;(?P<fields>.*)", re.DOTALL).fullmatch
_ID = re.compile(r"id[ \t]*=[ \t]*([A-Za-z0-9]{1,32})").fullmatch
_MAX_AGE = re.compile(r"[0-9]{1,10}").fullmatch
_LONGEST_AGE = 31_557_600  # section 3.2: about a year
_MOST_PATTERNS = 1000


class Mode(StrEnum):
    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """A domain's word on its mail hosts; ``mx`` in lower case, ``max_age`` in seconds."""

    mode: Mode
    max_age: int
    mx: tuple[str, ...]

    @property
    def is_enforced(self) -> bool:
        """Testing is the domain's own rehearsal: its mail goes as if there were no policy."""
        return self.mode is Mode.ENFORCE

    def names(self, host: str) -> bool:
        """Whether ``host`` may take the domain's mail; a wildcard is one whole label (section 4.1)."""
        return host in self.mx or f"*.{host.partition('.')[2]}" in self.mx


class NoPolicy(Exception):
    """What was fetched is not a policy."""


def parse_record(texts: Sequence[str]) -> str | None:
    """The id of the policy that TXT records announce, or None: none does, or more than one."""
    found = [match for match in map(_RECORD, texts) if match]
    if len(found) != 1:
        return None
    fields = [_ID(part.strip(" \t")) for part in found[0]["fields"].split(";")]
    return next((match[1] for match in fields if match), None)


def parse_policy(text: str) -> Policy:
    """The policy in the file; NoPolicy says what is wrong with it.  Unknown keys are left for the future."""
    first: dict[str, str] = {}
    patterns: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        key, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon:
            raise NoPolicy(f"not a line of a policy: {line[:80]!r}")
        if key.strip() == "mx":
            patterns.append(_pattern(value.strip()))
        else:
            first.setdefault(key.strip(), value.strip())
    return _policy(first, patterns)


def _policy(first: dict[str, str], patterns: list[str]) -> Policy:
    if first.get("version") != "STSv1":
        raise NoPolicy("version is not STSv1")
    if first.get("mode") not in tuple(Mode):
        raise NoPolicy("mode is none of enforce, testing, none")
    if not _MAX_AGE(first.get("max_age", "")):
        raise NoPolicy("max_age is not a number of seconds")
    mode = Mode(first["mode"])
    if not patterns and mode is not Mode.NONE:
        raise NoPolicy("no mx is named")
    if len(patterns) > _MOST_PATTERNS:
        raise NoPolicy(f"more than {_MOST_PATTERNS} mx are named")
    return Policy(mode, min(int(first["max_age"]), _LONGEST_AGE), tuple(patterns))


def _pattern(value: str) -> str:
    wildcard, name = ("*.", value[2:]) if value.startswith("*.") else ("", value)
    try:
        return wildcard + parse_domain(name)
    except AddressError as error:
        raise NoPolicy(f"mx {value[:80]!r} is no host name") from error
