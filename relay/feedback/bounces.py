"""The report to the Return-Path: for whom nobody else asked to be told (R13).

It goes out as our own mail, from the null sender and unsigned by any owner's key; there is none about
mail that came from the null sender itself, so that no report is ever answered with another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.outcome import bounce_mail, complaint_mail
from relay.outcome.bounce_mail import failed_recipients
from relay.outcome.event_rows import EventRow, read_events
from relay.outcome.events import Complained
from relay.outcome.report_mail import Letter
from relay.queue.own_mail import OwnMail, queued
from relay.queue.values import Lease, NewMessage, QueuedMessage
from relay.submission.identifiers import ses_message_id


@dataclass(frozen=True, slots=True)
class BounceMail:
    """Writes reports.  ``next_id`` makes message ids, ``expire_seconds`` is the queue's."""

    hostname: str
    expire_seconds: int
    next_id: Callable[[], int]

    def report(
        self, of: QueuedMessage, record: Mapping[str, Any], row: EventRow, now: int, lease: Lease | None
    ) -> NewMessage | None:
        """The report as a message to be queued; None if there is nobody to tell, or nothing."""
        if not of.return_path or not of.reverse_path:
            return None
        report_id = self.next_id()
        letter = Letter(
            hostname=self.hostname,
            to=of.return_path,
            message_id=ses_message_id(report_id),
            original_id=ses_message_id(of.id),
            received_at=of.received_at,
            at=now,
            header=of.header,
        )
        octets = _composed(letter, record, row)
        return None if octets is None else self._queued(of, report_id, row.kind, octets, now, lease)

    def _queued(
        self, of: QueuedMessage, report_id: int, kind: str, octets: bytes, now: int, lease: Lease | None
    ) -> NewMessage:
        mail = OwnMail(
            id=report_id,
            account_id=of.account_id,
            identity_arn=of.identity_arn,
            to=of.return_path,
            octets=octets,
            at=now,
            expires_at=now + self.expire_seconds * 1_000_000,
            record={"report_on": ses_message_id(of.id), "kind": kind},
        )
        return queued(mail, lease)


def _composed(letter: Letter, record: Mapping[str, Any], row: EventRow) -> bytes | None:
    if row.kind == "complaint":
        said = [one for one in read_events(row) if isinstance(one, Complained)]
        return complaint_mail.compose(
            complaint_mail.ComplaintReport(letter, record["send"]["mail_from"], tuple(said))
        )
    is_delay = row.kind == "delay"
    # A delay is mailed once, when it has lasted; the other times it is an event only.
    items = [item for item in row.items if not is_delay or item.get("notice")]
    if not items:
        return None
    recipients = failed_recipients(items, is_custom_time=row.is_custom_time)
    retry_until = row.expires_at if is_delay else None
    return bounce_mail.compose(bounce_mail.Report(letter, recipients, retry_until))
