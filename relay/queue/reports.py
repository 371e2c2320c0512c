"""What others report of a message after they took it, written down once with who must be told.

The state of a recipient stays: it was delivered, and what was reported of it stands in the notices.  An
address that turns out bad, or whose owner complains, gets on the account's suppression list with it, and the
account's reputation moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from relay.outcome.transitions import State
from relay.queue.event_rows import insert_events, new_row
from relay.queue.suppression import Cause, suppress
from relay.queue.values import QueuedRecipient
from relay.queue.writer import GroupWriter, Job
from relay.store import usage
from relay.store.engine import Store
from relay.store.suppression import BOUNCE, COMPLAINT
from relay.store.tables import message, recipient, report

_OVER = (State.BOUNCED.value, State.DROPPED.value)


@dataclass(frozen=True, slots=True)
class Reported:
    """A message that may be reported on.

    ``reverse_path`` is the address that reports come back to; ``recipients`` lacks those that have bounced
    or were dropped: of them nothing more is to be told.  ``received_at`` is microseconds UTC.
    """

    message_id: int
    account_id: str
    identity_arn: str
    received_at: int
    configuration_set: str | None
    reverse_path: str
    recipients: tuple[QueuedRecipient, ...]


@dataclass(frozen=True, slots=True)
class LateReport:
    """One kind of thing that is reported of recipients, by number, each with its notice.

    ``suppressed`` are those that the sender should not send to any more.
    """

    of: Reported
    kind: str
    at: int
    notices: dict[int, dict[str, Any]]
    suppressed: frozenset[int] = frozenset()


class Reports:
    """Looks up and records for one worker process.  ``next_id`` makes the outbox rows' ids."""

    def __init__(self, store: Store, writer: GroupWriter, next_id: Callable[[], int], worker_id: int) -> None:
        self._store = store
        self._writer = writer
        self._next_id = next_id
        self._worker_id = worker_id

    async def find(self, message_id: int) -> Reported | None:
        """The message, while its record is kept."""
        return await asyncio.to_thread(self._find, message_id)

    def record(self, late: LateReport) -> asyncio.Future[tuple[int, ...]]:
        """Resolves when it is durable, to the recipients of whom it was not known yet."""
        return self._writer.submit(Job(self._run, late))

    def _find(self, message_id: int) -> Reported | None:
        with self._store.read() as connection:
            of = connection.execute(select(message).where(message.c.id == message_id)).first()
            if of is None:
                return None
            query = (
                select(recipient)
                .where(recipient.c.message_id == message_id, recipient.c.state.not_in(_OVER))
                .order_by(recipient.c.number)
            )
            rows = connection.execute(query).all()
        recipients = tuple(QueuedRecipient(row.number, row.address, row.domain, row.attempts) for row in rows)
        return Reported(
            message_id,
            of.account_id,
            of.identity_arn,
            of.received_at,
            of.configuration_set,
            of.reverse_path,
            recipients,
        )

    def _run(self, connection: Connection, reports: Sequence[LateReport]) -> list[tuple[int, ...]]:
        return [record(connection, one, self._next_id, self._worker_id) for one in reports]


def record(
    connection: Connection, late: LateReport, next_id: Callable[[], int], worker_id: int
) -> tuple[int, ...]:
    """Write down what is new of it and whom to tell, in the caller's transaction; gives the numbers."""
    new = tuple(number for number in late.notices if _is_new(connection, late, number))
    if new:
        notices = [late.notices[number] for number in new]
        row = new_row(next_id(), late.of.account_id, late.of.message_id, late.kind, notices, late.at)
        insert_events(connection, [row])
        bad = [number for number in new if number in late.suppressed]
        suppress(connection, [_cause(late, number) for number in bad])
        _count(connection, worker_id, late, len(new), len(bad))
    return new


def _count(connection: Connection, worker_id: int, late: LateReport, new: int, bad: int) -> None:
    """What moves the sending account's reputation (R10)."""
    one = usage.Late(late.of.account_id, late.of.identity_arn, late.of.received_at)
    if late.kind == "complaint":
        # Of several who may have complained it was one.
        usage.count_complaints(connection, worker_id, [one] * (bad or 1))
    elif late.kind == "bounce":
        usage.count_late_bounces(connection, worker_id, [one] * bad, is_hard=True)
        usage.count_late_bounces(connection, worker_id, [one] * (new - bad), is_hard=False)


def _cause(late: LateReport, number: int) -> Cause:
    return Cause(
        account_id=late.of.account_id,
        configuration_set=late.of.configuration_set,
        message_id=late.of.message_id,
        address=late.notices[number]["address"],
        reason=COMPLAINT if late.kind == "complaint" else BOUNCE,
        at=late.at,
    )


def _is_new(connection: Connection, late: LateReport, number: int) -> bool:
    insert_or_not = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    row = {"message_id": late.of.message_id, "number": number, "kind": late.kind, "at": late.at}
    added = insert_or_not(report).values(row).on_conflict_do_nothing().returning(report.c.number)
    return connection.execute(added).first() is not None
