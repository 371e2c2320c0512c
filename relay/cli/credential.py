"""``relay credential``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from relay.cli.context import on_store
from relay.cli.output import instant, show_json, show_record, show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground

_networks = click.option(
    "--network",
    "networks",
    metavar="CIDR",
    multiple=True,
    help="It may be used from this network alone; more than once for several.",
)
_account = click.option("--account", "account_id", metavar="ID", required=True, help="Who carries its usage.")


@click.group(name="credential")
def command() -> None:
    """Access keys and SMTP passwords."""


@command.command(name="create")
@_account
@click.option("--user", metavar="NAME", help="The user it belongs to.")
@click.option("--service", metavar="NAME", help="A service, such as cognito-idp.amazonaws.com.")
@click.option("--source-arn", metavar="ARN", help="The resource that the service acts for.")
@_networks
@on_store
def create(
    ground: Ground,
    as_json: bool,
    account_id: str,
    user: str | None,
    service: str | None,
    source_arn: str | None,
    networks: tuple[str, ...],
) -> None:
    """Make a credential. The secret and the password are shown once, now."""
    from relay.control import credentials

    if (user is None) == (service is None):
        raise click.UsageError("Name either --user or --service.")
    if user is not None and source_arn is not None:
        raise click.UsageError("--source-arn belongs to --service.")
    if user is not None:
        new = credentials.create_for_user(ground, account_id, user, networks)
    else:
        new = credentials.create_for_service(ground, account_id, service or "", source_arn, networks)
    record = {
        "access_key_id": new.access_key_id,
        "secret_access_key": new.secret_access_key,
        "smtp_username": new.smtp_username,
        "smtp_password": new.smtp_password,
        "region": new.region,
    }
    show_record(record, as_json=as_json)


@command.command(name="list")
@_account
@on_store
def list_(ground: Ground, as_json: bool, account_id: str) -> None:
    """List the credentials of an account, without their secrets."""
    from relay.control import credentials

    rows = credentials.every(ground, account_id)
    if as_json:
        show_json([asdict(row) for row in rows])
        return
    show_table(
        [
            {
                "access key": row.access_key_id,
                "active": row.active,
                "service": row.service,
                "from": ", ".join(row.networks or ("anywhere",)),
                "created": instant(row.created_at),
            }
            for row in rows
        ],
        as_json=False,
    )


@command.command(name="update")
@click.argument("access_key_id", metavar="ACCESS_KEY_ID")
@_networks
@click.option("--any-network", is_flag=True, help="It may be used from anywhere.")
@on_store
def update(
    ground: Ground, as_json: bool, access_key_id: str, networks: tuple[str, ...], any_network: bool
) -> None:
    """Change from where it may be used; open sessions from elsewhere end at their next message."""
    from relay.control import credentials

    if bool(networks) == any_network:
        raise click.UsageError("Name either --network or --any-network.")
    row = credentials.set_networks(ground, access_key_id, networks)
    show_record({"access_key_id": row.access_key_id, "networks": row.networks}, as_json=as_json)


@command.command(name="activate")
@click.argument("access_key_id", metavar="ACCESS_KEY_ID")
@on_store
def activate(ground: Ground, as_json: bool, access_key_id: str) -> None:
    """Let it log in again."""
    _switch(ground, access_key_id, True, as_json)


@command.command(name="deactivate")
@click.argument("access_key_id", metavar="ACCESS_KEY_ID")
@on_store
def deactivate(ground: Ground, as_json: bool, access_key_id: str) -> None:
    """Refuse it; sessions that it opened end at their next message."""
    _switch(ground, access_key_id, False, as_json)


def _switch(ground: Ground, access_key_id: str, active: bool, as_json: bool) -> None:
    from relay.control import credentials

    row = credentials.set_active(ground, access_key_id, active)
    show_record({"access_key_id": row.access_key_id, "active": row.active}, as_json=as_json)


@command.command(name="delete")
@click.argument("access_key_id", metavar="ACCESS_KEY_ID")
@on_store
def delete(ground: Ground, as_json: bool, access_key_id: str) -> None:
    """Delete it for good."""
    from relay.control import credentials

    credentials.delete(ground, access_key_id)
    show_record({"deleted": access_key_id}, as_json=as_json)
