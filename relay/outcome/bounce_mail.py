"""The delivery report of RFC 3464: what became of a message, to the address that asked to be told.

The remote's words are cleaned and cut.  The frame is that of every report (``report_mail``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from email.mime.text import MIMEText

from relay.outcome.outcome import Phase
from relay.outcome.report_mail import POLICY, About, clean, date, described, original, write


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """One recipient that failed or is late.

    ``status`` is the RFC 3463 code; ``code`` and ``text`` are the remote's reply, ``code`` None if there was
    none; ``host`` is ``name[address]:port``.  ``at`` is microseconds UTC.
    """

    address: str
    status: str
    code: int | None
    text: str
    host: str
    at: int
    attempts: int
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """A report to be written.  ``header`` is the original's, as it went out.  Instants: microseconds UTC."""

    hostname: str
    to: str
    message_id: str
    original_id: str
    received_at: int
    at: int
    header: bytes
    recipients: tuple[FailedRecipient, ...]
    retry_until: int | None = None

    @property
    def is_delay(self) -> bool:
        return self.retry_until is not None


def compose(report: Report) -> bytes:
    """The whole message, with CRLF line ends; its MIME boundary derives from ``message_id``."""
    kind = "Delay" if report.is_delay else "Failure"
    about = About(report.hostname, report.to, report.message_id, report.at)
    return write(
        about,
        f"Delivery Status Notification ({kind})",
        "delivery-status",
        (
            described(MIMEText("".join(_words(report)), "plain", "us-ascii"), "Notification"),
            described(_status(report), "Delivery Status Notification"),
            described(original(report.header), "Undelivered Message Headers"),
        ),
    )


def _words(report: Report) -> Iterator[str]:
    """The part that people read."""
    if report.is_delay:
        yield "Your message is late for the recipients below. Nothing needs to be done: we keep trying"
        yield f" until {date(report.retry_until or 0)}, and tell you if that fails.\n"
    else:
        yield "An error occurred while trying to deliver the mail to the following recipients:\n"
    for one in report.recipients:
        yield f"\n{one.address}\n"
        if one.expired:
            yield f"    gave up after {one.attempts} attempts; the last one said:\n"
        yield f"    {clean(_diagnostic(one))}\n    ({_host_name(one.host)})\n"
    yield f"\nThe message was accepted by {report.hostname} at {date(report.received_at)}"
    yield f" as {report.original_id}.\n"


def _diagnostic(one: FailedRecipient) -> str:
    return f"{one.code} {one.text}" if one.code is not None else one.text


def _status(report: Report) -> Message:
    """``message/delivery-status``: a block about the message, then one for each recipient."""
    part = Message(policy=POLICY)
    part["Content-Type"] = "message/delivery-status"
    about = Message(policy=POLICY)
    about["Reporting-MTA"] = f"dns; {report.hostname}"
    about["X-Relay-ID"] = report.original_id
    about["Arrival-Date"] = date(report.received_at)
    part.set_payload([about, *(_block(one, report.retry_until) for one in report.recipients)])
    return part


def _block(one: FailedRecipient, retry_until: int | None) -> Message:
    """RFC 3464 section 2.3."""
    block = Message(policy=POLICY)
    block["Final-Recipient"] = f"rfc822; {one.address}"
    block["Action"] = "failed" if retry_until is None else "delayed"
    block["Status"] = one.status
    if one.code is not None:
        block["Remote-MTA"] = f"dns; {_host_name(one.host)}"
        block["Diagnostic-Code"] = f"smtp; {clean(_diagnostic(one))}"
    else:
        block["Diagnostic-Code"] = f"X-Relay; {clean(one.text)}"
    block["Last-Attempt-Date"] = date(one.at)
    if retry_until is not None:
        block["Will-Retry-Until"] = date(retry_until)
    return block


def _host_name(host: str) -> str:
    """``mx.example[192.0.2.1]:25`` to ``mx.example``."""
    return clean(host.partition("[")[0] or host)


def _transient(enhanced: object) -> str:
    """RFC 3464 section 2.3.4: a delay has a status of class 4, whatever the next hop called it."""
    return "4" + str(enhanced or "4.0.0")[1:]


def failed_recipients(notice: Sequence[dict[str, object]]) -> tuple[FailedRecipient, ...]:
    """What the settlement wrote down for whoever tells (``relay.queue.settlement``)."""
    return tuple(
        FailedRecipient(
            address=str(one["address"]),
            status=str(one["status"] or _transient(one["enhanced"])),
            # What DNS said is no remote's reply, though we word it as one.
            code=one["code"] if isinstance(one["code"], int) and one["phase"] != Phase.ROUTE else None,
            text=" ".join(str(part) for part in (one["enhanced"], one["text"]) if part),
            host=str(one["host"]),
            at=int(str(one["at"])),
            attempts=int(str(one["attempts"])),
            expired=bool(one["expired"]),
        )
        for one in notice
    )
