"""``relay policy``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from relay.cli.context import json_option, on_store, read_file
from relay.cli.output import show_json, show_record, show_table

if TYPE_CHECKING:
    from relay.authorization.document import Fault
    from relay.authorization.grants import Grant
    from relay.authorization.policytest import Case
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


@command.command(name="who")
@_identity
@on_store
def who(ground: Ground, as_json: bool, arn: str) -> None:
    """List who may send as an identity, under which conditions."""
    from relay.control import policies

    _show_grants(policies.who(ground, arn), as_json)


@command.command(name="grants")
@click.option("--principal", metavar="ARN", required=True, help="A user, an account's :root, or a service.")
@on_store
def grants(ground: Ground, as_json: bool, principal: str) -> None:
    """List what a principal may send as, of all owners."""
    from relay.control import policies

    _show_grants(policies.grants(ground, principal), as_json)


def _show_grants(found: list[Grant], as_json: bool) -> None:
    show_table([grant.as_record() for grant in found], as_json=as_json)


@command.command(name="check")
@click.argument("file", metavar="FILE|-")
@_identity
@json_option
def check(file: str, arn: str, as_json: bool) -> None:
    """Print errors and warnings of a document without storing it; exit 1 on errors."""
    from relay.authorization.storable import check_storable

    found = check_storable(read_file(file), arn)
    if as_json:
        show_json({"errors": _faults(found.errors), "warnings": _faults(found.warnings)})
    else:
        for fault in found.errors:
            click.echo(f"error: {fault}")
        for fault in found.warnings:
            click.echo(f"warning: {fault}")
        if not found.errors:
            click.echo("it can be stored")
    if found.errors:
        sys.exit(1)


def _faults(faults: tuple[Fault, ...]) -> list[dict[str, object]]:
    return [
        {"pointer": one.pointer, "line": one.line, "column": one.column, "message": one.message}
        for one in faults
    ]


@command.command(name="test")
@click.argument("file", metavar="FILE.jsonl|-")
def test(file: str) -> None:
    """Decide each line's request by its policies; exit 1 if one differs from what is expected.

    A line is {"id", "policies": [document, ...], "request": {"principal_arn", "principal_account", "action",
    "resource", "context": {key: "value" or ["values"]}}, "expected"}.  The sender's own side is taken as
    given.
    """
    from relay.authorization.policytest import CaseError, parse_case

    differing = 0
    for number, line in enumerate(read_file(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            case = parse_case(line)
        except CaseError as error:
            raise click.UsageError(f"{file}, line {number}: {error}") from error
        differing += not _is_as_expected(case, number)
    if differing:
        click.echo(f"relay: {differing} differ from what is expected", err=True)
        sys.exit(1)


def _is_as_expected(case: Case, number: int) -> bool:
    """Print the verdict on one line, and what is wrong on standard error."""
    for fault in case.faults:
        click.echo(f"line {number}: {fault}", err=True)
    decision = case.decision()
    click.echo(json.dumps({"id": case.id, "decision": decision}, ensure_ascii=False))
    if case.expected in (None, decision):
        return True
    click.echo(f"line {number}: {case.id}: expected {case.expected}, got {decision}", err=True)
    return False
