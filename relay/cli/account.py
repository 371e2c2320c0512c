"""``relay account``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from relay.cli.context import on_store
from relay.cli.output import instant, show_json, show_record, show_table

if TYPE_CHECKING:
    from relay.control.accounts import AccountRow
    from relay.control.ground import Ground

_COUNT = click.IntRange(min=0)


@click.group(name="account")
def command() -> None:
    """Accounts: who carries quota and usage."""


def _shown(row: AccountRow) -> dict[str, Any]:
    return {**asdict(row), "created_at": instant(row.created_at)}


def _show(row: AccountRow, as_json: bool) -> None:
    show_record(asdict(row) if as_json else _shown(row), as_json=as_json)


@command.command(name="create")
@click.argument("name")
@click.option("--id", "account_id", help="Twelve digits; else chosen by chance.")
@click.option("--production", is_flag=True, help="Out of the sandbox: sends to anyone.")
@click.option("--max-24h-send", type=_COUNT, help="Recipients in 24 hours.")
@click.option("--max-send-rate", type=_COUNT, help="Recipients a second.")
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
    if as_json:
        show_json([asdict(row) for row in rows])
        return
    show_table(
        [
            {
                "account": row.account_id,
                "name": row.name,
                "production": row.production,
                "paused": row.paused,
                "24 h": row.max_24h_send,
                "per second": row.max_send_rate,
            }
            for row in rows
        ],
        as_json=False,
    )


@command.command(name="show")
@click.argument("account_id", metavar="ID")
@on_store
def show(ground: Ground, as_json: bool, account_id: str) -> None:
    """Show one account."""
    from relay.control import accounts

    _show(accounts.get(ground, account_id), as_json)


@command.command(name="update")
@click.argument("account_id", metavar="ID")
@click.option("--name", help="Another name.")
@click.option("--production/--sandbox", default=None, help="Out of the sandbox, or back into it.")
@click.option("--max-24h-send", type=_COUNT, help="Recipients in 24 hours.")
@click.option("--max-send-rate", type=_COUNT, help="Recipients a second.")
@on_store
def update(ground: Ground, as_json: bool, account_id: str, **values: Any) -> None:
    """Change what is named; the rest stays."""
    from relay.control import accounts

    _show(accounts.update(ground, account_id, **values), as_json)


@command.command(name="pause")
@click.argument("account_id", metavar="ID")
@click.option("--reason", default="", help="Shown by `account show`.")
@on_store
def pause(ground: Ground, as_json: bool, account_id: str, reason: str) -> None:
    """Refuse all mail of the account until it is resumed."""
    from relay.control import accounts

    _show(accounts.pause(ground, account_id, reason), as_json)


@command.command(name="resume")
@click.argument("account_id", metavar="ID")
@on_store
def resume(ground: Ground, as_json: bool, account_id: str) -> None:
    """Take mail of the account again."""
    from relay.control import accounts

    _show(accounts.resume(ground, account_id), as_json)
