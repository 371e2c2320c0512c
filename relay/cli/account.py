"""``relay account``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from relay.cli.context import on_store, reasons
from relay.cli.output import instant, show_json, show_record, show_table

if TYPE_CHECKING:
    from relay.control.accounts import AccountRow, Standing
    from relay.control.ground import Ground
    from relay.control.reputation import Record

_COUNT = click.IntRange(min=-1)
_DAY = click.option("--max-24h-send", type=_COUNT, help="Recipients in 24 hours; -1 is no limit.")
_RATE = click.option("--max-send-rate", type=_COUNT, help="Recipients a second; -1 is no limit.")


@click.group(name="account")
def command() -> None:
    """Accounts: who carries quota and usage."""


def _show(ground: Ground, account_id: str, as_json: bool) -> None:
    from relay.control import accounts

    standing = accounts.standing(ground, account_id)
    shown = _record(standing) if as_json else _readable(standing)
    show_record(shown, as_json=as_json)


def _record(standing: Standing) -> dict[str, Any]:
    return {
        **_fields(standing.row),
        **asdict(standing.quota),
        "sent_24h": standing.sent_24h,
        "left_24h": standing.left_24h,
        "reputation": _reputation(standing.record),
        "identities": [line.as_record() for line in standing.identities],
    }


def _fields(row: AccountRow) -> dict[str, Any]:
    """What an account was given; how its reputation is kept in mind is no affair of readers."""
    given = {name: value for name, value in asdict(row).items() if not name.startswith("reputation")}
    return {**given, "suppressed_reasons": json.loads(row.suppressed_reasons)}


def _readable(standing: Standing) -> dict[str, Any]:
    record = _record(standing)
    limits = {name: _limit(record[name]) for name in ("max_24h_send", "max_send_rate", "left_24h")}
    return {**record, **limits, "created_at": instant(standing.row.created_at)}


def _reputation(record: Record) -> dict[str, Any]:
    counts, judgement = record.counts, record.judgement
    return {
        "status": judgement.status.value,
        "reason": judgement.reason or None,
        "recipients": counts.settled,
        "bounce_percent": counts.bounce_percent,
        "complaint_percent": counts.complaint_percent,
    }


def _limit(recipients: int) -> int | str:
    return "unlimited" if recipients < 0 else recipients


@command.command(name="create")
@click.argument("name")
@click.option("--id", "account_id", help="Twelve digits; else chosen by chance.")
@click.option("--production", is_flag=True, help="Out of the sandbox: sends to anyone.")
@_DAY
@_RATE
@on_store
def create(ground: Ground, as_json: bool, **values: Any) -> None:
    """Make an account."""
    from relay.control import accounts

    show_record({"account_id": accounts.create(ground, **values).account_id}, as_json=as_json)


@command.command(name="list")
@on_store
def list_(ground: Ground, as_json: bool) -> None:
    """List all accounts."""
    from relay.control import accounts

    rows = accounts.every(ground)
    quotas = {row.account_id: accounts.quota_of(ground, row) for row in rows}
    if as_json:
        show_json([{**_fields(row), **asdict(quotas[row.account_id])} for row in rows])
        return
    show_table(
        [
            {
                "account": row.account_id,
                "name": row.name,
                "production": row.production,
                "paused": row.paused,
                "24 h": _limit(quotas[row.account_id].max_24h_send),
                "per second": _limit(quotas[row.account_id].max_send_rate),
            }
            for row in rows
        ],
        as_json=False,
    )


@command.command(name="show")
@click.argument("account_id", metavar="ID")
@on_store
def show(ground: Ground, as_json: bool, account_id: str) -> None:
    """Show one account: what of its quota is used, and how its mail fared in the days of its reputation."""
    _show(ground, account_id, as_json)


@command.command(name="update")
@click.argument("account_id", metavar="ID")
@click.option("--name", help="Another name.")
@click.option("--production/--sandbox", default=None, help="Out of the sandbox, or back into it.")
@_DAY
@_RATE
@click.option(
    "--suppress",
    "suppressed_reasons",
    metavar="bounce,complaint|none",
    callback=reasons,
    help="What gets an address on the account's suppression list.",
)
@on_store
def update(ground: Ground, as_json: bool, account_id: str, **values: Any) -> None:
    """Change what is named; the rest stays."""
    from relay.control import accounts

    accounts.update(ground, account_id, **values)
    _show(ground, account_id, as_json)


@command.command(name="pause")
@click.argument("account_id", metavar="ID")
@click.option("--reason", default="", help="Shown by `account show`.")
@on_store
def pause(ground: Ground, as_json: bool, account_id: str, reason: str) -> None:
    """Refuse all mail of the account until it is resumed."""
    from relay.control import accounts

    accounts.pause(ground, account_id, reason)
    _show(ground, account_id, as_json)


@command.command(name="resume")
@click.argument("account_id", metavar="ID")
@on_store
def resume(ground: Ground, as_json: bool, account_id: str) -> None:
    """Take mail of the account again."""
    from relay.control import accounts

    accounts.resume(ground, account_id)
    _show(ground, account_id, as_json)
