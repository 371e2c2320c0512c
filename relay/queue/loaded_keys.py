"""Which keys each running worker has loaded, so that none is used before every worker has it.

A worker says so when it registers and whenever it has read its key file anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, delete, insert, select

from relay.queue import workers
from relay.queue.values import Lease
from relay.store.tables import meta, worker

_PREFIX = "keys:"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A running worker, the ids of its keys, and under which one it seals; None for an older release's."""

    worker_id: int
    node: str
    key_ids: frozenset[str]
    current: str | None


def announce(connection: Connection, lease: Lease, key_ids: tuple[str, ...], current: str) -> None:
    name = f"{_PREFIX}{lease.worker_id}"
    value = orjson.dumps({"epoch": lease.epoch, "keys": key_ids, "current": current}).decode()
    connection.execute(delete(meta).where(meta.c.name == name))
    connection.execute(insert(meta), [{"name": name, "value": value}])


def running(connection: Connection) -> list[Loaded]:
    """What every worker that runs has loaded."""
    said = dict(
        connection.execute(select(meta.c.name, meta.c.value).where(meta.c.name.startswith(_PREFIX))).all()
    )
    query = select(worker.c.id, worker.c.epoch, worker.c.node).where(workers.is_alive(connection))
    return [
        _loaded(row.id, row.epoch, row.node, said.get(f"{_PREFIX}{row.id}"))
        for row in connection.execute(query.order_by(worker.c.id))
    ]


def lacking(connection: Connection, key_id: str) -> list[Loaded]:
    """The running workers that could open nothing under the key."""
    return [one for one in running(connection) if key_id not in one.key_ids]


def _loaded(worker_id: int, epoch: int, node: str, said: str | None) -> Loaded:
    found = orjson.loads(said) if said else {}
    if found.get("epoch") != epoch:
        return Loaded(worker_id, node, frozenset(), None)
    return Loaded(worker_id, node, frozenset(found["keys"]), found["current"])


def forget(connection: Connection) -> None:
    """What is said there is of no worker of this store: it was restored from a backup."""
    connection.execute(delete(meta).where(meta.c.name.startswith(_PREFIX)))
