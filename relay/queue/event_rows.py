"""Event rows: that something happened to a message, written in the transaction in which it happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection

from relay.outcome.transitions import State
from relay.store.prepared import RowInsert
from relay.store.tables import outbox

_COLUMNS = (
    *("id", "account_id", "message_id", "kind", "payload", "created_at", "due_at", "attempts", "state"),
    *("worker_id", "worker_epoch"),
)
_INSERT = RowInsert(outbox, *_COLUMNS)


def insert_events(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of the outbox down, in the caller's transaction."""
    _INSERT(connection, [tuple([row[name] for name in _COLUMNS]) for row in rows])


def new_row(
    row_id: int, account_id: str, message_id: int, kind: str, recipients: Sequence[dict[str, Any]], at: int
) -> dict[str, Any]:
    """A row of the outbox, due at once; what ``recipients`` hold is read by ``relay.outcome.event_rows``."""
    return {
        "id": row_id,
        "account_id": account_id,
        "message_id": message_id,
        "kind": kind,
        "payload": orjson.dumps(recipients).decode(),
        "created_at": at,
        "due_at": at,
        "attempts": 0,
        "state": State.QUEUED.value,
        "worker_id": 0,
        "worker_epoch": 0,
    }
