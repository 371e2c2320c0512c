"""The queue as operators see and steer it; in small transactions, so that no client waits for them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from relay.control.ground import CONTROL_WORKER, ControlError, Ground, now
from relay.queue import steering, views
from relay.queue.ids import Ids
from relay.queue.steering import START, Order
from relay.queue.steering import Selection as Selection  # the commands name both
from relay.queue.steering import Verb as Verb
from relay.queue.views import Group as Group
from relay.queue.views import Waiting as Waiting
from relay.submission.identifiers import parse_ses_message_id


@dataclass(frozen=True, slots=True)
class Steered:
    """What a verb did: recipients changed, and those left alone because a worker is trying them."""

    changed: int
    in_hand: int


def selection(
    message: str | None = None,
    destination: str | None = None,
    account_id: str | None = None,
    identity_arn: str | None = None,
    held_because: str | None = None,
) -> Selection:
    """What the operator named; ControlError if a message id is none."""
    message_id = parse_ses_message_id(message) if message is not None else None
    if message is not None and message_id is None:
        raise ControlError("invalid_id", f"{message!r} is no message's id; `relay queue list` has them")
    domain = destination.lower() if destination else None
    return Selection(message_id, domain, account_id, identity_arn, held_because)


def waiting(ground: Ground, of: Selection, state: str | None, limit: int) -> list[views.Waiting]:
    """The recipients in the queue, the next due first."""
    with ground.store.read() as connection:
        return views.waiting(connection, of, state, limit)


def summary(ground: Ground, of: Selection, by: str) -> list[views.Group]:
    """How much waits for each destination, account or identity, the largest first."""
    with ground.store.read() as connection:
        return views.summary(connection, of, by)


def count(ground: Ground, verb: Verb, of: Selection) -> int:
    """Recipients that the verb would concern."""
    with ground.store.read() as connection:
        return steering.count(connection, verb, of)


def steer(ground: Ground, verb: Verb, of: Selection, notify: bool = False) -> Steered:
    """Do it to all of the selection."""
    order = Order(verb, ground.actor, now(), notify)
    next_id = Ids(CONTROL_WORKER).next
    changed, after = 0, START
    with ground.write() as write:
        named = {name: value for name, value in asdict(of).items() if value is not None}
        write.note("queue", f"{verb.value.title()}Queue", **named, notify=notify)
    while True:
        with ground.store.write() as connection:
            batch = steering.steer(connection, order, of, after, next_id)
        changed += batch.changed
        if batch.after is None:
            break
        after = batch.after
    with ground.store.read() as connection:
        return Steered(changed, steering.count_in_hand(connection, of))
