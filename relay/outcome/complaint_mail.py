"""The complaint report of RFC 5965 (ARF): a recipient called a message unwanted."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message

from relay.outcome.events import Complained
from relay.outcome.report_mail import POLICY, Letter, clean, compose_report, date, machine_part


@dataclass(frozen=True, slots=True)
class ComplaintReport:
    """A report to be written; ``mail_from`` is what the author gave, ``complaints`` is at least one."""

    letter: Letter
    mail_from: str
    complaints: tuple[Complained, ...]

    @property
    def recipients(self) -> list[str]:
        return [address for one in self.complaints for address in one.recipients]


def compose(report: ComplaintReport) -> bytes:
    """The whole message."""
    return compose_report(
        report.letter, "feedback-report", "Complaint about an email", _words(report), _feedback(report)
    )


def _words(report: ComplaintReport) -> str:
    letter = report.letter
    addresses = "".join(f"\n{address}\n" for address in report.recipients)
    kind = report.complaints[0].feedback_type
    said = f' (they called it "{clean(kind)}")' if kind else ""
    return (
        f"A recipient reported your message as unwanted{said}. It was sent to:\n{addresses}\n"
        "What to do: take the address off your lists now, even if it had asked for your mail. Whoever\n"
        "reports mail that still comes stops all of it, and too many reports stop the account's sending.\n"
        "Some providers do not say who complained: then every recipient there is named.\n\n"
        f"The message was accepted by {letter.hostname} at {date(letter.received_at)}"
        f" as {letter.original_id}.\n"
    )


def _feedback(report: ComplaintReport) -> Message:
    """``message/feedback-report``, RFC 5965 section 3."""
    letter, complaint = report.letter, report.complaints[0]
    fields = Message(policy=POLICY)
    fields["Feedback-Type"] = clean(complaint.feedback_type or "abuse")
    fields["User-Agent"] = clean(complaint.user_agent or letter.hostname)
    fields["Version"] = "1"
    fields["Original-Mail-From"] = f"<{report.mail_from}>"
    for address in report.recipients:
        fields["Original-Rcpt-To"] = f"<{address}>"
    fields["Arrival-Date"] = date(complaint.arrived_at or letter.received_at)
    fields["Reporting-MTA"] = f"dns; {letter.hostname}"
    part = machine_part("message/feedback-report", "Feedback Report")
    part.set_payload([fields])
    return part
