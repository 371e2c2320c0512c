"""Which machines share the store: each under a name of its own, with the settings that all must agree on.

A node says at its start, and when it reads its settings anew, what it goes by.  One counts as present while
one of its workers lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from sqlalchemy import Connection, delete, insert, select

from relay.queue import workers
from relay.store.tables import meta, worker

_PREFIX = "node:"


class NameTaken(Exception):
    """Another installation lives under our name."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting in which another node that is present does not agree with us."""

    node: str
    setting: str
    theirs: str
    ours: str


def enter(connection: Connection, node: str, installation: str, shared: Mapping[str, str]) -> None:
    """Be the node of that name; NameTaken if another ``installation`` (a state directory's id) is."""
    before = _said(connection).get(node)
    if before is not None and before["installation"] != installation and node in _present(connection):
        raise NameTaken(node)
    name = f"{_PREFIX}{sha256(node.encode()).hexdigest()[:32]}"  # a node's may be as long as the column
    value = {"node": node, "installation": installation, "settings": dict(shared)}
    connection.execute(delete(meta).where(meta.c.name == name))
    connection.execute(insert(meta), [{"name": name, "value": orjson.dumps(value).decode()}])


def differences(connection: Connection, node: str, shared: Mapping[str, str]) -> list[Difference]:
    """Where the other nodes that are present go by other settings; one of an older release says none."""
    present = _present(connection) - {node}
    said = _said(connection)
    return [
        Difference(other, setting, theirs, shared[setting])
        for other in sorted(present & said.keys())
        for setting, theirs in said[other]["settings"].items()
        if setting in shared and shared[setting] != theirs
    ]


def _said(connection: Connection) -> dict[str, dict[str, Any]]:
    values = connection.execute(select(meta.c.value).where(meta.c.name.startswith(_PREFIX))).scalars()
    return {said["node"]: said for said in map(orjson.loads, values)}


def _present(connection: Connection) -> set[str]:
    return set(connection.execute(select(worker.c.node).where(workers.is_alive(connection))).scalars())
