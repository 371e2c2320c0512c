"""``relay check``: what is wrong here, and how to mend it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.cli.context import config_option, json_option, settings_path
from relay.cli.output import show_json

if TYPE_CHECKING:
    from relay.app.findings import Finding


@click.command(name="check")
@config_option
@json_option
def command(config: Path | None, as_json: bool) -> None:
    """Look at settings, key, store, certificate, ports, DNS, identities, next hop, clock and disk.

    Ends with 1 if anything is wrong.  It changes nothing, and may be run before the first start and while
    the gateway runs.
    """
    from relay.app.check import check
    from relay.app.findings import Wrong

    found = check(settings_path(config))
    if as_json:
        show_json([{"result": type(one).__name__.lower(), **asdict(one)} for one in found])
    else:
        for one in found:
            click.echo(_line(one))
    if any(isinstance(one, Wrong) for one in found):
        sys.exit(1)


def _line(finding: Finding) -> str:
    from relay.app.findings import Ok, Skipped

    if isinstance(finding, Ok):
        return f"ok       {finding.subject}: {finding.what}"
    if isinstance(finding, Skipped):
        return f"skipped  {finding.subject}: {finding.why}"
    return f"WRONG    {finding.subject}: {finding.problem}\n         {finding.mend}"
