"""A stranger's mail, parsed by the standard library within limits.

The library follows nesting as deep as it goes and looks at every line once for each open boundary; so what
it gets is cut first: in octets, in the length of lines and fields, and where there are more parts than any
report has.  What comes before the cut is read all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from email.policy import Compat32
from itertools import islice

# A report says what it has to say first; the rest is the mail that it is about.
MOST_OCTETS = 128 * 1024
# RFC 5321 section 4.5.3.1.6.
_LONGEST_LINE = 1000
_LONGEST_FIELD = 1000
_MOST_CONTAINERS = 12
_MOST_BOUNDARIES = 300
_container = re.compile(rb"(?i)(?:multipart|message)/")
_boundary = re.compile(rb"(?m)^--")


class _Cut(Compat32):
    """Fields no longer than anybody means them: some of the library's readers are quadratic in them."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:_LONGEST_FIELD]


_POLICY = _Cut()


def parse(octets: bytes, most: int = MOST_OCTETS, longest_line: int = _LONGEST_LINE) -> Message:
    """The message, or as much of it as the limits leave."""
    octets = octets[:most].replace(b"\0", b"")
    octets = re.sub(rb"([^\n]{%d})[^\n]+" % longest_line, rb"\1", octets)
    for pattern, most in ((_container, _MOST_CONTAINERS), (_boundary, _MOST_BOUNDARIES)):
        first_too_many = next(islice(pattern.finditer(octets), most, None), None)
        if first_too_many is not None:
            octets = octets[: first_too_many.start()]
    return message_from_bytes(octets, policy=_POLICY)


def parts(message: Message) -> Iterator[Message]:
    """The parts, without those of a mail that stands in one of them: that is what is reported on."""
    if message.get_content_maintype() != "multipart":
        yield message
    elif message.is_multipart():
        for part in message.get_payload():
            if isinstance(part, Message):
                yield from parts(part)


def part(message: Message, content_type: str) -> Message | None:
    """The first part of a type."""
    return next((one for one in parts(message) if one.get_content_type() == content_type), None)


def blocks(container: Message) -> list[Message]:
    """The groups of fields in a ``message/…`` part; none if it holds something else."""
    payload = container.get_payload()
    return [one for one in payload if isinstance(one, Message)] if isinstance(payload, list) else []
