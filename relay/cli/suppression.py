"""``relay suppression``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from relay.cli.context import on_store, read_file
from relay.cli.output import instant, show_record

if TYPE_CHECKING:
    from relay.control.ground import Ground
    from relay.control.suppression import Entry

_account = click.option("--account", "account_id", metavar="ID", required=True, help="The sender's account.")
_REASON = click.Choice(["bounce", "complaint"])
_reason = click.option("--reason", type=_REASON, help="Only those for this reason.")
_since = click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]),
    help="Only those that got on it since, UTC: 2026-12-31 or 2026-12-31T23:59:00Z.",
)


@click.group(name="suppression")
def command() -> None:
    """Addresses that an account no longer sends to, because they bounced or complained."""


@command.command(name="list")
@_account
@_reason
@_since
@click.option("--limit", type=click.IntRange(1), help="At most so many. [default: all]")
@on_store
def list_(
    ground: Ground,
    as_json: bool,
    account_id: str,
    reason: str | None,
    since: datetime | None,
    limit: int | None,
) -> None:
    """Show the list, in the order of its addresses."""
    from relay.control import suppression

    found = suppression.entries(ground, account_id, _upper(reason), _microseconds(since), limit)
    for line in _json_array(found) if as_json else _table(found):
        click.echo(line)


def _upper(reason: str | None) -> str | None:
    return None if reason is None else reason.upper()


def _microseconds(since: datetime | None) -> int:
    return 0 if since is None else int(since.replace(tzinfo=UTC).timestamp()) * 1_000_000


def _table(found: Iterable[Entry]) -> Iterator[str]:
    """A line for each as it is read: a list may have millions, whose width nobody knows."""
    is_empty = True
    for entry in found:
        is_empty = False
        because = f"  {_message(entry)}" if entry.message_id is not None else ""
        yield f"{entry.reason:<9}  {instant(entry.at)}  {entry.address}{because}"
    if is_empty:
        yield "none"


def _json_array(found: Iterable[Entry]) -> Iterator[str]:
    before = "["
    for entry in found:
        yield before
        yield json.dumps(_record(entry))
        before = ","
    yield "[]" if before == "[" else "]"


def _record(entry: Entry) -> dict[str, Any]:
    return {
        "address": entry.address,
        "reason": entry.reason,
        "at": entry.at,
        "message_id": _message(entry),
    }


def _message(entry: Entry) -> str | None:
    from relay.submission.identifiers import ses_message_id

    return None if entry.message_id is None else ses_message_id(entry.message_id)


@command.command(name="add")
@click.argument("address")
@_account
@click.option("--reason", type=_REASON, default="bounce", show_default=True, help="Why.")
@on_store
def add(ground: Ground, as_json: bool, address: str, account_id: str, reason: str) -> None:
    """Send no more to an address."""
    from relay.control import suppression

    entry = suppression.add(ground, account_id, address, reason.upper())
    record = _record(entry)
    show_record(record if as_json else {**record, "at": instant(entry.at)}, as_json=as_json)


@command.command(name="remove")
@click.argument("address")
@_account
@on_store
def remove(ground: Ground, as_json: bool, address: str, account_id: str) -> None:
    """Send to an address again."""
    from relay.control import suppression

    suppression.remove(ground, account_id, address)
    show_record({"address": address, "status": "removed"}, as_json=as_json)


@command.command(name="import")
@click.argument("file")
@_account
@on_store
def import_(ground: Ground, as_json: bool, file: str, account_id: str) -> None:
    """Add the addresses of a FILE (- for standard input), all or none: lines of ADDRESS,REASON or of JSON."""
    from relay.control import suppression

    count = suppression.import_(ground, account_id, read_file(file).splitlines())
    show_record({"imported": count}, as_json=as_json)


@command.command(name="export")
@_account
@_reason
@_since
@on_store
def export(
    ground: Ground, as_json: bool, account_id: str, reason: str | None, since: datetime | None
) -> None:
    """Write the list as lines of ADDRESS,REASON (with --json: of JSON), as import reads them."""
    from relay.control import suppression

    write = suppression.json_line if as_json else suppression.csv_line
    for entry in suppression.entries(ground, account_id, _upper(reason), _microseconds(since)):
        click.echo(write(entry))
