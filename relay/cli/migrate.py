"""``relay migrate``: bring the store's schema up to date."""

from __future__ import annotations

from pathlib import Path

import click

from relay.cli.context import config_option, json_option, settings_path
from relay.cli.output import fail, show_record


@click.command(name="migrate")
@config_option
@json_option
def command(config: Path | None, as_json: bool) -> None:
    """Apply what is missing of the schema; the previous release runs on it too."""
    from relay.app.install import migrate
    from relay.app.serve import UNUSABLE

    try:
        done = migrate(settings_path(config))
    except UNUSABLE as error:
        fail("unusable", str(error))
    show_record(done, as_json=as_json)
