"""Abuse reports (ARF, RFC 5965): a recipient says that the mail was not wanted."""

from __future__ import annotations

from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any

from relay.reports.mime import blocks
from relay.reports.report import About, Kind, address_of, clean

CONTENT_TYPE = "message/feedback-report"


def read(part: Message) -> tuple[tuple[About, ...], dict[str, Any]]:
    """Whom it names, and what it says besides; without a name, somebody among the recipients."""
    fields = next(iter(blocks(part)), None)
    if fields is None or not fields["Feedback-Type"]:
        return (), {}
    named = [address_of(value) for value in fields.get_all("Original-Rcpt-To", [])]
    reporter = clean(fields.get("Reporting-MTA", "")).partition(";")[2].strip()
    groups: list[tuple[str, ...]] = [(address,) for address in named if address]
    about = [About(Kind.COMPLAINT, addresses, host=reporter) for addresses in groups or [()]]
    return tuple(about), {
        "feedback_type": clean(fields["Feedback-Type"]).lower(),
        "user_agent": clean(fields.get("User-Agent", "")) or None,
        "arrived_at": _instant(fields["Arrival-Date"] or fields["Received-Date"]),
    }


def _instant(field: object) -> int | None:
    """Microseconds UTC."""
    try:
        return int(parsedate_to_datetime(clean(field)).timestamp() * 1_000_000)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
