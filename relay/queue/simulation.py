"""What follows a delivery to the mailbox simulator, written in the transaction that settles it.

A mailbox that is away answers with mail of ours to the Return-Path; one that complains leaves a notice of
a complaint.  Neither is done for mail from the null sender, so that nothing is answered without end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from relay.outcome.outcome import Delivered
from relay.outcome.simulator import (
    FEEDBACK_TYPE,
    USER_AGENT,
    AutoReply,
    Box,
    box_of,
    compose_auto_reply,
)
from relay.queue.event_rows import new_row
from relay.queue.own_mail import OwnMail, queued
from relay.queue.values import NewMessage, Settled
from relay.submission.identifiers import ses_message_id


@dataclass(frozen=True, slots=True)
class Simulation:
    """Makes what follows.  ``next_id`` makes ids, ``expire_seconds`` is the queue's."""

    hostname: str
    expire_seconds: int
    next_id: Callable[[], int]

    def complaints(self, settled: Sequence[Settled]) -> list[dict[str, Any]]:
        """Rows of the outbox: one for the mailboxes of a message that complain together."""
        together: dict[int, list[Settled]] = defaultdict(list)
        for one in _delivered_to(Box.COMPLAINT, settled):
            together[one.message.id].append(one)
        return [self._complaint(group) for group in together.values()]

    def _complaint(self, group: Sequence[Settled]) -> dict[str, Any]:
        of, at = group[0].message, group[0].ended_at
        notices = [_complaint_notice(one) for one in group]
        return new_row(self.next_id(), of.account_id, of.id, "complaint", notices, at)

    def auto_replies(self, settled: Sequence[Settled]) -> list[NewMessage]:
        """Messages of ours, to be queued."""
        return [self._auto_reply(one) for one in _delivered_to(Box.AWAY, settled)]

    def _auto_reply(self, one: Settled) -> NewMessage:
        of, reply_id = one.message, self.next_id()
        octets = compose_auto_reply(
            AutoReply(
                hostname=self.hostname,
                to=of.return_path,
                away=one.recipient.address,
                message_id=ses_message_id(reply_id),
                at=one.ended_at,
                original=of.header,
            )
        )
        mail = OwnMail(
            id=reply_id,
            account_id=of.account_id,
            identity_arn=of.identity_arn,
            to=of.return_path,
            octets=octets,
            at=one.ended_at,
            expires_at=one.ended_at + self.expire_seconds * 1_000_000,
            record={"reply_to": ses_message_id(of.id), "from": one.recipient.address},
        )
        return queued(mail)


def _delivered_to(box: Box, settled: Sequence[Settled]) -> Iterator[Settled]:
    for one in settled:
        is_delivered = one.is_simulated and isinstance(one.outcome, Delivered)
        if is_delivered and one.message.return_path and box_of(one.recipient.address) is box:
            yield one


def _complaint_notice(one: Settled) -> dict[str, Any]:
    """As the settlement words what became of a recipient, with what a feedback report would say."""
    return {
        "address": one.recipient.address,
        "status": None,
        "expired": False,
        "code": None,
        "enhanced": None,
        "text": "the recipient of the mailbox simulator complains of everything",
        "host": one.attempt.host,
        "phase": "report",
        "at": one.ended_at,
        "attempts": one.recipient.attempts + 1,
        "feedback_type": FEEDBACK_TYPE,
        "user_agent": USER_AGENT,
        "arrived_at": one.ended_at,
    }
