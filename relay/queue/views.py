"""What operators look at: the queue, and all that is known of one message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Integer,
    Row,
    Select,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from relay.outcome.transitions import State
from relay.queue.steering import WAITING, Selection
from relay.store.prepared import spelled
from relay.store.tables import attempt, message, outbox, recipient, refusal
from relay.submission.identifiers import id_milliseconds, parse_ses_message_id, ses_message_id


@dataclass(frozen=True, slots=True)
class Waiting:
    """A recipient that is still in the queue.  Instants are microseconds UTC."""

    message_id: str
    account_id: str
    identity_arn: str
    recipient: str
    state: str
    attempts: int
    received_at: int
    due_at: int
    expires_at: int
    held_because: str | None
    last_reply: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """What waits for one destination, account or identity.  ``due_at`` is None if nothing will be tried."""

    name: str
    recipients: int
    held: int
    oldest_at: int
    due_at: int | None
    last_reply: str | None


_GROUPS = {
    "destination": recipient.c.domain,
    "account": recipient.c.account_id,
    "identity": message.c.identity_arn,
}


def summary(connection: Connection, of: Selection, by: str) -> list[Group]:
    """Sums by ``destination``, ``account`` or ``identity``, the largest first."""
    of_all = union_all(*(_grouped(of, state, by) for state in WAITING)).subquery().c
    total = func.count()
    query = select(
        of_all.name,
        total.label("recipients"),
        func.sum(of_all.held).label("held"),
        func.min(of_all.message_id).label("oldest"),  # ids rise with time
        func.min(of_all.due_at).label("due_at"),
        func.max(of_all.last_reply).label("last_reply"),
    )
    rows = connection.execute(query.group_by(of_all.name).order_by(total.desc(), of_all.name))
    return [
        Group(
            name=row.name,
            recipients=row.recipients,
            held=int(row.held),
            oldest_at=id_milliseconds(row.oldest) * 1000,
            due_at=row.due_at,
            last_reply=row.last_reply,
        )
        for row in rows
    ]


def _grouped(of: Selection, state: str, by: str) -> Select[Any]:
    """The recipients in a state, which has an index of its own: what is done is most of the table."""
    query = select(
        _GROUPS[by].label("name"),
        literal_column("1" if state == State.HELD.value else "0", Integer).label("held"),
        recipient.c.message_id,
        (recipient.c.due_at if state == State.QUEUED.value else null()).label("due_at"),
        recipient.c.last_reply,
    ).where(_is(state), *of.conditions)
    if by == "identity":
        query = query.join(message, message.c.id == recipient.c.message_id)
    return query


def waiting(connection: Connection, of: Selection, state: str | None, limit: int) -> list[Waiting]:
    """The recipients in the queue, the next due first."""
    # State by state, since each has an index of its own.
    rows = [row for one in ([state] if state else WAITING) for row in _first(connection, of, one, limit)]
    return [
        Waiting(
            message_id=ses_message_id(row.message_id),
            account_id=row.account_id,
            identity_arn=row.identity_arn,
            recipient=row.address,
            state=row.state,
            attempts=row.attempts,
            received_at=row.received_at,
            due_at=row.due_at,
            expires_at=row.expires_at,
            held_because=row.held_because,
            last_reply=row.last_reply,
        )
        for row in sorted(rows, key=lambda row: row.due_at)[:limit]
    ]


def _first(connection: Connection, of: Selection, state: str, limit: int) -> Sequence[Row[Any]]:
    query = (
        select(recipient, message.c.identity_arn, message.c.received_at, message.c.expires_at)
        .join(message, message.c.id == recipient.c.message_id)
        .where(_is(state), *of.conditions)
        .order_by(recipient.c.due_at)
        .limit(limit)
    )
    return connection.execute(query).all()


def _is(state: str) -> ColumnElement[bool]:
    return recipient.c.state == spelled(State(state).value)


def count_by_state(connection: Connection) -> dict[str, int]:
    """How many recipients are in each state."""
    query = select(recipient.c.state, func.count()).group_by(recipient.c.state)
    return dict(connection.execute(query).all())


def depth(connection: Connection, state: str) -> tuple[int, int | None]:
    """How many recipients wait in a state, and when the message of the oldest came (microseconds UTC)."""
    # Ids rise with time.
    query = select(func.count(), func.min(recipient.c.message_id)).where(_is(state))
    count, oldest = connection.execute(query).one()
    return count, None if oldest is None else id_milliseconds(oldest) * 1000


def find_message(connection: Connection, key: str) -> dict[str, Any] | None:
    """Everything kept of an accepted message, by its SES-shaped id."""
    message_id = parse_ses_message_id(key)
    if message_id is None:
        return None
    row = connection.execute(select(message).where(message.c.id == message_id)).first()
    if row is None:
        return None
    return {
        "message_id": key,
        "account_id": row.account_id,
        "identity_arn": row.identity_arn,
        "reverse_path": row.reverse_path,
        "return_path": row.return_path,
        "configuration_set": row.configuration_set,
        "require_tls": row.require_tls,
        "received_at": row.received_at,
        "expires_at": row.expires_at,
        "size_bytes": row.size_bytes,
        "record": orjson.loads(row.record),
        "recipients": _recipients(connection, message_id),
        "attempts": _attempts(connection, message_id),
        "notices": _notices(connection, message_id),
    }


def _recipients(connection: Connection, message_id: int) -> list[dict[str, Any]]:
    columns = (
        recipient.c.number,
        recipient.c.address,
        recipient.c.state,
        recipient.c.attempts,
        recipient.c.due_at,
        recipient.c.settled_at,
        recipient.c.last_reply,
    )
    query = select(*columns).where(recipient.c.message_id == message_id).order_by(recipient.c.number)
    return _rows(connection.execute(query))


def _attempts(connection: Connection, message_id: int) -> list[dict[str, Any]]:
    query = (
        select(attempt)
        .where(attempt.c.message_id == message_id)
        .order_by(attempt.c.at, attempt.c.number, attempt.c.attempt)
    )
    return _rows(connection.execute(query))


def _notices(connection: Connection, message_id: int) -> list[dict[str, Any]]:
    """Whom to tell of what, with what others reported of recipients after they took the message."""
    columns = (outbox.c.kind, outbox.c.state, outbox.c.created_at, outbox.c.last_error, outbox.c.payload)
    query = select(*columns).where(outbox.c.message_id == message_id).order_by(outbox.c.id)
    found = _rows(connection.execute(query))
    for row in found:
        row["late"] = [one for one in orjson.loads(row.pop("payload")) if one.get("late")]
    return found


def find_refusal(connection: Connection, key: str) -> dict[str, Any] | None:
    """What is kept of a refused message, by the reference in its reply; the newest if it came twice."""
    query = select(refusal).where(refusal.c.reference == key.upper()).order_by(refusal.c.id.desc()).limit(1)
    row = connection.execute(query).first()
    if row is None:
        return None
    return {
        "reference": row.reference,
        "account_id": row.account_id,
        "access_key_id": row.access_key_id,
        "at": row.at,
        "reason": row.reason,
        "reply": row.reply,
        "record": orjson.loads(row.record),
    }


def _rows(result: CursorResult[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in result.mappings()]
