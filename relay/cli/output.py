"""What commands print: tables for people, JSON for machines, and how they fail."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import click


def fail(code: str, text: str) -> NoReturn:
    """Refused or not found: exit 1, with the reason on standard error."""
    context = click.get_current_context(silent=True)
    if context is not None and context.params.get("as_json"):
        click.echo(json.dumps({"error": code, "message": text}), err=True)
    else:
        click.echo(f"relay: {text}", err=True)
    sys.exit(1)


def show_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_record(record: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing: a line for each of its fields."""
    if as_json:
        show_json(record)
        return
    width = max(map(len, record), default=0)
    for name, value in record.items():
        first, *rest = _lines(value)
        click.echo(f"{name:<{width}}  {first}".rstrip())
        for line in rest:
            click.echo(f"{'':<{width}}  {line}")


def show_table(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Several things: a line for each, under the names of their fields."""
    if as_json:
        show_json([dict(row) for row in rows])
        return
    if not rows:
        click.echo("none")
        return
    table = [list(rows[0]), *([" ".join(_lines(value)) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _lines(value: Any) -> list[str]:
    if value is None:
        return ["-"]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, Mapping):
        return [f"{name}={','.join(_lines(one))}" for name, one in value.items()] or ["-"]
    if isinstance(value, list | tuple):
        return [" ".join(_lines(one)) for one in value] or ["-"]
    return str(value).splitlines() or [""]


def instant(microseconds: int) -> str:
    """Microseconds UTC as people read them."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def age(microseconds: int) -> str:
    """How long ago that was, in its largest unit."""
    seconds = max(int(time.time() - microseconds / 1_000_000), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
