"""``relay audit``: who changed what."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from relay.cli.context import on_store
from relay.cli.output import instant, show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground


@click.command(name="audit")
@click.option("--days", type=click.FloatRange(min=0), help="Only of the last so many days.")
@click.option("--subject", metavar="TEXT", help="Only of what has this in its name, such as a domain.")
@click.option("--action", metavar="NAME", help="Only this, such as PutIdentityPolicy.")
@click.option("--actor", metavar="NAME", help="Only by this one, such as cli:root.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000_000))
@on_store
def command(ground: Ground, as_json: bool, days: float | None, **filters: Any) -> None:
    """Show changes of accounts, users, credentials, identities and policies, the newest first."""
    from relay.control import audit

    found = audit.entries(ground, timedelta(days=days) if days is not None else None, **filters)
    if as_json:
        show_table([asdict(one) for one in found], as_json=True)
        return
    rows = [
        {
            "at": instant(one.at),
            "actor": one.actor,
            "action": one.action,
            "subject": one.subject,
            "detail": json.dumps(one.detail, ensure_ascii=False) if one.detail else "",
        }
        for one in found
    ]
    show_table(rows, as_json=False)
