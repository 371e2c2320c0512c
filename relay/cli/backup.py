"""``relay backup``: the store and its settings in one file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from relay.cli.context import config_option, json_option, reporting, settings_path
from relay.cli.output import show_record


@click.command(name="backup")
@click.argument("target", type=click.Path(path_type=Path), default=".")
@click.option("--with-key", is_flag=True, help="The key file, too: who has the backup has every secret.")
@config_option
@json_option
def command(target: Path, with_key: bool, config: Path | None, as_json: bool) -> None:
    """Write store and settings to TARGET, a new file or a directory, while the gateway runs.

    The key file is not in it: keep a copy of that elsewhere, so that whoever finds one of the two has no
    secret. Files that the settings name (certificate, passwords) are not in it either.
    """
    from relay.app.backup import make

    with reporting():
        made = make(settings_path(config), target, with_key=with_key)
    show_record(asdict(made), as_json=as_json)
    if not as_json and not with_key:
        click.echo(f"\nTo restore it, your copy of the key file is needed, with key {', '.join(made.keys)}.")
