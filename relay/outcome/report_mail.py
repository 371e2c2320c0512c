"""What reports to people have in common (RFC 6522): one part in plain words, one for machines, the header.

Headers of the original only, never its body; a stranger's words cleaned and cut.  A report has the null
sender and says that it was made by a machine (RFC 3834), so that nobody answers it with another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.generator import BytesGenerator
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime
from io import BytesIO

# RFC 3464 section 2.3.6 sets no limit; more of a stranger's words helps nobody.
_LONGEST_TEXT = 400
POLICY = compat32.clone(linesep="\r\n", max_line_length=0)


@dataclass(frozen=True, slots=True)
class Letter:
    """Who is told of what.

    ``message_id`` is the report's own, ``original_id`` the relay's of the message it is about; ``header``
    is the original's, as it went out.  Instants are microseconds UTC.
    """

    hostname: str
    to: str
    message_id: str
    original_id: str
    received_at: int
    at: int
    header: bytes


def compose_report(letter: Letter, report_type: str, subject: str, words: str, machine: Message) -> bytes:
    """The whole message, with CRLF line ends; its MIME boundary derives from ``message_id``."""
    outer = MIMEMultipart("report", boundary=f"=_{letter.message_id}", policy=POLICY)
    outer.set_param("report-type", report_type)
    for name, value in (
        ("From", f"Mail Delivery System <MAILER-DAEMON@{letter.hostname}>"),
        ("To", letter.to),
        ("Subject", subject),
        ("Date", date(letter.at)),
        ("Message-ID", f"<{letter.message_id}@{letter.hostname}>"),
        ("Auto-Submitted", "auto-replied"),
        *_thread(letter.header),
    ):
        outer[name] = value
    outer.attach(_described(MIMEText(words, "plain", "us-ascii"), "Notification"))
    outer.attach(machine)
    outer.attach(_described(_original(letter.header), "Undelivered Message Headers"))
    written = BytesIO()
    BytesGenerator(written, mangle_from_=False, policy=POLICY).flatten(outer)
    return written.getvalue()


def _thread(header: bytes) -> list[tuple[str, str]]:
    """RFC 3834 section 3.1.5: the original's Message-ID, so that the report is shown beside it."""
    for line in header.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"message-id":
            found = clean(value.decode("ascii", "replace")).strip()
            return [("In-Reply-To", found), ("References", found)] if found else []
    return []


def _described(part: Message, description: str) -> Message:
    part["Content-Description"] = description
    return part


def machine_part(content_type: str, description: str) -> Message:
    """An empty part for machines."""
    part = Message(policy=POLICY)
    part["Content-Type"] = content_type
    return _described(part, description)


def _original(header: bytes) -> Message:
    part = Message(policy=POLICY)
    part["Content-Type"] = "text/rfc822-headers; charset=us-ascii"
    text = header.decode("ascii", "replace").replace("\ufffd", "?")
    part.set_payload(text.replace("\r\n", "\n"))
    return part


def clean(text: str) -> str:
    """Printable ASCII on one line."""
    shown = "".join(character if " " <= character <= "~" else "?" for character in " ".join(text.split()))
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}..."


def date(microseconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(microseconds // 1_000_000, UTC))
