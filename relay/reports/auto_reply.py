"""Automatic answers (RFC 3834): somebody is away.  They are no bounces."""

from __future__ import annotations

from email.message import Message

from relay.reports.report import About, Kind, address_of, clean

# RFC 3834 section 3.1.8: not standard, and what older programs have.
_PRECEDENCES = frozenset({"bulk", "junk", "auto_reply"})
_MARKS = ("X-Autoreply", "X-Autorespond", "X-Auto-Reply")


def read(message: Message) -> tuple[About, ...]:
    """Whose answer it is; nothing unless it says of itself that a machine wrote it."""
    address = address_of(message.get("From", ""))
    if not address or not _is_automatic(message):
        return ()
    return (About(Kind.AUTOREPLY, (address,), text=clean(message.get("Subject", ""))),)


def _is_automatic(message: Message) -> bool:
    # RFC 3834 section 5.2: any other word than "no".
    submitted = clean(message.get("Auto-Submitted", "no")).lower().partition(";")[0].strip()
    precedence = clean(message.get("Precedence", "")).lower()
    return submitted != "no" or precedence in _PRECEDENCES or any(message[name] for name in _MARKS)
