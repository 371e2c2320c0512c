"""Event rows: that something happened to a message, written in the transaction in which it happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from relay.outcome.transitions import State


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
