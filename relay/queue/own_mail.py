"""Mail that the gateway writes itself: from the null sender, so that nothing comes back; by its own queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any

import orjson

from relay.queue.values import Lease, NewMessage, QueuedMessage, QueuedRecipient
from relay.submission.identifiers import ses_message_id


@dataclass(frozen=True, slots=True)
class OwnMail:
    """One message to one address, whole in ``octets``; on whose behalf, and what its record says.

    Instants are microseconds UTC.
    """

    id: int
    account_id: str
    identity_arn: str
    to: str
    octets: bytes
    at: int
    expires_at: int
    record: Mapping[str, Any]


def queued(mail: OwnMail, lease: Lease | None = None) -> NewMessage:
    """The mail as a message to be queued; nobody is charged for it or told what becomes of it."""
    head, _, body = mail.octets.partition(b"\r\n\r\n")
    message = QueuedMessage(
        id=mail.id,
        account_id=mail.account_id,
        identity_arn=mail.identity_arn,
        reverse_path="",
        return_path="",
        configuration_set=None,
        received_at=mail.at,
        expires_at=mail.expires_at,
        size_bytes=len(mail.octets),
        header=head + b"\r\n",
        body=(body,),
        chunks=1,
    )
    to = QueuedRecipient(0, mail.to, mail.to.rpartition("@")[2])
    return NewMessage(message, (to,), orjson.dumps(mail.record).decode(), lease)


def letter(hostname: str, message_id: int, to: str, subject: str, at: int) -> EmailMessage:
    """A mail without content yet, that says a machine made it (RFC 3834)."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = f"Mail relay <no-reply@{hostname}>"
    mail["To"] = to
    mail["Subject"] = subject
    mail["Date"] = format_datetime(instant(at))
    mail["Message-ID"] = f"<{ses_message_id(message_id)}@{hostname}>"
    mail["Auto-Submitted"] = "auto-generated"
    return mail


def instant(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC)
