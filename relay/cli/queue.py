"""``relay queue``: what waits to be delivered."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from relay.cli.context import on_store
from relay.cli.output import age, instant, show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground


@click.group(name="queue")
def command() -> None:
    """Look at mail that waits to be delivered."""


@command.command(name="list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
@on_store
def list_(ground: Ground, as_json: bool, limit: int) -> None:
    """List recipients in the queue, the next due first."""
    from relay.control.overview import list_queue

    rows = list_queue(ground.store, limit)
    if as_json:
        show_table([asdict(row) for row in rows], as_json=True)
        return
    show_table(
        [
            {
                "message": row.message_id,
                "recipient": row.recipient,
                "state": row.state,
                "age": age(row.received_at),
                "attempts": row.attempts,
                "next attempt": instant(row.due_at),
                "last reply": row.last_reply or "",
            }
            for row in rows
        ],
        as_json=False,
    )
