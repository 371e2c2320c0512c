"""``relay policy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from relay.cli.context import on_store, read_file
from relay.cli.output import show_record, show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground

_identity = click.option(
    "--identity", "arn", metavar="ARN", required=True, help="The identity it is attached to."
)


@click.group(name="policy")
def command() -> None:
    """Sending authorization policies: who may send as an identity."""


@command.command(name="put")
@click.argument("name", metavar="POLICYNAME")
@click.argument("file", metavar="FILE|-")
@_identity
@on_store
def put(ground: Ground, as_json: bool, name: str, file: str, arn: str) -> None:
    """Attach a policy to an identity, over one of the same name."""
    from relay.control import policies

    stored = policies.put(ground, arn, name, read_file(file))
    for warning in stored.warnings:
        click.echo(f"warning: {warning}", err=True)
    record = {"identity": stored.identity.arn, "policy": name, "warnings": list(stored.warnings)}
    show_record(record, as_json=as_json)


@command.command(name="list")
@_identity
@on_store
def list_(ground: Ground, as_json: bool, arn: str) -> None:
    """List the policies of an identity."""
    from relay.control import policies

    rows = [{"policy": name, "characters": len(text)} for name, text in policies.every(ground, arn).items()]
    show_table(rows, as_json=as_json)


@command.command(name="show")
@click.argument("name", metavar="POLICYNAME")
@_identity
@on_store
def show(ground: Ground, as_json: bool, name: str, arn: str) -> None:
    """Print one policy as it was stored."""
    from relay.control import policies

    document = policies.get(ground, arn, name)
    if as_json:
        show_record({"policy": name, "document": document}, as_json=True)
    else:
        click.echo(document.rstrip("\n"))


@command.command(name="delete")
@click.argument("name", metavar="POLICYNAME")
@_identity
@on_store
def delete(ground: Ground, as_json: bool, name: str, arn: str) -> None:
    """Take a grant back; it ends within a second, in open sessions too."""
    from relay.control import policies

    policies.delete(ground, arn, name)
    show_record({"identity": arn, "deleted": name}, as_json=as_json)
