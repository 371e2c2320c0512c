"""``relay ledger``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from relay.cli.context import on_store
from relay.cli.output import instant, show_record, show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground
    from relay.control.ledger import Sealed

_identity = click.option("--identity", "arn", metavar="ARN", required=True, help="Whose name it was done in.")
_SINCE = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


@click.group(name="ledger")
def command() -> None:
    """What happened in an identity's name, sealed entry by entry."""


@command.command(name="show")
@_identity
@click.option(
    "--since", type=_SINCE, metavar="DATE", help="Only since this day, or 2026-11-25T14:00:00; UTC."
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1_000_000))
@on_store
def show(ground: Ground, as_json: bool, arn: str, since: datetime | None, limit: int) -> None:
    """Show grants, changes, accepted and refused messages, the newest first."""
    from relay.control import ledger

    found = ledger.newest(ground, arn, limit, since)
    if as_json:
        show_table([_record(one) for one in found], as_json=True)
        return
    rows = [
        {
            "seq": "-" if one.seq is None else one.seq,
            "at": instant(one.entry.at),
            "kind": one.entry.kind,
            "detail": one.entry.detail,
        }
        for one in found
    ]
    show_table(rows, as_json=False)


def _record(one: Sealed) -> dict[str, Any]:
    entry = {**asdict(one.entry), "detail": json.loads(one.entry.detail)}
    return {"seq": one.seq, **entry, "hash": one.hash}


@command.command(name="verify")
@_identity
@on_store
def verify(ground: Ground, as_json: bool, arn: str) -> None:
    """Follow the chain from its first entry; ends with 1 at an entry that is not as it was sealed."""
    from relay.control import ledger

    verified, waiting = ledger.verify(ground, arn)
    record = {
        "identity_arn": arn,
        "intact": verified.fault is None,
        "fault": verified.fault,
        "entries": verified.seq,
        "hash": verified.hash,
        "not_sealed_yet": waiting,
    }
    show_record(record, as_json=as_json)
    if verified.fault is not None:
        sys.exit(1)


@command.command(name="export")
@_identity
@on_store
def export(ground: Ground, as_json: bool, arn: str) -> None:
    """Print every sealed entry as a line of JSON, from the first on; docs/ledger.md says how to verify it."""
    from relay.control import ledger

    for line in ledger.export(ground, arn):
        click.echo(line)
