"""Out of a worker's hands: what became of each recipient, in one transaction with who must be told.

A settlement is fenced: it counts only while the recipient is leased to the worker and epoch that tried
it, and was not tried since.  A permanent failure is recorded only together with its outbox row, so that no
crash can lose the notice; a delivery or a passing failure has one if somebody listens for it.  An address
that is bad for good gets on the account's suppression list with it.  What moves the account's reputation is
counted there too.

On SQLite the body goes with the last recipient: its pages are taken for the next one while they are hot, and
log and file hold few of them, which is a quarter more messages of 50 KB than if it goes a second later.  On
PostgreSQL deleted rows cost until they are vacuumed, and two nodes that settle the last recipients at once
would each see the other's still waiting; so bodies are removed later, many at a time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, update

from relay.outcome.events import DELIVERY, DELIVERY_DELAY
from relay.outcome.outcome import Bounced, Deferred, Delivered, Reply
from relay.outcome.simulator import box_of, kind_of
from relay.outcome.transitions import State
from relay.queue.accounting import count_settled
from relay.queue.event_rows import insert_events, new_row
from relay.queue.retention import purge_bodies
from relay.queue.simulation import Simulation
from relay.queue.spool import insert_messages
from relay.queue.suppression import hard_bounces, suppress
from relay.queue.values import Settled
from relay.queue.writer import GroupWriter, Job
from relay.store.prepared import Prepared, Row, RowInsert, one_flight, spelled
from relay.store.tables import attempt, recipient

_SETTLE = Prepared(
    update(recipient)
    .where(
        recipient.c.message_id == bindparam("id"),
        recipient.c.number == bindparam("n"),
        recipient.c.state == spelled(State.LEASED.value),
        recipient.c.worker_id == bindparam("by_worker"),
        recipient.c.worker_epoch == bindparam("by_epoch"),
        # Said again after an answer that was lost, it must not count for a claim that came in between.
        recipient.c.attempts == bindparam("by_attempts"),
    )
    .values(
        state=bindparam("to_state"),
        due_at=bindparam("to_due_at"),
        attempts=bindparam("to_attempts"),
        delay_reported=bindparam("to_delay_reported"),
        last_reply=bindparam("to_last_reply"),
        settled_at=bindparam("to_settled_at"),
    ),
    *("to_state", "to_due_at", "to_attempts", "to_delay_reported", "to_last_reply", "to_settled_at"),
    *("id", "n", "by_worker", "by_epoch", "by_attempts"),
)
_INSERT_ATTEMPT = RowInsert(
    attempt,
    *("message_id", "number", "attempt", "at", "outcome", "phase", "host", "tls", "code", "enhanced"),
    *("reply", "duration_us"),
)


class Settlement:
    """Settles for one worker process.  ``next_id`` makes the outbox rows' ids.

    ``finished`` collects messages of which a recipient is done and whose bodies are to be removed later.
    """

    def __init__(
        self, writer: GroupWriter, next_id: Callable[[], int], simulation: Simulation | None = None
    ) -> None:
        self._writer = writer
        self._next_id = next_id
        self._simulation = simulation
        self.finished: deque[int] = deque()

    def settle(self, settled: Sequence[Settled]) -> asyncio.Future[None]:
        """Resolves when the outcomes are durable; StoreUnavailable if they are not."""
        return self._writer.submit(Job(self._run, tuple(settled), is_patient=True))

    def _run(self, connection: Connection, payloads: Sequence[Sequence[Settled]]) -> list[None]:
        settled = [one for payload in payloads for one in payload]
        settle(connection, settled, self._next_id, self._simulation)
        self._let_go(connection, {one.message.id for one in settled if not isinstance(one.outcome, Deferred)})
        return [None] * len(payloads)

    def _let_go(self, connection: Connection, finished: set[int]) -> None:
        """A recipient of these messages is done: their bodies go now or later, if no other one waits."""
        if connection.dialect.name == "sqlite":
            purge_bodies(connection, list(finished))
        else:
            self.finished.extend(finished)


def settle(
    connection: Connection,
    settled: Sequence[Settled],
    next_id: Callable[[], int],
    simulation: Simulation | None = None,
) -> None:
    """Write the outcomes that are still ours to tell."""
    if not settled:
        return
    with one_flight(connection):
        settled = _fenced(connection, settled)
        _INSERT_ATTEMPT(connection, [_attempt_row(one) for one in settled])
        count_settled(connection, settled)
    suppress(connection, hard_bounces(settled))
    notices = list(_outbox_rows(settled, next_id))
    if simulation is not None:
        notices += simulation.complaints(settled)
        insert_messages(connection, simulation.auto_replies(settled))
    insert_events(connection, notices)


def _fenced(connection: Connection, settled: Sequence[Settled]) -> Sequence[Settled]:
    """Those that were ours still, now written; nearly always all of them."""
    written = _SETTLE.each(connection, [_row(one) for one in settled])
    return [one for one, count in zip(settled, written, strict=True) if count == 1]


def _row(one: Settled) -> Row:
    outcome = one.outcome
    ended_at = one.ended_at
    is_deferred = isinstance(outcome, Deferred)
    return (
        _state(one).value,
        outcome.due_at if isinstance(outcome, Deferred) else ended_at,
        one.recipient.attempts + 1,
        one.recipient.delay_reported or (isinstance(outcome, Deferred) and outcome.delay_notice),
        str(one.attempt.answer),
        None if is_deferred else ended_at,
        one.message.id,
        one.recipient.number,
        one.lease.worker_id,
        one.lease.epoch,
        one.recipient.attempts,
    )


def _state(one: Settled) -> State:
    if isinstance(one.outcome, Delivered):
        return State.DELIVERED
    return State.BOUNCED if isinstance(one.outcome, Bounced) else State.QUEUED


def _attempt_row(one: Settled) -> Row:
    made, answer = one.attempt, one.attempt.answer
    code, enhanced, text = (
        (answer.code, answer.enhanced, answer.text)
        if isinstance(answer, Reply)
        else (None, None, answer.reason)
    )
    return (
        one.message.id,
        one.recipient.number,
        one.recipient.attempts + 1,
        made.at,
        type(one.outcome).__name__.lower(),
        made.phase.value,
        made.host,
        made.tls,
        code,
        enhanced,
        text,
        made.duration_us,
    )


def _outbox_rows(settled: Sequence[Settled], next_id: Callable[[], int]) -> list[dict[str, Any]]:
    """One row for the recipients of a message that were delivered, failed or are late together."""
    together: dict[tuple[int, str], list[Settled]] = defaultdict(list)
    for one in settled:
        kind = _kind(one)
        if kind is not None:
            together[one.message.id, kind].append(one)
    return [_outbox_row(next_id(), kind, group) for (_, kind), group in together.items()]


def _kind(one: Settled) -> str | None:
    """What somebody is to be told of it: always of a failure, else if it is due or somebody listens."""
    outcome, listened = one.outcome, one.message.events
    if isinstance(outcome, Bounced):
        return "bounce"
    if isinstance(outcome, Delivered):
        return "delivery" if DELIVERY in listened else None
    return "delay" if outcome.delay_notice or DELIVERY_DELAY in listened else None


def _outbox_row(outbox_id: int, kind: str, group: Sequence[Settled]) -> dict[str, Any]:
    of, at = group[0].message, group[0].ended_at
    return new_row(outbox_id, of.account_id, of.id, kind, [_notice(one) for one in group], at)


def _notice(one: Settled) -> dict[str, Any]:
    answer, outcome = one.attempt.answer, one.outcome
    notice: dict[str, Any] = {
        "address": one.recipient.address,
        "status": outcome.status if isinstance(outcome, Bounced) else None,
        "expired": isinstance(outcome, Bounced) and outcome.expired,
        "code": answer.code if isinstance(answer, Reply) else None,
        "enhanced": answer.enhanced if isinstance(answer, Reply) else None,
        "text": answer.text if isinstance(answer, Reply) else answer.reason,
        "host": one.attempt.host,
        "phase": one.attempt.phase.value,
        "at": one.attempt.at,
        "attempts": one.recipient.attempts + 1,
        "tls": one.attempt.tls,
        "local": one.attempt.local,
        "notice": isinstance(outcome, Deferred) and outcome.delay_notice,
    }
    if one.is_simulated and isinstance(outcome, Bounced):
        kind = kind_of(box_of(one.recipient.address))
        notice["kind"] = [kind.type, kind.subtype]
    return notice
