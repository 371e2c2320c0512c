"""What of a report is believed: what it says of recipients that its message had.

The token in the address says which message; a report can say nothing of any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.outcome.bounce_types import bounce_kind
from relay.queue.values import QueuedRecipient
from relay.reports.report import About, Kind, Report

# "Undetermined" in SES's words (``relay.outcome.bounce_types``).
_UNEXPLAINED = "5.0.0"


def believed(report: Report, recipients: Sequence[QueuedRecipient]) -> list[tuple[QueuedRecipient, About]]:
    """The recipients that it concerns, each once for each kind, with what is said of them."""
    found: dict[tuple[int, Kind], tuple[QueuedRecipient, About]] = {}
    for about in report.about:
        for one in _concerned(about, report, recipients):
            found.setdefault((one.number, about.kind), (one, about))
    return list(found.values())


def _concerned(
    about: About, report: Report, recipients: Sequence[QueuedRecipient]
) -> Sequence[QueuedRecipient]:
    if about.addresses:
        # Servers change the letter case of local parts on the way, though they should not.
        named = {address.lower() for address in about.addresses}
        return [one for one in recipients if one.address.lower() in named]
    # A complaint that hides its author, as most do (SES: "recipients who might have sent it").
    near = [one for one in recipients if _is_near(one.domain, report.sender_domain)]
    return near or recipients


def _is_near(domain: str, reporter: str) -> bool:
    """``customer.example`` and the host of it that reports, ``arf.mail.customer.example``."""
    return domain == reporter or reporter.endswith(f".{domain}")


def is_bad(about: About, *, is_sure: bool) -> bool:
    """Whether the address should no longer be sent to; ``is_sure`` tells that nobody else can be meant."""
    if about.kind is Kind.COMPLAINT:
        return is_sure
    return about.kind is Kind.BOUNCE and bounce_kind(about.status or _UNEXPLAINED, about.text).is_hard


def notice(to: QueuedRecipient, about: About, report: Report, at: int, peer: str) -> dict[str, Any]:
    """As the settlement words it (``relay.queue.settlement``), and what only a report has."""
    host = about.host or peer
    return {
        "address": to.address,
        "status": about.status,
        "expired": False,
        "code": about.code,
        "enhanced": about.enhanced,
        "diagnostic": about.diagnostic,
        "text": about.text or f"reported by {host} without a reason",
        "host": host,
        "phase": "report",
        "at": at,
        "attempts": to.attempts,
        "late": True,
        "report_id": report.report_id,
        **report.details,
    }
