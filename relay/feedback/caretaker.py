"""Subscriptions that nobody looks at: those that failed for too long, and those nobody confirmed in time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from relay.queue import notifications
from relay.store import installation, topics
from relay.store.changes import control_write
from relay.store.engine import Store
from relay.store.topics import DEAD, Subscribed, topic_arn

_ACTOR = "relay:notifications"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found and did; ``waiting`` counts notifications that wait."""

    waiting: int
    dead: tuple[tuple[str, str], ...] = ()
    forgotten: tuple[str, ...] = ()


def look(store: Store, dead_seconds: int) -> Seen:
    """End what is to be ended.  Several processes may look at once: who writes looks again."""
    at = time.time_ns() // 1000
    since = at - dead_seconds * 1_000_000
    with store.read() as connection:
        waiting = notifications.count_waiting(connection)
        is_any = topics.failing(connection, since) or topics.expired(connection, at)
    if not is_any:
        return Seen(waiting)
    with control_write(store, _ACTOR) as write:
        region = installation.region(write.connection)
        failing = topics.failing(write.connection, since)
        for one in failing:
            topics.change_subscription(write, one, "EndSubscription", state=DEAD)
        expired = topics.expired(write.connection, at)
        for one in expired:
            topics.remove_subscription(write, one, "ForgetSubscription")
    return Seen(
        waiting,
        tuple((_arn(region, one), one.row.last_error or "") for one in failing),
        tuple(_arn(region, one) for one in expired),
    )


def _arn(region: str, one: Subscribed) -> str:
    return f"{topic_arn(region, one.topic.account_id, one.topic.name)}:{one.row.uuid}"
