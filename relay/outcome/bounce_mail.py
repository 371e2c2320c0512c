"""The delivery report of RFC 3464: what became of a message, to the address that asked to be told.

Headers of the original only, never its body; the remote's words cleaned and cut.  The report has the null
sender and says that it was made by a machine (RFC 3834), so that nobody answers it with another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.generator import BytesGenerator
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime
from io import BytesIO

from relay.outcome.outcome import Phase

# RFC 3464 section 2.3.6 sets no limit; more of a stranger's words helps nobody.
_LONGEST_TEXT = 400
_POLICY = compat32.clone(linesep="\r\n", max_line_length=0)


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
    outer = MIMEMultipart("report", boundary=f"=_{report.message_id}", policy=_POLICY)
    outer.set_param("report-type", "delivery-status")
    kind = "Delay" if report.is_delay else "Failure"
    for name, value in (
        ("From", f"Mail Delivery System <MAILER-DAEMON@{report.hostname}>"),
        ("To", report.to),
        ("Subject", f"Delivery Status Notification ({kind})"),
        ("Date", _date(report.at)),
        ("Message-ID", f"<{report.message_id}@{report.hostname}>"),
        ("Auto-Submitted", "auto-replied"),
    ):
        outer[name] = value
    outer.attach(_described(MIMEText("".join(_words(report)), "plain", "us-ascii"), "Notification"))
    outer.attach(_described(_status(report), "Delivery Status Notification"))
    outer.attach(_described(_original(report.header), "Undelivered Message Headers"))
    written = BytesIO()
    BytesGenerator(written, mangle_from_=False, policy=_POLICY).flatten(outer)
    return written.getvalue()


def _described(part: Message, description: str) -> Message:
    part["Content-Description"] = description
    return part


def _words(report: Report) -> Iterator[str]:
    """The part that people read."""
    if report.is_delay:
        yield "Your message is late for the recipients below. Nothing needs to be done: we keep trying"
        yield f" until {_date(report.retry_until or 0)}, and tell you if that fails.\n"
    else:
        yield "An error occurred while trying to deliver the mail to the following recipients:\n"
    for one in report.recipients:
        yield f"\n{one.address}\n"
        if one.expired:
            yield f"    gave up after {one.attempts} attempts; the last one said:\n"
        yield f"    {_clean(_diagnostic(one))}\n    ({_host_name(one.host)})\n"
    yield f"\nThe message was accepted by {report.hostname} at {_date(report.received_at)}"
    yield f" as {report.original_id}.\n"


def _diagnostic(one: FailedRecipient) -> str:
    return f"{one.code} {one.text}" if one.code is not None else one.text


def _status(report: Report) -> Message:
    """``message/delivery-status``: a block about the message, then one for each recipient."""
    part = Message(policy=_POLICY)
    part["Content-Type"] = "message/delivery-status"
    about = Message(policy=_POLICY)
    about["Reporting-MTA"] = f"dns; {report.hostname}"
    about["X-Relay-ID"] = report.original_id
    about["Arrival-Date"] = _date(report.received_at)
    part.set_payload([about, *(_block(one, report.retry_until) for one in report.recipients)])
    return part


def _block(one: FailedRecipient, retry_until: int | None) -> Message:
    """RFC 3464 section 2.3."""
    block = Message(policy=_POLICY)
    block["Final-Recipient"] = f"rfc822; {one.address}"
    block["Action"] = "failed" if retry_until is None else "delayed"
    block["Status"] = one.status
    if one.code is not None:
        block["Remote-MTA"] = f"dns; {_host_name(one.host)}"
        block["Diagnostic-Code"] = f"smtp; {_clean(_diagnostic(one))}"
    else:
        block["Diagnostic-Code"] = f"X-Relay; {_clean(one.text)}"
    block["Last-Attempt-Date"] = _date(one.at)
    if retry_until is not None:
        block["Will-Retry-Until"] = _date(retry_until)
    return block


def _original(header: bytes) -> Message:
    part = Message(policy=_POLICY)
    part["Content-Type"] = "text/rfc822-headers; charset=us-ascii"
    text = header.decode("ascii", "replace").replace("\ufffd", "?")
    part.set_payload(text.replace("\r\n", "\n"))
    return part


def _clean(text: str) -> str:
    """Printable ASCII on one line."""
    shown = "".join(character if " " <= character <= "~" else "?" for character in " ".join(text.split()))
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}..."


def _host_name(host: str) -> str:
    """``mx.example[192.0.2.1]:25`` to ``mx.example``."""
    return _clean(host.partition("[")[0] or host)


def _date(microseconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(microseconds // 1_000_000, UTC))


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
