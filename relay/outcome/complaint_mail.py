"""The abuse report of RFC 5965: a recipient complained, and the address that asked to be told hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from email.mime.text import MIMEText
from typing import Any

from relay.outcome.report_mail import POLICY, About, clean, date, described, original, write

# RFC 5965 section 3.1 wants both fields; where the reporter gave none these say no more than is known.
_USUAL_TYPE = "abuse"
_USER_AGENT = "relay"


@dataclass(frozen=True, slots=True)
class Said:
    """What the reporter said, None where it did not; ``recipients`` are those who may have complained."""

    recipients: tuple[str, ...]
    feedback_type: str | None = None
    user_agent: str | None = None
    arrived_at: int | None = None


@dataclass(frozen=True, slots=True)
class Complaint:
    """A complaint to be told of.  ``header`` is the original's, as it went out.

    Instants are microseconds UTC.
    """

    hostname: str
    to: str
    message_id: str
    original_id: str
    received_at: int
    at: int
    header: bytes
    said: Said


def compose(complaint: Complaint) -> bytes:
    """The whole message, with CRLF line ends."""
    about = About(complaint.hostname, complaint.to, complaint.message_id, complaint.at)
    return write(
        about,
        "Complaint about your message",
        "feedback-report",
        (
            described(MIMEText(_words(complaint), "plain", "us-ascii"), "Notification"),
            described(_feedback(complaint), "Complaint"),
            described(original(complaint.header), "Message Headers"),
        ),
    )


def _words(complaint: Complaint) -> str:
    """The part that people read."""
    listed = "".join(f"    {address}\n" for address in complaint.said.recipients)
    return (
        "A recipient does not want your message; its provider reported it as"
        f" {clean(complaint.said.feedback_type or _USUAL_TYPE)}.\nIt went to one of these:\n\n{listed}\n"
        "Send them nothing more unless they ask for it.\n\n"
        f"The message was accepted by {complaint.hostname} at {date(complaint.received_at)}"
        f" as {complaint.original_id}.\n"
    )


def _feedback(complaint: Complaint) -> Message:
    """``message/feedback-report`` (RFC 5965 section 3)."""
    fields = Message(policy=POLICY)
    fields["Feedback-Type"] = clean(complaint.said.feedback_type or _USUAL_TYPE)
    fields["User-Agent"] = clean(complaint.said.user_agent or _USER_AGENT)
    fields["Version"] = "1"
    fields["Original-Mail-From"] = f"<{complaint.to}>"
    for address in complaint.said.recipients:
        fields["Original-Rcpt-To"] = f"<{address}>"
    fields["Arrival-Date"] = date(complaint.said.arrived_at or complaint.received_at)
    fields["Reporting-MTA"] = f"dns; {complaint.hostname}"
    fields["X-Relay-ID"] = complaint.original_id
    part = Message(policy=POLICY)
    part["Content-Type"] = "message/feedback-report"
    part.set_payload([fields])
    return part


def said(notices: Sequence[dict[str, Any]]) -> Said:
    """What the listener wrote down (``relay.reports.belief``)."""
    recipients = tuple(str(one["address"]) for one in notices)
    first = notices[0]
    return Said(recipients, first["feedback_type"], first["user_agent"], first["arrived_at"])
