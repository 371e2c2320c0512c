"""``email``: the event as text to an address, by our own queue.

It comes from the null sender and says that a machine made it (RFC 3834): no answer to it can come back, and
no notification tells of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import orjson

from relay.feedback import envelope
from relay.feedback.posting import Post
from relay.feedback.signer import unsubscribe_url
from relay.queue.own_mail import OwnMail, letter, queued
from relay.queue.values import NewMessage

_TEXT = """\
{event}

--
Topic {topic}, message {message_id}.
{stop}
"""
_BY_COMMAND = "To get no more of these: relay topic unsubscribe {subscription}"
_BY_LINK = "To get no more of these: {link}"


@dataclass(frozen=True, slots=True)
class Email:
    """The protocol.  It is its own lane: the queue does the rest.  ``next_id`` makes message ids."""

    hostname: str
    public_url: str
    expire_seconds: int
    next_id: Callable[[], int]
    at_once: ClassVar[int] = 1

    def lane(self, connections: int) -> Email:
        return self

    async def post(self, these: Sequence[Post]) -> NewMessage | None:
        """The mail, which is queued in the transaction that says it was."""
        [one] = these
        message_id, at, address = self.next_id(), time.time_ns() // 1000, one.to.row.endpoint
        mail = OwnMail(
            id=message_id,
            account_id=one.to.row.account_id,
            identity_arn=one.topic_arn,
            to=address,
            octets=self._octets(one, message_id),
            at=at,
            expires_at=at + self.expire_seconds * 1_000_000,
            record={"notification": one.message_id, "kind": one.notification.event_type},
        )
        return queued(mail)

    async def aclose(self) -> None:
        pass

    def _octets(self, one: Post, mail_id: int) -> bytes:
        notification = one.notification
        subject = f"{notification.event_type} ({one.to.topic.name})"
        mail = letter(self.hostname, mail_id, one.to.row.endpoint, subject, notification.created_at)
        mail["X-Auto-Response-Suppress"] = "All"
        text = _TEXT.format(
            event=_readable(one.notification.body),
            topic=one.topic_arn,
            message_id=one.message_id,
            stop=self._stop(one),
        )
        # As base64 would hide it from people who read their mail as it is; long lines are folded so.
        mail.set_content(text, cte="quoted-printable")
        return mail.as_bytes()

    def _stop(self, one: Post) -> str:
        if not self.public_url:
            return _BY_COMMAND.format(subscription=one.subscription_arn)
        return _BY_LINK.format(link=unsubscribe_url(self.public_url, one.subscription_arn))


def _readable(message: str) -> str:
    if not message.startswith("{"):
        return message
    return orjson.dumps(orjson.loads(envelope.document(message)), option=orjson.OPT_INDENT_2).decode()
