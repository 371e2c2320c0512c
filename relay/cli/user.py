"""``relay user``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from relay.cli.context import on_store, read_file
from relay.cli.output import show_record, show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground

_account = click.option("--account", "account_id", metavar="ID", required=True, help="The user's account.")


@click.group(name="user")
def command() -> None:
    """IAM users and their own policies."""


@command.command(name="create")
@click.argument("name")
@_account
@click.option("--path", default="/", help="Part of the ARN, such as /apps/.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="For aws:PrincipalTag/KEY.")
@on_store
def create(ground: Ground, as_json: bool, **values: Any) -> None:
    """Make a user that may send; its policy AllowSending says so."""
    from relay.control import users

    user = users.create(ground, **values)
    show_record({"arn": user.arn, "user_id": user.unique_id}, as_json=as_json)


@command.command(name="list")
@_account
@on_store
def list_(ground: Ground, as_json: bool, account_id: str) -> None:
    """List the users of an account."""
    from relay.control import users

    show_table(
        [
            {
                "name": user.name,
                "arn": user.arn,
                "user_id": user.unique_id,
                "tags": user.tags,
                "policies": policies,
            }
            for user, policies in users.every(ground, account_id)
        ],
        as_json=as_json,
    )


@command.command(name="delete")
@click.argument("name")
@_account
@click.option("--force", is_flag=True, help="Delete its credentials too.")
@on_store
def delete(ground: Ground, as_json: bool, name: str, account_id: str, force: bool) -> None:
    """Delete a user; one made again under the same name inherits no grant."""
    from relay.control import users

    show_record({"deleted": users.delete(ground, name, account_id, force).arn}, as_json=as_json)


@command.command(name="put-policy")
@click.argument("name")
@click.argument("file", metavar="FILE|-")
@_account
@click.option("--policy-name", required=True, help="The policy's name; one of that name is replaced.")
@on_store
def put_policy(
    ground: Ground, as_json: bool, name: str, file: str, account_id: str, policy_name: str
) -> None:
    """Attach one of the user's own policies: what the user may do at all."""
    from relay.control import users

    user = users.put_policy(ground, name, account_id, policy_name, read_file(file))
    show_record({"arn": user.arn, "policy": policy_name}, as_json=as_json)


@command.command(name="delete-policy")
@click.argument("name")
@_account
@click.option("--policy-name", required=True, help="The policy's name.")
@on_store
def delete_policy(ground: Ground, as_json: bool, name: str, account_id: str, policy_name: str) -> None:
    """Take one of the user's own policies away."""
    from relay.control import users

    user = users.delete_policy(ground, name, account_id, policy_name)
    show_record({"arn": user.arn, "deleted": policy_name}, as_json=as_json)
