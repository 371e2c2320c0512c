"""The header block: every octet kept, fields found by name, edits by whole fields only.

``parse_headers`` takes the octets up to and including the CRLF of the last field and either gives a
``HeaderBlock`` of which ``bytes`` is the input, or refuses.  It refuses whatever two readers could
split into fields differently, and what may occur only once and does not.  Nothing is repaired.

Strategy: three searches over the whole block find forbidden octets, then one regular expression per
field walks it without backtracking; only a block that fails is looked at again, to say why.
``LineCheck`` does for the body's octets, as they arrive, what the searches do for the header.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Final, NamedTuple

# RFC 5322 section 2.1.1, without the CRLF.
LONGEST_LINE: Final = 998
_LONGEST_ENDED_LINE = LONGEST_LINE + 2


class HeaderError(ValueError):
    """The header is refused.  ``reason`` is SES's sentence where it has one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What is not taken although it is well-formed; real headers stay far below."""

    most_fields: int = 1000
    most_bytes: int = 256 * 1024


DEFAULT_LIMITS: Final = Limits()


class Field(NamedTuple):
    """One field: its name in lower case, its octets as they came, with the final CRLF."""

    name: str
    raw: bytes

    @property
    def body(self) -> bytes:
        """What follows the colon, as it came."""
        return self.raw[self.raw.index(b":") + 1 :]

    @property
    def value(self) -> str:
        """The unfolded value without the white space around it (RFC 5322 section 2.2.3)."""
        return self.body.replace(b"\r\n", b"").strip(b" \t").decode("ascii")


@dataclass(frozen=True, slots=True)
class HeaderBlock:
    """The fields in their order.  Names are asked for in lower case."""

    fields: tuple[Field, ...]

    def __bytes__(self) -> bytes:
        return b"".join([raw for _, raw in self.fields])

    def get(self, name: str) -> Field | None:
        """The first field of this name."""
        for field in self.fields:
            if field[0] == name:
                return field
        return None

    def all(self, name: str) -> tuple[Field, ...]:
        return tuple([field for field in self.fields if field[0] == name])

    def value(self, name: str) -> str | None:
        """The unfolded value of the first field of this name."""
        field = self.get(name)
        return None if field is None else field.value

    def without(self, names: Container[str]) -> HeaderBlock:
        return HeaderBlock(tuple([field for field in self.fields if field[0] not in names]))

    @property
    def received_count(self) -> int:
        return sum(field[0] == "received" for field in self.fields)


def parse_headers(block: bytes, *, limits: Limits = DEFAULT_LIMITS) -> HeaderBlock:
    """The fields of ``block``, which ends with the CRLF of the last one; HeaderError if refused."""
    if len(block) > limits.most_bytes:
        raise HeaderError("Header is too long.")
    fault = _fault_of_octets(block)
    if fault is not None:
        raise HeaderError(fault)
    fields = _split(block, limits.most_fields)
    _check_repeats(fields)
    return HeaderBlock(tuple(fields))


# ---------------------------------------------------------------- octets

_PERMITTED = bytes([*range(0x20, 0x7F), 0x09, 0x0D, 0x0A])


def has_bare_line_end(octets: bytes) -> bool:
    """Whether a CR or LF is there that is not part of a CRLF."""
    rest = octets.replace(b"\r\n", b"")  # half of what two searches or counts take
    return b"\n" in rest or b"\r" in rest


def _fault_of_octets(block: bytes) -> str | None:
    """Rules of RFC 5322 section 2.2 on octets alone, and RFC 6532 not being offered."""
    if block.translate(None, _PERMITTED):
        return _name_forbidden(block)
    if has_bare_line_end(block):
        return "Header contains a bare CR or LF"
    return "Header does not end with CRLF" if block and not block.endswith(b"\r\n") else None


