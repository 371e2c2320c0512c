"""Who may hold recipients: a row per worker process, with a heartbeat and an epoch.

A process takes a row and raises its epoch; whatever was leased under an older epoch is nobody's.  The
supervisor marks a dead process's row at once; a node that vanished is noticed by its heartbeat, which the
others watch (``Vigil``).  What is due goes by the server's clock on PostgreSQL, since the nodes' may differ.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    func,
    insert,
    not_,
    select,
    text,
    update,
)

from relay.outcome.transitions import State
from relay.queue.values import Lease
from relay.store.prepared import Prepared, spelled
from relay.store.tables import notification, outbox, recipient, worker

# So long after its last word the others have what a dead process held.
LEASE_SECONDS = 30
HEARTBEAT_SECONDS = 5
# Who says nothing for so long has lost its lease, and knows it; the rest is for the others to look.
SILENT_SECONDS = 24
# Whoever watches looks more often than this; what lies between two looks further apart, nobody saw.
_LONGEST_GAP_SECONDS = 10.0
# Any constant will do, as long as nobody else takes the same advisory lock in this database.
_REGISTRATION_LOCK = 0x776F726B6572
# Ten bits of an id name the worker; 0 is the control plane's.
_MOST_WORKERS = 1023


def _is_leased(table: Table) -> ColumnElement[bool]:
    return table.c.state == spelled(State.LEASED.value)


_RUNNING = Prepared(select(worker.c.id, worker.c.epoch, worker.c.heartbeat_at).where(worker.c.running))
_HOLDERS = {
    table: Prepared(select(table.c.worker_id, table.c.worker_epoch).where(_is_leased(table)).distinct())
    for table in (recipient, outbox, notification)
}
_SERVER_TIME = Prepared(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))


class NoWorkerLeft(Exception):
    """All 1,023 worker numbers are taken by running processes."""


def now(connection: Connection) -> int:
    """Microseconds UTC by the clock that what is due goes by."""
    if connection.dialect.name == "postgresql":
        ((at,),) = _SERVER_TIME(connection).fetchall()
        return int(at)
    return time.time_ns() // 1000


def retire_node(connection: Connection, node: str) -> None:
    """No process of this node runs: said by a supervisor that holds the instance lock, at its start."""
    connection.execute(update(worker).where(worker.c.node == node).values(running=False))


def register(connection: Connection, node: str) -> Lease:
    """Take a worker's row and make everything leased under its former epochs nobody's."""
    if connection.dialect.name == "postgresql":  # two that start at once would make the same new row
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _REGISTRATION_LOCK})
    at = now(connection)
    free = select(worker.c.id, worker.c.epoch).where(not_(worker.c.running)).order_by(worker.c.id).limit(1)
    row = connection.execute(free.with_for_update()).first()
    if row is None:
        return _register_new(connection, node, at)
    values = {"node": node, "epoch": row.epoch + 1, "heartbeat_at": at, "running": True}
    connection.execute(update(worker).where(worker.c.id == row.id).values(values))
    return Lease(row.id, row.epoch + 1)


def _register_new(connection: Connection, node: str, at: int) -> Lease:
    highest = connection.execute(select(func.coalesce(func.max(worker.c.id), 0))).scalar_one()
    if highest >= _MOST_WORKERS:
        raise NoWorkerLeft
    row = {"id": highest + 1, "node": node, "epoch": 1, "heartbeat_at": at, "running": True}
    connection.execute(insert(worker), [row])
    return Lease(highest + 1, 1)


def retire(connection: Connection, lease: Lease) -> None:
    """The process is gone: what it held may be taken at once."""
    held = and_(worker.c.id == lease.worker_id, worker.c.epoch == lease.epoch)
    connection.execute(update(worker).where(held).values(running=False))


def beat(connection: Connection, lease: Lease) -> bool:
    """Say that we live.  False if the row is no longer ours: the process must end."""
    held = and_(worker.c.id == lease.worker_id, worker.c.epoch == lease.epoch, worker.c.running)
    return connection.execute(update(worker).where(held).values(heartbeat_at=now(connection))).rowcount == 1


def is_alive(connection: Connection) -> ColumnElement[bool]:
    """Of a worker's row: a process stands behind it."""
    return and_(worker.c.running, worker.c.heartbeat_at > now(connection) - LEASE_SECONDS * 1_000_000)


class Vigil:
    """Who is silent: whose heartbeat stood still for too long while we looked on.

    It looks at no wall clock, so that none that jumps, ours or the server's, makes anybody dead.  Nor does
    time in which we did not look: a store that was away, or a machine that slept, let nobody beat.
    """

    def __init__(self) -> None:
        self._looked_at = 0.0
        self._silent: dict[Lease, tuple[int, float]] = {}

    def look(self, heartbeats: Mapping[Lease, int], at: float) -> list[Lease]:
        """Those of the running that are silent; ``at`` is in seconds of a steady clock."""
        passed = min(at - self._looked_at, _LONGEST_GAP_SECONDS)
        self._looked_at = at
        self._silent = {
            lease: (heartbeat, self._seconds(lease, heartbeat, passed))
            for lease, heartbeat in heartbeats.items()
        }
        return [lease for lease, (_, seconds) in self._silent.items() if seconds >= SILENT_SECONDS]

    def _seconds(self, lease: Lease, heartbeat: int, passed: float) -> float:
        before, seconds = self._silent.get(lease, (None, 0.0))
        return seconds + passed if heartbeat == before else 0.0


def watch(connection: Connection, vigil: Vigil) -> int:
    """Retire who is silent, then reclaim."""
    rows = _RUNNING(connection).fetchall()
    heartbeats = {Lease(worker_id, epoch): heartbeat_at for worker_id, epoch, heartbeat_at in rows}
    for lease in vigil.look(heartbeats, time.monotonic()):
        retire(connection, lease)
    return reclaim(connection)


def reclaim(connection: Connection) -> int:
    """Put back into the queue what dead workers held; gives the number of recipients."""
    at = now(connection)
    living = {(worker_id, epoch) for worker_id, epoch, _ in _RUNNING(connection).fetchall()}
    reclaimed = 0
    for table, holders in _HOLDERS.items():
        for worker_id, epoch in set(holders(connection).fetchall()) - living:
            held = and_(_is_leased(table), table.c.worker_id == worker_id, table.c.worker_epoch == epoch)
            result = connection.execute(update(table).where(held).values(state=State.QUEUED.value, due_at=at))
            reclaimed += result.rowcount
    return reclaimed
