"""The mailbox simulator: what its mailboxes answer, and the automatic reply of the one that is away.

The mailboxes of one domain stand for what can become of mail, so that an application's handling of it can
be tried in production.  They answer as SES's do (Developer Guide, "Mailbox simulator"); nothing sent to
them leaves the relay, and nothing they say moves a quota of a day, a reputation or a suppression list.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import StrEnum

from relay.outcome.bounce_types import GENERAL, ON_GLOBAL_LIST, BounceKind
from relay.outcome.outcome import Phase, Reply
from relay.submission.headers import Limits, parse_headers

# What is quoted of a message goes on one line of at most 998 octets (RFC 5322 section 2.1.1).
_LONGEST_SUBJECT = 200
_LONGEST_ID = 900
_AS_TAKEN = Limits(most_fields=2**31, most_bytes=2**31)

# Who complains in a complaint, and by which name its software goes (SES).
USER_AGENT = "Amazon SES Mailbox Simulator"
FEEDBACK_TYPE = "abuse"


class Box(StrEnum):
    """A mailbox; the value is its local part."""

    SUCCESS = "success"
    BOUNCE = "bounce"
    AWAY = "ooto"
    COMPLAINT = "complaint"
    SUPPRESSION_LIST = "suppressionlist"
    NONE = ""  # every other local part: there is no such user


_TAKEN = (Phase.DOT, Reply(250, "2.6.0", "Message received"))
_ANSWERS = {
    Box.SUCCESS: _TAKEN,
    Box.AWAY: _TAKEN,
    Box.COMPLAINT: _TAKEN,
    Box.BOUNCE: (Phase.RCPT, Reply(550, "5.1.1", "user unknown")),
    Box.NONE: (Phase.RCPT, Reply(550, "5.1.1", "unknown user")),
    Box.SUPPRESSION_LIST: (
        Phase.RCPT,
        Reply(
            550,
            "5.1.1",
            "Amazon SES has suppressed sending to this address: it stands for one that is on"
            " the global suppression list",
        ),
    ),
}


def box_of(address: str) -> Box:
    """The mailbox of an address of the simulator; ``+label`` and letter case make no difference."""
    local = address.rpartition("@")[0].partition("+")[0].lower()
    return Box(local) if local in set(Box) else Box.NONE


def answer_of(box: Box) -> tuple[Phase, Reply]:
    """What a server with that mailbox would answer, and to which command."""
    return _ANSWERS[box]


def kind_of(box: Box) -> BounceKind:
    """What its bounce is called in events."""
    return ON_GLOBAL_LIST if box is Box.SUPPRESSION_LIST else GENERAL


@dataclass(frozen=True, slots=True)
class AutoReply:
    """An automatic reply to be written.  ``original`` is the header it answers; ``at`` microseconds UTC."""

    hostname: str
    to: str
    away: str
    message_id: str
    at: int
    original: bytes


def compose_auto_reply(reply: AutoReply) -> bytes:
    """The whole message in the form of RFC 3834, with CRLF line ends.

    Deliberate: it comes from us and not from the simulator's domain, in whose name we may not write.
    """
    # The limits were kept when the original was taken; since then only fields of ours came to it.
    original = parse_headers(reply.original, limits=_AS_TAKEN)
    answered = (original.value("message-id") or "")[:_LONGEST_ID]
    fields = [
        ("From", f"Mailbox Simulator <MAILER-DAEMON@{reply.hostname}>"),
        ("To", reply.to),
        ("Subject", f"Auto: {(original.value('subject') or '')[:_LONGEST_SUBJECT]}".rstrip()),
        ("Date", format_datetime(datetime.fromtimestamp(reply.at // 1_000_000, UTC))),
        ("Message-ID", f"<{reply.message_id}@{reply.hostname}>"),
        *((name, answered) for name in ("In-Reply-To", "References") if answered),
        ("Auto-Submitted", "auto-replied"),
        ("MIME-Version", "1.0"),
        ("Content-Type", "text/plain; charset=us-ascii"),
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    body = (
        f"The owner of the mailbox {reply.away} is out of the office.\r\n\r\n"
        "This mailbox of the mailbox simulator answers everything so; your message was delivered.\r\n"
    )
    return f"{head}\r\n{body}".encode("ascii", "replace")
