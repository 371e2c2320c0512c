"""``relay configuration-set``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from relay.cli.context import on_store, reasons_or_account
from relay.cli.output import instant, show_record, show_table

if TYPE_CHECKING:
    from relay.control.configuration_sets import SetView
    from relay.control.ground import Ground

_account = click.option("--account", "account_id", metavar="ID", required=True, help="The sender's account.")
_tls_policy = click.option(
    "--tls-policy",
    type=click.Choice(["optional", "require"]),
    help="require: no next hop gets its mail without TLS; optional unless given.",
)
_max_delivery_seconds = click.option(
    "--max-delivery-seconds",
    type=int,
    help="For how long its mail is tried, 300 to 50400; as long as other mail unless given.",
)


@click.group(name="configuration-set")
def command() -> None:
    """Configuration sets: what an account fixes for the mail that names one."""


def _show(view: SetView, as_json: bool) -> None:
    record: dict[str, Any] = asdict(view.row)
    del record["id"]
    if view.row.suppressed_reasons is not None:
        record["suppressed_reasons"] = json.loads(view.row.suppressed_reasons)
    record["destinations"] = [
        {
            "name": one.name,
            "enabled": one.enabled,
            "events": sorted(one.event_types),
            "topic": one.topic_arn,
        }
        for one in view.destinations
    ]
    if not as_json:
        reasons = record["suppressed_reasons"]
        record["suppressed_reasons"] = "as the account" if reasons is None else reasons or "none"
        record["created_at"] = instant(view.row.created_at)
    show_record(record, as_json=as_json)


@command.command(name="create")
@click.argument("name")
@_account
@_tls_policy
@_max_delivery_seconds
@on_store
def create(
    ground: Ground,
    as_json: bool,
    name: str,
    account_id: str,
    tls_policy: str | None,
    max_delivery_seconds: int | None,
) -> None:
    """Make a configuration set; mail names it in X-SES-CONFIGURATION-SET."""
    from relay.control import configuration_sets

    options = configuration_sets.Options(_upper(tls_policy), None, max_delivery_seconds)
    _show(configuration_sets.create(ground, account_id, name, options), as_json)


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
    """Show one configuration set with its event destinations."""
    from relay.control import configuration_sets

    _show(configuration_sets.show(ground, account_id, name), as_json)


@command.command(name="update")
@click.argument("name")
@_account
@_tls_policy
@click.option("--sending/--no-sending", "sending_enabled", default=None, help="Take mail that names it.")
@_max_delivery_seconds
@on_store
def update(
    ground: Ground,
    as_json: bool,
    name: str,
    account_id: str,
    tls_policy: str | None,
    sending_enabled: bool | None,
    max_delivery_seconds: int | None,
) -> None:
    """Change what is named, for mail accepted from now on."""
    from relay.control import configuration_sets

    options = configuration_sets.Options(_upper(tls_policy), sending_enabled, max_delivery_seconds)
    _show(configuration_sets.update(ground, account_id, name, options), as_json)


def _upper(word: str | None) -> str | None:
    return word.upper() if word else None


@command.command(name="pause")
@click.argument("name")
@_account
@on_store
def pause(ground: Ground, as_json: bool, name: str, account_id: str) -> None:
    """Refuse mail that names the set, until it is resumed."""
    _switch(ground, as_json, name, account_id, sending_enabled=False)


@command.command(name="resume")
@click.argument("name")
@_account
@on_store
def resume(ground: Ground, as_json: bool, name: str, account_id: str) -> None:
    """Take mail that names the set again."""
    _switch(ground, as_json, name, account_id, sending_enabled=True)


def _switch(ground: Ground, as_json: bool, name: str, account_id: str, *, sending_enabled: bool) -> None:
    from relay.control import configuration_sets

    options = configuration_sets.Options(sending_enabled=sending_enabled)
    _show(configuration_sets.update(ground, account_id, name, options), as_json)


@command.command(name="destination")
@click.argument("name")
@click.argument("destination")
@_account
@click.option("--topic", "topic_arn", metavar="TOPIC_ARN", help="A topic of the same account.")
@click.option("--events", metavar="TYPES", help="Of send,reject,bounce,complaint,delivery,delivery-delay.")
@click.option("--enable/--disable", "enabled", default=None, help="On unless it is disabled.")
@click.option("--remove", is_flag=True, help="Remove it.")
@on_store
def destination_(
    ground: Ground,
    as_json: bool,
    name: str,
    destination: str,
    account_id: str,
    topic_arn: str | None,
    events: str | None,
    enabled: bool | None,
    remove: bool,
) -> None:
    """Make, change or remove an event destination of the set NAME."""
    from relay.control import configuration_sets

    if remove:
        if topic_arn is not None or events is not None or enabled is not None:
            raise click.UsageError("--remove goes with no other option.")
        _show(configuration_sets.remove_destination(ground, account_id, name, destination), as_json)
        return
    types = tuple(events.split(",")) if events is not None else None
    wanted = configuration_sets.DestinationChange(topic_arn, types, enabled)
    _show(configuration_sets.put_destination(ground, account_id, name, destination, wanted), as_json)


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
