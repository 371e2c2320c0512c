"""Recipients from address lists: the parameters of an API call, or the fields To, Cc and Bcc.

The same strictness as for everything that is decided on: mailboxes as ``addr`` or ``name <addr>``,
separated by commas; names may be quoted strings.  No groups, routes or comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.submission.address import AddressError, Mailbox, parse_mailbox
from relay.submission.headers import HeaderBlock

_match_named = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^<>"])*<([^<>]*)>').fullmatch
_split_list = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^",])*)(?:,|\Z)')


def parse_recipient(text: str) -> Mailbox:
    """The mailbox of ``addr`` or ``name <addr>``; AddressError if it is anything else."""
    text = text.strip(" ")
    found = _match_named(text)
    return parse_mailbox(found[1] if found else text)


def parse_recipients(text: str) -> Iterator[Mailbox]:
    """The mailboxes of a list; AddressError names the first that is none."""
    position = 0
    while position < len(text):
        found = _split_list.match(text, position)
        if found is None:
            raise AddressError(f"{text[position : position + 80]!r}: a quotation mark is missing")
        position = found.end()
        if one := found[1].strip(" "):
            yield parse_recipient(one)


def recipients_of(headers: HeaderBlock) -> tuple[Mailbox, ...]:
    """Whom To, Cc and Bcc name, each once, in their order."""
    found: dict[Mailbox, None] = {}
    for name in ("to", "cc", "bcc"):
        for field in headers.all(name):
            unfolded = field.value.replace("\r\n", "").replace("\t", " ")
            found.update(dict.fromkeys(parse_recipients(unfolded)))
    return tuple(found)
