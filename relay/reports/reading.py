"""A report's octets to what it says, whichever format it has.

The formats with fields come first; what a machine wrote in words is asked last.  Any octets are answered
within moments: either with what they say, or with None.
"""

from __future__ import annotations

from email.message import Message
from typing import Any

from relay.reports import auto_reply, delivery_status, feedback_report, heuristics, mime
from relay.reports.report import About, Report, address_of, clean


def read(octets: bytes) -> Report | None:
    """What the mail reports; None if it says nothing that we understand."""
    try:
        message = mime.parse(octets)
        about, details = _said(message, octets)
        return _report(message, about, details) if about else None
    except Exception:  # the libraries raise what they like on mail that was made to break them
        return None


def _said(message: Message, octets: bytes) -> tuple[tuple[About, ...], dict[str, Any]]:
    complaint = mime.part(message, feedback_report.CONTENT_TYPE)
    if complaint is not None:
        return feedback_report.read(complaint)
    status = mime.part(message, delivery_status.CONTENT_TYPE)
    if status is not None:
        return delivery_status.read(status), {}
    # Old servers mark their bounces as automatic answers: they are asked about before the answers.
    return heuristics.read(octets) or auto_reply.read(message), {}


def _report(message: Message, about: tuple[About, ...], details: dict[str, Any]) -> Report:
    report_id = clean(message.get("Message-ID", "")) or None
    sender = address_of(message.get("From", ""))
    return Report(about, report_id, sender.rpartition("@")[2].lower(), details)
