"""``relay configuration-set``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from relay.cli.context import on_store, reasons_or_account
from relay.cli.output import instant, show_record, show_table

if TYPE_CHECKING:
    from relay.control.configuration_sets import ConfigurationSetRow
    from relay.control.ground import Ground

_account = click.option("--account", "account_id", metavar="ID", required=True, help="The sender's account.")
_TLS_POLICY = click.Choice(["optional", "require"])
_TLS_HELP = "require: no next hop gets its mail without TLS."


@click.group(name="configuration-set")
def command() -> None:
    """Configuration sets: what an account fixes for the mail that names one."""


def _show(row: ConfigurationSetRow, as_json: bool) -> None:
    record: dict[str, Any] = asdict(row)
    del record["id"]
    if row.suppressed_reasons is not None:
        record["suppressed_reasons"] = json.loads(row.suppressed_reasons)
    if not as_json:
        record["created_at"] = instant(row.created_at)
    show_record(record, as_json=as_json)


@command.command(name="create")
@click.argument("name")
@_account
@click.option("--tls-policy", type=_TLS_POLICY, default="optional", show_default=True, help=_TLS_HELP)
@on_store
def create(ground: Ground, as_json: bool, name: str, account_id: str, tls_policy: str) -> None:
    """Make a configuration set; mail names it in X-SES-CONFIGURATION-SET."""
    from relay.control import configuration_sets

    _show(configuration_sets.create(ground, account_id, name, tls_policy.upper()), as_json)


@command.command(name="list")
@click.option("--account", "account_id", metavar="ID", help="Only those of this account.")
@on_store
def list_(ground: Ground, as_json: bool, account_id: str | None) -> None:
    """List configuration sets."""
    from relay.control import configuration_sets

    rows = [asdict(row) for row in configuration_sets.every(ground, account_id)]
    columns = ("account_id", "name", "sending_enabled", "tls_policy")
    show_table([{name: row[name] for name in columns} for row in rows], as_json=as_json)


@command.command(name="show")
@click.argument("name")
@_account
@on_store
def show(ground: Ground, as_json: bool, name: str, account_id: str) -> None:
    """Show one configuration set."""
    from relay.control import configuration_sets

    _show(configuration_sets.show(ground, account_id, name), as_json)


@command.command(name="update")
@click.argument("name")
@_account
@click.option("--tls-policy", type=_TLS_POLICY, help=_TLS_HELP)
@click.option("--sending/--no-sending", "sending_enabled", default=None, help="Take mail that names it.")
@on_store
def update(
    ground: Ground,
    as_json: bool,
    name: str,
    account_id: str,
    tls_policy: str | None,
    sending_enabled: bool | None,
) -> None:
    """Change what is named, for mail accepted from now on."""
    from relay.control import configuration_sets

    policy = tls_policy.upper() if tls_policy else None
    _show(configuration_sets.update(ground, account_id, name, policy, sending_enabled), as_json)


@command.command(name="suppress")
@click.argument("name")
@click.argument("reasons", metavar="bounce,complaint|none|account", callback=reasons_or_account)
@_account
@on_store
def suppress(
    ground: Ground, as_json: bool, name: str, reasons: frozenset[str] | None, account_id: str
) -> None:
    """What keeps the set's mail from an address and gets it on the suppression list; "account": as there."""
    from relay.control import configuration_sets

    _show(configuration_sets.suppress(ground, account_id, name, reasons), as_json)


@command.command(name="delete")
@click.argument("name")
@_account
@on_store
def delete(ground: Ground, as_json: bool, name: str, account_id: str) -> None:
    """Remove a configuration set; mail that names it is refused from then on."""
    from relay.control import configuration_sets

    row = configuration_sets.delete(ground, account_id, name)
    show_record({"account_id": row.account_id, "deleted": row.name}, as_json=as_json)
