"""The report to the Return-Path: for whom nobody else asked to be told (R13).

It goes out as our own mail, from the null sender and unsigned by any owner's key; there is none about
mail that came from the null sender itself, so that no report is ever answered with another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from relay.outcome import complaint_mail
from relay.outcome.bounce_mail import Report, compose, failed_recipients
from relay.outcome.complaint_mail import Complaint
from relay.queue.outbox import Notice
from relay.queue.spool import NewMessage
from relay.queue.values import Lease, QueuedMessage, QueuedRecipient
from relay.submission.identifiers import ses_message_id

# An automatic answer is told by events alone, as in SES.
_REPORTED = frozenset({"bounce", "delay", "complaint"})


@dataclass(frozen=True, slots=True)
class BounceMail:
    """Writes reports.  ``next_id`` makes message ids, ``expire_seconds`` is the queue's."""

    hostname: str
    expire_seconds: int
    next_id: Callable[[], int]

    def report(self, notice: Notice, now: int, lease: Lease | None) -> NewMessage | None:
        """The report as a message to be queued; None if there is nobody to tell."""
        of = notice.message
        if notice.kind not in _REPORTED or of is None or not of.return_path or not of.reverse_path:
            return None
        report_id = self.next_id()
        octets = self._octets(notice, of, report_id, now)
        head, _, body = octets.partition(b"\r\n\r\n")
        message = QueuedMessage(
            id=report_id,
            account_id=of.account_id,
            identity_arn=of.identity_arn,
            reverse_path="",
            return_path="",
            configuration_set=None,
            received_at=now,
            expires_at=now + self.expire_seconds * 1_000_000,
            size_bytes=len(octets),
            header=head + b"\r\n",
            body=(body,),
            chunks=1,
        )
        to = QueuedRecipient(0, of.return_path, of.return_path.rpartition("@")[2])
        record = orjson.dumps({"report_on": ses_message_id(of.id), "kind": notice.kind}).decode()
        return NewMessage(message, (to,), record, lease)

    def _octets(self, notice: Notice, of: QueuedMessage, report_id: int, now: int) -> bytes:
        """The report in the form of its kind."""
        frame: dict[str, Any] = {
            "hostname": self.hostname,
            "to": of.return_path,
            "message_id": ses_message_id(report_id),
            "original_id": ses_message_id(of.id),
            "received_at": of.received_at,
            "at": now,
            "header": of.header,
        }
        if notice.kind == "complaint":
            return complaint_mail.compose(Complaint(**frame, said=complaint_mail.said(notice.recipients)))
        retry_until = of.expires_at if notice.kind == "delay" else None
        failed = failed_recipients(notice.recipients)
        return compose(Report(**frame, recipients=failed, retry_until=retry_until))
