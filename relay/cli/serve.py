"""``relay serve``: run the gateway."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="serve")
@click.option("--config", type=click.Path(path_type=Path), envvar="RELAY_CONFIG", help="The settings file.")
def command(config: Path | None) -> None:
    """Accept, sign and deliver mail until SIGTERM; SIGHUP reads settings and certificates anew."""
    from relay.app.serve import serve
    from relay.cli.context import settings_path
    from relay.cli.output import fail

    problem = serve(settings_path(config))
    if problem is not None:
        fail("cannot_start", problem)
