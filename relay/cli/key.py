"""``relay key``: the keys that encrypt the secrets in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relay.cli.context import actor, config_option, json_option, reporting, settings_path
from relay.cli.output import instant, show_record, show_table

if TYPE_CHECKING:
    from relay.app.keys import KeyView

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group(name="key")
def command() -> None:
    """Keys that encrypt the secrets in the store.

    \b
    To change the key while the gateway runs:
      relay key add             a new key in the key file; copy the file to every node
      systemctl restart relay   on every node whose key file systemd hands over
      relay key rotate          use it, and encrypt every secret in the store anew
      relay key remove ID       some days later: forget the old one

    A worker that reads the key file itself notices a new key within seconds: there `rotate` alone is
    enough. It refuses while a running worker does not have the key, and says which.
    """


def _on_keys(function: _Command) -> _Command:
    return config_option(json_option(function))


@command.command(name="list")
@_on_keys
def list_(config: Path | None, as_json: bool) -> None:
    """List the keys with what needs them; never their octets."""
    from relay.app import keys

    with reporting():
        rows = keys.keys(settings_path(config), actor())
    show_table([asdict(row) if as_json else _shown(row) for row in rows], as_json=as_json)


def _shown(row: KeyView) -> dict[str, Any]:
    return {
        "key": row.key_id,
        "current": row.is_current,
        "added": instant(row.added_at) if row.added_at else "-",
        "superseded": instant(row.superseded_at) if row.superseded_at else "-",
        "secrets": row.sealed,
        "not loaded by": ", ".join(row.missing_at) or "-",
    }


@command.command(name="add")
@_on_keys
def add(config: Path | None, as_json: bool) -> None:
    """Add a new key to the key file; nothing is encrypted under it yet."""
    from relay.app import keys

    with reporting():
        key_id = keys.add(settings_path(config), actor())
    show_record({"added": key_id}, as_json=as_json)
    if not as_json:
        click.echo(
            "\nCopy the key file to every node and to where you keep your copy. Where systemd hands it"
        )
        click.echo("over, run: systemctl restart relay. Then run: relay key rotate")


@command.command(name="rotate")
@_on_keys
def rotate(config: Path | None, as_json: bool) -> None:
    """Encrypt every secret anew, under a new key.

    It uses the newest key of the file, and makes one if none waits to be used. Killed, it is run again.
    """
    from relay.app import keys

    with reporting():
        done = keys.rotate(settings_path(config), actor())
    show_record(asdict(done), as_json=as_json)
    if not as_json and done.superseded:
        click.echo("\nCopy the key file to every node and to where you keep your copy.")
        for key_id in done.superseded:
            click.echo(
                f"No secret is under key {key_id} any more; in some days run: relay key remove {key_id}"
            )


@command.command(name="remove")
@click.argument("key_id", metavar="ID")
@click.option("--now", "at_once", is_flag=True, help="Though late bounces are then not recognised as ours.")
@_on_keys
def remove(config: Path | None, as_json: bool, key_id: str, at_once: bool) -> None:
    """Forget a key that nothing needs any more.

    Backups from before need your copy of it.
    """
    from relay.app import keys

    with reporting():
        keys.remove(settings_path(config), actor(), key_id, at_once=at_once)
    show_record({"removed": key_id}, as_json=as_json)
