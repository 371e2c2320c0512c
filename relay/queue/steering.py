"""The queue in the operator's hand: retry, hold, release, drop.

Each verb takes a batch of the recipients that a ``Selection`` names, within the caller's transaction, and
says where to go on.  What a worker has in hand is left to it: its attempt may have succeeded already, and
nobody may say "held" or "dropped" of mail that has left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, func, select, tuple_, update

from relay.outcome.transitions import State
from relay.queue.notices import End, report
from relay.queue.retention import purge_bodies
from relay.store.tables import message, recipient

_BATCH = 500
OPERATOR = "operator"
WAITING = (State.QUEUED.value, State.LEASED.value, State.HELD.value)
# Before the first of all keys.
START = (-1, -1)

_KEY = tuple_(recipient.c.message_id, recipient.c.number)


class Verb(StrEnum):
    """What is done; the value is the command's name."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    DROP = "drop"


_FROM = {
    Verb.RETRY: (State.QUEUED,),
    Verb.HOLD: (State.QUEUED,),
    Verb.RELEASE: (State.HELD,),
    Verb.DROP: (State.QUEUED, State.HELD),
}
_TO = {
    Verb.RETRY: State.QUEUED,
    Verb.HOLD: State.HELD,
    Verb.RELEASE: State.QUEUED,
    Verb.DROP: State.DROPPED,
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Recipients in the queue; what is None does not narrow down.  ``destination`` is a domain.

    ``held_because`` is the reason for which mail is held.
    """

    message_id: int | None = None
    destination: str | None = None
    account_id: str | None = None
    identity_arn: str | None = None
    held_because: str | None = None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.message_id is not None:
            found.append(recipient.c.message_id == self.message_id)
        if self.destination is not None:
            found.append(recipient.c.domain == self.destination)
        if self.account_id is not None:
            found.append(recipient.c.account_id == self.account_id)
        if self.identity_arn is not None:
            # Asked of each recipient that waits: a list of all that came from it would be read first.
            is_its = message.c.id == recipient.c.message_id, message.c.identity_arn == self.identity_arn
            found.append(exists().where(*is_its).correlate(recipient))
        if self.held_because is not None:
            found.append(recipient.c.held_because == self.held_because)
        return found


@dataclass(frozen=True, slots=True)
class Order:
    """A verb with who gave it, when (microseconds UTC), and whether senders are told of what is dropped."""

    verb: Verb
    actor: str
    at: int
    notify: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What was done; ``after`` is the last key that was looked at, None at the end."""

    changed: int
    after: tuple[int, int] | None


def steer(
    connection: Connection,
    order: Order,
    selection: Selection,
    after: tuple[int, int],
    next_id: Callable[[], int],
) -> Batch:
    """Do the next recipients after a key."""
    rows = _next(connection, order.verb, selection, after)
    changed = _change(connection, order, rows)
    if order.verb is Verb.DROP and changed:
        if order.notify:
            end = End(order.at, "5.0.0", "removed from the queue by the operator")
            report(connection, changed, end, next_id)
        purge_bodies(connection, list({row.message_id for row in changed}))
    last = (rows[-1].message_id, rows[-1].number) if len(rows) == _BATCH else None
    return Batch(len(changed), last)


def count_in_hand(connection: Connection, selection: Selection) -> int:
    """Recipients of the selection that workers are trying now."""
    query = select(func.count()).select_from(recipient)
    leased = recipient.c.state == State.LEASED.value
    return int(connection.execute(query.where(leased, *selection.conditions)).scalar_one())


def count(connection: Connection, verb: Verb, selection: Selection) -> int:
    """Recipients that the verb would concern."""
    query = select(func.count()).select_from(recipient)
    return int(connection.execute(query.where(_concerned(verb), *selection.conditions)).scalar_one())


def _concerned(verb: Verb) -> ColumnElement[bool]:
    return recipient.c.state.in_([state.value for state in _FROM[verb]])


def _next(connection: Connection, verb: Verb, selection: Selection, after: tuple[int, int]) -> Sequence[Any]:
    query = (
        select(recipient.c.message_id, recipient.c.number)
        .where(tuple_(*after) < _KEY, _concerned(verb), *selection.conditions)
        .order_by(recipient.c.message_id, recipient.c.number)
        .limit(_BATCH)
    )
    return connection.execute(query).all()


def _change(connection: Connection, order: Order, rows: Sequence[Any]) -> Sequence[Any]:
    """Those that still were as they were read: a worker may have taken one since."""
    if not rows:
        return []
    these = _KEY.in_([(row.message_id, row.number) for row in rows]), _concerned(order.verb)
    changed = update(recipient).where(*these).values(_values(order)).returning(recipient)
    return connection.execute(changed).all()


def _values(order: Order) -> dict[str, Any]:
    values: dict[str, Any] = {"state": _TO[order.verb].value, "held_because": None}
    if order.verb is Verb.HOLD:
        values["held_because"] = OPERATOR
    elif order.verb is Verb.DROP:
        values |= {"settled_at": order.at, "last_reply": f"dropped by {order.actor}"}
    else:
        values["due_at"] = order.at
    return values
