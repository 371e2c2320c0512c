"""What a report says, as values.  Nothing of it is believed yet."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# More of a stranger's words helps nobody.
_LONGEST_TEXT = 400


class Kind(StrEnum):
    """What is reported of a recipient; the values stand in the store, where it keeps them."""

    BOUNCE = "bounce"
    DELAY = "delay"
    COMPLAINT = "complaint"
    AUTOREPLY = "autoreply"


@dataclass(frozen=True, slots=True)
class About:
    """What a report says of one recipient.

    ``addresses`` are those that it may be known by, none if the reporter does not tell.  ``status`` is an
    RFC 3463 code; ``code``, ``enhanced`` and ``text`` are the reply that it quotes, ``host`` is whose, and
    ``diagnostic`` is the Diagnostic-Code as it stands there.
    """

    kind: Kind
    addresses: tuple[str, ...]
    status: str | None = None
    code: int | None = None
    enhanced: str | None = None
    text: str = ""
    host: str = ""
    diagnostic: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A report: what it says of each recipient, who reports, and what else is worth telling."""

    about: tuple[About, ...]
    report_id: str | None = None
    sender_domain: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def clean(text: object) -> str:
    """Printable ASCII on one line, cut."""
    line = " ".join(str(text).split())
    shown = "".join(character if " " <= character <= "~" else "?" for character in line)
    return shown[:_LONGEST_TEXT]


def address_of(text: object) -> str:
    """The address in ``rfc822; <user@customer.example>`` and its lesser forms; empty if there is none."""
    value = clean(text)
    kind, semicolon, rest = value.partition(";")
    if semicolon and "@" not in kind:
        value = rest
    found = _ADDRESS.search(value)
    return found[0].strip(".") if found else ""


_ADDRESS = re.compile(r"[^\s<>()\[\]:;,@\"]{1,64}@[^\s<>()\[\]:;,@\"]{1,253}")
