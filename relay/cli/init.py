"""``relay init``: everything a first start needs, in one directory."""

from __future__ import annotations

from pathlib import Path

import click

from relay.cli.output import fail, show_record


@click.command(name="init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--region", help="The region of every identity ARN here; fixed for good. [default: us-east-1]")
@click.option("--hostname", help="Our own name, fully qualified. [default: this machine's]")
@click.option("--smarthost", help="host:port of the next hop for all mail. [default: by MX]")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the key file goes; a service's may be root's alone. [default: DIRECTORY/relay.key]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    directory: Path,
    region: str | None,
    hostname: str | None,
    smarthost: str | None,
    key_file: Path | None,
    as_json: bool,
) -> None:
    """Make settings, key file, self-signed certificate and store in DIRECTORY; overwrite nothing."""
    from relay.app.install import install
    from relay.app.serve import UNUSABLE

    try:
        done = install(directory, region, hostname, smarthost, key_file)
    except UNUSABLE as error:
        fail("unusable", str(error))
    show_record(done, as_json=as_json)
    if not as_json:
        where = f"all goes to {smarthost}" if smarthost else "goes to the MX of each recipient's domain"
        click.echo(f"\nMail {where}: [delivery] in {directory / 'relay.toml'} says so. Next, run:")
        click.echo(f"  relay serve --config {directory / 'relay.toml'}")
