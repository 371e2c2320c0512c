"""What senders are told of recipients that ended in the queue itself, where no next hop said anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from relay.queue.event_rows import insert_events, new_row


@dataclass(frozen=True, slots=True)
class End:
    """When it came (microseconds UTC), its RFC 3463 code, and why, in words for the sender."""

    at: int
    status: str
    text: str


def report(connection: Connection, rows: Sequence[Row[Any]], end: End, next_id: Callable[[], int]) -> None:
    """A report for each message, about those of its recipients; ``rows`` are the recipients' own."""
    together: dict[int, list[Row[Any]]] = {}
    for row in rows:
        together.setdefault(row.message_id, []).append(row)
    new = [
        new_row(next_id(), group[0].account_id, one, "bounce", [_notice(row, end) for row in group], end.at)
        for one, group in together.items()
    ]
    insert_events(connection, new)


def _notice(row: Row[Any], end: End) -> dict[str, Any]:
    """As the settlement words it."""
    return {
        "address": row.address,
        "status": end.status,
        "expired": False,
        "code": None,
        "enhanced": None,
        "text": end.text,
        "host": "this relay",
        "phase": "queue",
        "at": end.at,
        "attempts": row.attempts,
    }