def _name_forbidden(block: bytes) -> str:
    if block.startswith((b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")):
        return "Header starts with a byte order mark"
    if b"\0" in block:
        return "Header contains NUL"
    if not block.isascii():
        return "Header contains non-ASCII octets"
    return "Header contains control characters"


# ---------------------------------------------------------------- fields

# The quantifiers are possessive, so that whatever the input no octet is looked at twice; only not that of the
# group, which parts at each line end anyway: Python 3.11.2, Debian's, then keeps half a round that failed.
_match_field = re.compile(
    rb"([!-9;-~]++):[^\r]*+\r\n(?:[ \t]++[^ \t\r][^\r]*+\r\n)*",
).match
_is_name = re.compile(rb"[!-9;-~]++").fullmatch


def _split(block: bytes, most_fields: int) -> list[Field]:
    fields: list[Field] = []
    position, end = 0, len(block)
    while position < end:
        found = _match_field(block, position)
        if found is None:
            raise HeaderError(_fault_of_line(block, position))
        raw, name = found.group(0, 1)
        if len(raw) > _LONGEST_ENDED_LINE:
            _check_lines(raw)
        fields.append(Field(_LOWERED.get(name) or name.lower().decode("ascii"), raw))
        position += len(raw)
    if len(fields) > most_fields:
        raise HeaderError("Header has too many fields.")
    return fields


def _check_lines(raw: bytes) -> None:
    if any(len(line) > LONGEST_LINE for line in raw.split(b"\r\n")):
        raise HeaderError(f"Header line is longer than {LONGEST_LINE} octets")


def _fault_of_line(block: bytes, position: int) -> str:
    """Why no field starts here."""
    line = block[position : block.index(b"\r\n", position)]
    if not line:
        return "Header contains an empty line"
    if line[:1] in (b" ", b"\t"):
        blank = not line.strip(b" \t")
        return "Header contains a blank line" if blank else "Header starts with a continuation line"
    if line.startswith((b"From ", b">From ")):
        return "Header starts with an mbox line"
    name, colon, _ = line.partition(b":")
    if colon and name.strip(b" \t") != name and _is_name(name.strip(b" \t")):
        return "Header field name is followed by white space"
    return "Header line is not a field"


# ---------------------------------------------------------------- what may occur once

# SES Developer Guide, header fields: the names whose second occurrence it refuses.
_SES_SINGLE = (
    "Accept-Language acceptLanguage Archived-At Auto-Submitted Bounces-to Comments Content-Alternative "
    "Content-Base Content-Class Content-Description Content-Disposition Content-Duration Content-ID "
    "Content-Language Content-Length Content-Location Content-MD5 Content-Transfer-Encoding Content-Type "
    "Date Delivered-To Disposition-Notification-Options Disposition-Notification-To DKIM-Signature "
    "DomainKey-Signature Errors-To From Importance In-Reply-To Keywords List-Archive List-Help List-Id "
    "List-Owner List-Post List-Subscribe List-Unsubscribe List-Unsubscribe-Post Message-Context "
    "Message-ID MIME-Version Organization Original-From Original-Message-ID Original-Recipient "
    "Original-Subject Precedence Priority References Reply-To Return-Path Return-Receipt-To Sender "
    "Solicitation Sensitivity Subject Thread-Index Thread-Topic User-Agent VBR-Info"
)
# RFC 5322 section 3.6 has these once as well; which of two a reader shows is anybody's guess.
_RFC_5322_SINGLE = "To Cc Bcc"
_SINGLE: Final = {name.lower(): name for name in f"{_SES_SINGLE} {_RFC_5322_SINGLE}".split()}
_SINGLE_NAMES: Final = frozenset(_SINGLE)
# Spellings in use, so that most names need no lower-casing.
_LOWERED: Final = {
    spelling.encode("ascii"): lowered
    for lowered, name in (_SINGLE | {"received": "Received", "feedback-id": "Feedback-ID"}).items()
    for spelling in (name, lowered, name.title())
}


def _check_repeats(fields: list[Field]) -> None:
    names = [name for name, _ in fields]
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    for name in names:
        if name in seen and name in _SINGLE_NAMES:
            raise HeaderError(f"Duplicate header '{_SINGLE[name]}'.")
        seen.add(name)


# ---------------------------------------------------------------- the body's lines


class LineCheck:
    """Holds the octets of a body, piece by piece, to clean CRLF line ends, no NUL and bounded lines.

    A CR at the end of a piece is judged with the next; ``end`` judges what is left.
    """

    __slots__ = ("_open_octets", "_split_cr")

    def __init__(self) -> None:
        self._split_cr = False
        self._open_octets = 0  # of a line that has not ended

    def feed(self, piece: bytes) -> str | None:
        """What is wrong with the next octets, or None; not to be called again after a fault."""
        if self._split_cr:
            piece = b"\r" + piece
        self._split_cr = piece.endswith(b"\r")
        if self._split_cr:
            piece = piece[:-1]
        if b"\0" in piece:
            return "Message contains NUL"
        if has_bare_line_end(piece):
            return "Message contains a bare CR or LF"
        return self._check_lengths(piece)

    def end(self) -> str | None:
        return "Message contains a bare CR or LF" if self._split_cr else None

    def _check_lengths(self, piece: bytes) -> str | None:
        """Jump from line end to line end, as far as a line may reach, instead of stopping at each."""
        start = piece.find(b"\n") + 1
        if start == 0:
            self._open_octets += len(piece)
        elif self._open_octets + start > _LONGEST_ENDED_LINE:
            return _LONG_LINE
        else:
            last = len(piece) - _LONGEST_ENDED_LINE
            while start and start < last:
                start = piece.rfind(b"\n", start, start + _LONGEST_ENDED_LINE) + 1
            if not start:
                return _LONG_LINE
            self._open_octets = len(piece) - piece.rfind(b"\n") - 1
        return _LONG_LINE if self._open_octets > LONGEST_LINE else None


_LONG_LINE: Final = f"Message line is longer than {LONGEST_LINE} octets"
