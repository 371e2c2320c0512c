"""``relay restore``: a backup into an empty store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from relay.cli.context import actor, config_option, json_option, reporting, settings_path
from relay.cli.output import instant, show_record


@click.command(name="restore")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--send-queue",
    is_flag=True,
    help="Deliver at once what waited, though what was delivered after the backup then goes out twice.",
)
@config_option
@json_option
def command(source: Path, send_queue: bool, config: Path | None, as_json: bool) -> None:
    """Restore a backup into the empty store that the settings name, of either engine.

    The key file must be in its place. Settings are taken from the backup if there are none. What waited in
    the queue is held: it may have been delivered after the backup was made. A backup that is damaged, or of
    another key file, leaves everything as it was.
    """
    from relay.app.backup import restore

    with reporting():
        done = restore(settings_path(config), source, actor(), hold=not send_queue)
    record = asdict(done)
    show_record(record if as_json else {**record, "made_at": instant(done.made_at)}, as_json=as_json)
    if not as_json and done.held and done.waiting:
        click.echo("\nTo deliver what waited, also what may have been delivered after the backup was made:")
        click.echo("  relay queue release --because restored")
