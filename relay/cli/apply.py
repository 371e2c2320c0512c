"""``relay apply``."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from relay.cli.context import on_store, read_file
from relay.cli.output import fail, show_json

if TYPE_CHECKING:
    from relay.control.ground import Ground
    from relay.control.plan import Step


@click.command(name="apply")
@click.argument("file")
@click.option("--prune", is_flag=True, help="Take away what these accounts have and the file does not say.")
@click.option("--dry-run", is_flag=True, help="Show what would be done.")
@on_store
def command(ground: Ground, as_json: bool, file: str, prune: bool, dry_run: bool) -> None:
    """Make accounts what a TOML or JSON file says: users, identities, policies, sets, topics.

    Shows each step and does it.  Nothing is taken away without --prune, and accounts never are.
    """
    from relay.control import apply, plan, wanted

    table = wanted.read(_parsed(file), ground.region, lambda name: read_file(str(_beside(file, name))))
    steps = plan.plan(table, apply.existing(ground, table), prune)
    told, failed = [], False
    for step in steps:
        why = None if dry_run else apply.attempt(ground, step)
        failed = failed or why is not None
        told.append(_record(step, why))
        if not as_json:
            click.echo(str(step))
            if why is not None:
                click.echo(f"relay: {step.key}: {why}", err=True)
    if as_json:
        show_json(told)
    elif not steps:
        click.echo("nothing to do")
    sys.exit(1 if failed else 0)


def _parsed(file: str) -> Any:
    text = read_file(file)
    try:
        return orjson.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (orjson.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        fail("invalid_file", f"{file}: neither TOML nor JSON: {error}")


def _beside(file: str, name: str) -> Path:
    """Names of files within a file are meant from where it is."""
    return Path(name) if file == "-" else Path(file).parent / name


def _record(step: Step, why: str | None) -> dict[str, Any]:
    record: dict[str, Any] = {"action": str(step.action), **step.key._asdict()}
    if step.action == "change":
        record |= {"values": dict(step.values), "before": dict(step.before)}
    return record if why is None else {**record, "error": why}
