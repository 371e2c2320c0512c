"""The frame of the reports that we mail (RFC 6522): fields, parts, and the header of what they are about.

Headers of the original only, never its body.  A report goes out from the null sender and says that it was
made by a machine (RFC 3834), so that nobody answers it with another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.generator import BytesGenerator
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.policy import compat32
from email.utils import format_datetime
from io import BytesIO

# RFC 3464 section 2.3.6 sets no limit; more of a stranger's words helps nobody.
_LONGEST_TEXT = 400
POLICY = compat32.clone(linesep="\r\n", max_line_length=0)


@dataclass(frozen=True, slots=True)
class About:
    """Who reports to whom, under which id and when (microseconds UTC)."""

    hostname: str
    to: str
    message_id: str
    at: int


def write(about: About, subject: str, report_type: str, parts: Iterable[Message]) -> bytes:
    """The whole message, with CRLF line ends; its MIME boundary derives from the id."""
    outer = MIMEMultipart("report", boundary=f"=_{about.message_id}", policy=POLICY)
    outer.set_param("report-type", report_type)
    for name, value in (
        ("From", f"Mail Delivery System <MAILER-DAEMON@{about.hostname}>"),
        ("To", about.to),
        ("Subject", subject),
        ("Date", date(about.at)),
        ("Message-ID", f"<{about.message_id}@{about.hostname}>"),
        ("Auto-Submitted", "auto-replied"),
    ):
        outer[name] = value
    for part in parts:
        outer.attach(part)
    written = BytesIO()
    BytesGenerator(written, mangle_from_=False, policy=POLICY).flatten(outer)
    return written.getvalue()


def described(part: Message, description: str) -> Message:
    part["Content-Description"] = description
    return part


def original(header: bytes) -> Message:
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
