"""Notifications as operators see them and have them posted again; in small transactions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from relay.control import topics
from relay.control.ground import ControlError, Ground, now
from relay.queue import notification_views
from relay.queue.notification_views import Selection, View
from relay.queue.notifications import DEAD, DONE
from relay.store.topics import CONFIRMED, topic_arn
from relay.submission.identifiers import parse_notification_id


@dataclass(frozen=True, slots=True)
class Shown:
    """A notification, with the ARN of its subscription if that is still there."""

    view: View
    subscription_arn: str | None


def selection(
    ground: Ground,
    account_id: str | None = None,
    topic: str | None = None,
    subscription: str | None = None,
    event_type: str | None = None,
    state: str | None = None,
    newer_than: timedelta | None = None,
) -> Selection:
    """What the operator named; ControlError if a topic or subscription is not there."""
    return Selection(
        account_id=account_id,
        topic_id=topics.show(ground, topic).row.id if topic else None,
        subscription_id=topics.find(ground, subscription).row.id if subscription else None,
        event_type=event_type,
        states=(state,) if state else notification_views.STATES,
        since=None if newer_than is None else now() - int(newer_than.total_seconds() * 1_000_000),
    )


def by_id(*texts: str) -> Selection:
    """Those with these ids; ControlError if one is none."""
    ids = []
    for text in texts:
        id_ = parse_notification_id(text)
        if id_ is None:
            raise ControlError("invalid_id", f"{text!r} is no notification's id; `relay event list` has them")
        ids.append(id_)
    return Selection(ids=tuple(ids))


def every(ground: Ground, of: Selection, limit: int) -> list[Shown]:
    """The newest, the newest first."""
    with ground.store.read() as connection:
        found = notification_views.views(connection, of, limit)
    return [_shown(ground, view) for view in found]


def _shown(ground: Ground, view: View) -> Shown:
    if view.topic is None:
        return Shown(view, None)
    return Shown(view, f"{topic_arn(ground.region, view.account_id, view.topic)}:{view.subscription}")


def show(ground: Ground, text: str) -> Shown:
    found = every(ground, by_id(text), 1)
    if not found:
        raise ControlError("not_found", f"no notification {text}; they are kept for [retention] days")
    return found[0]


def replay(ground: Ground, of: Selection) -> int:
    """Post again what is done or dead; how many those are.

    A subscription must be there and confirmed: what is posted to another would be dead at once.
    """
    for shown in every(ground, replace(of, states=_final(of)), 1) if of.ids else []:
        _check_subscription(ground, shown)
    with ground.write() as write:
        named = {"ids": len(of.ids or ()), "account": of.account_id, "states": list(of.states)}
        write.note("notifications", "ReplayNotifications", **named)
    changed, after = 0, -1
    while True:
        with ground.store.write() as connection:
            count, last = notification_views.replay(connection, of, after)
        changed += count
        if last is None:
            return changed
        after = last


def _final(of: Selection) -> tuple[str, ...]:
    return tuple(state for state in of.states if state in (DONE, DEAD))


def _check_subscription(ground: Ground, shown: Shown) -> None:
    if shown.subscription_arn is None:
        raise ControlError("not_found", f"the subscription of {shown.view.id} is gone")
    state = topics.find(ground, shown.subscription_arn).row.state
    if state != CONFIRMED:
        raise ControlError(
            "not_confirmed",
            f"{shown.subscription_arn} is {state}: `relay topic show` says why,"
            " `relay topic revive` or `confirm` brings it back",
        )
