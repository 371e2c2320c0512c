"""``relay queue``: what waits to be delivered."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from relay.cli.output import age, instant


@click.group(name="queue")
def command() -> None:
    """Look at mail that waits to be delivered."""


@command.command(name="list")
@click.option("--config", type=click.Path(path_type=Path), envvar="RELAY_CONFIG", help="The settings file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
def list_(config: Path | None, as_json: bool, limit: int) -> None:
    """List recipients in the queue, the next due first."""
    from relay.cli.context import open_ground
    from relay.cli.output import show_table
    from relay.control.overview import list_queue

    with open_ground(config) as ground:
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
