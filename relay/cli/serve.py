"""``relay serve``: run the gateway."""

from __future__ import annotations

from pathlib import Path

import click

from relay.cli.context import config_option, settings_path
from relay.cli.output import fail


@click.command(name="serve")
@config_option
def command(config: Path | None) -> None:
    """Accept, sign and deliver mail until SIGTERM; SIGHUP reads settings and certificates anew."""
    from relay.app.serve import serve

    problem = serve(settings_path(config))
    if problem is not None:
        fail("cannot_start", problem)
