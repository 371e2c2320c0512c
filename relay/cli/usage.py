"""``relay usage``: the bill."""

from __future__ import annotations

import csv
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from relay.cli.context import on_store
from relay.cli.output import show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground
    from relay.control.usage import Period

_DATE = click.DateTime(["%Y-%m-%d"])


@click.command(name="usage")
@click.option("--account", "account_id", metavar="ID", help="Only what this account sent.")
@click.option("--identity", "arn", metavar="ARN", help="Only what was sent in this identity's name.")
@click.option("--from", "first", type=_DATE, metavar="DATE", help="The first day, UTC; else of this month.")
@click.option("--to", "last", type=_DATE, metavar="DATE", help="The last day, included; else today.")
@click.option("--by", type=click.Choice(["day", "month"]), default="day", show_default=True)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a line of column names.")
@on_store
def command(
    ground: Ground,
    as_json: bool,
    account_id: str | None,
    arn: str | None,
    first: datetime | None,
    last: datetime | None,
    by: Period,
    as_csv: bool,
) -> None:
    """What each account sent, and in whose name: messages, recipients and bytes as they are billed.

    What became of the recipients of a day's messages stands on the same line, however late it was known.
    """
    from relay.control import usage

    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both.")
    until = last.date() if last else usage.today()
    since = first.date() if first else until.replace(day=1)
    if since > until:
        raise click.UsageError(f"--from {since} is after {until}.")
    rows = [bill.as_record() for bill in usage.bills(ground, since, until, by, account_id, arn)]
    if not as_csv:
        show_table(rows, as_json=as_json)
        return
    writer = csv.DictWriter(sys.stdout, usage.COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
