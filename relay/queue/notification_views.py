"""Notifications as operators look at them, and have them posted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from relay.outcome.transitions import State
from relay.queue.notifications import DEAD, DONE
from relay.queue.workers import now
from relay.store.tables import notification, outbox, subscription, topic
from relay.submission.identifiers import notification_id, ses_message_id

STATES = (State.QUEUED.value, State.LEASED.value, DONE, DEAD)
_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Selection:
    """Notifications; what is None does not narrow down.  ``since`` is when the oldest was made."""

    ids: tuple[int, ...] | None = None
    account_id: str | None = None
    topic_id: int | None = None
    subscription_id: int | None = None
    event_type: str | None = None
    states: tuple[str, ...] = STATES
    since: int | None = None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = [notification.c.state.in_(self.states)]
        if self.ids is not None:
            found.append(notification.c.id.in_(self.ids))
        if self.account_id is not None:
            found.append(notification.c.account_id == self.account_id)
        if self.topic_id is not None:
            of_topic = select(subscription.c.id).where(subscription.c.topic_id == self.topic_id)
            found.append(notification.c.subscription_id.in_(of_topic))
        if self.subscription_id is not None:
            found.append(notification.c.subscription_id == self.subscription_id)
        if self.event_type is not None:
            found.append(notification.c.event_type == self.event_type)
        if self.since is not None:
            found.append(notification.c.created_at >= self.since)
        return found


@dataclass(frozen=True, slots=True)
class View:
    """A notification as it stands; of a subscription that is gone ``protocol`` and the like are None.

    ``id`` is the ``MessageId`` that its receiver sees, ``mail_id`` the message that the event is of.
    """

    id: str
    account_id: str
    event_type: str
    state: str
    attempts: int
    created_at: int
    due_at: int
    last_error: str | None
    mail_id: str | None
    topic: str | None
    subscription: str | None
    protocol: str | None
    endpoint: str | None
    body: str


def views(connection: Connection, of: Selection, limit: int) -> list[View]:
    """The newest, the newest first."""
    query = (
        select(
            notification,
            subscription.c.uuid,
            subscription.c.protocol,
            subscription.c.endpoint,
            topic.c.name.label("topic"),
            outbox.c.message_id,
        )
        .outerjoin(subscription, subscription.c.id == notification.c.subscription_id)
        .outerjoin(topic, topic.c.id == subscription.c.topic_id)
        .outerjoin(outbox, outbox.c.id == notification.c.event_id)
        .where(*of.conditions)
        .order_by(notification.c.id.desc())
        .limit(limit)
    )
    return [_view(row) for row in connection.execute(query)]


def _view(row: Any) -> View:
    return View(
        id=notification_id(row.id),
        account_id=row.account_id,
        event_type=row.event_type,
        state=row.state,
        attempts=row.attempts,
        created_at=row.created_at,
        due_at=row.due_at,
        last_error=row.last_error,
        mail_id=None if row.message_id is None else ses_message_id(row.message_id),
        topic=row.topic,
        subscription=row.uuid,
        protocol=row.protocol,
        endpoint=row.endpoint,
        body=row.body,
    )


def counts(connection: Connection, subscription_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """How many notifications of each subscription are in which state."""
    query = (
        select(notification.c.subscription_id, notification.c.state, func.count().label("number"))
        .where(notification.c.subscription_id.in_(subscription_ids))
        .group_by(notification.c.subscription_id, notification.c.state)
    )
    found: dict[int, dict[str, int]] = {}
    for row in connection.execute(query):
        found.setdefault(row.subscription_id, {})[row.state] = row.number
    return found


def replay(connection: Connection, of: Selection, after: int) -> tuple[int, int | None]:
    """Queue the next after an id again; how many, and where to go on, None at the end.

    They keep their ids, so that a receiver knows what it had already.  What is being posted is left alone.
    """
    states = tuple(state for state in of.states if state in (DONE, DEAD))
    query = (
        select(notification.c.id)
        .where(notification.c.id > after, notification.c.state.in_(states), *of.conditions)
        .order_by(notification.c.id)
        .limit(_BATCH)
    )
    ids = list(connection.execute(query).scalars())
    these = notification.c.id.in_(ids), notification.c.state.in_(states)
    # Patience is counted from the replay: it may have been made days ago.
    again = {"state": State.QUEUED.value, "due_at": now(connection), "attempts": 0}
    changed = connection.execute(update(notification).where(*these).values(again)).rowcount
    return changed, ids[-1] if len(ids) == _BATCH else None
