"""What the protocols have in common: notifications on their way to one subscription."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from relay.queue.notifications import Notification
from relay.queue.values import NewMessage
from relay.store.topics import Subscribed, topic_arn
from relay.submission.identifiers import notification_id


class NotPosted(Exception):
    """It did not get there; the text says why."""


@dataclass(frozen=True, slots=True)
class Post:
    """One notification with the subscription it is for; every attempt has the same ``message_id``."""

    notification: Notification
    to: Subscribed
    region: str

    @property
    def message_id(self) -> str:
        return notification_id(self.notification.id)

    @property
    def topic_arn(self) -> str:
        return topic_arn(self.region, self.to.topic.account_id, self.to.topic.name)

    @property
    def subscription_arn(self) -> str:
        return f"{self.topic_arn}:{self.to.row.uuid}"


class Lane(Protocol):
    """The way to one subscription, with what it keeps open meanwhile."""

    # How many it takes together: most protocols send each by itself.
    at_once: ClassVar[int]

    async def post(self, these: Sequence[Post]) -> NewMessage | None:
        """NotPosted and none of them is there, or all are; a mail is to be queued when that is recorded."""
        ...

    async def aclose(self) -> None: ...


class Way(Protocol):
    """A protocol."""

    def lane(self, connections: int) -> Lane:
        """A way to one subscription, over at most so many connections at once."""
        ...
