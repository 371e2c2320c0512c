"""``relay event``: the notifications of events, one for each subscription."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relay.cli.context import on_store
from relay.cli.output import fail, instant, show_json, show_record, show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground
    from relay.control.notifications import Shown

_Command = TypeVar("_Command", bound=Callable[..., Any])
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class _Span(click.ParamType[timedelta]):
    """``90m``, ``12h``, ``3d``."""

    name = "span"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        if isinstance(value, timedelta):
            return value
        number, unit = value[:-1], value[-1:]
        if not (number.isascii() and number.isdigit()) or unit not in _UNITS or len(number) > 6:
            self.fail(f"{value!r} is not a span such as 90m, 12h or 3d", param, ctx)
        return timedelta(**{_UNITS[unit]: int(number)})


@click.group(name="event")
def command() -> None:
    """Notifications of bounces, complaints and other events: what was posted, and what was not."""


def _selectors(function: _Command) -> _Command:
    for option in (
        click.option(
            "--since", "newer_than", type=_Span(), metavar="SPAN", help="Only of the last 90m, 12h, 3d."
        ),
        click.option("--type", "event_type", metavar="TYPE", help="Only this type, such as Bounce."),
        click.option("--subscription", metavar="ARN", help="Only those of one subscription."),
        click.option("--topic", metavar="ARN", help="Only those of one topic."),
        click.option("--account", "account_id", metavar="ID", help="Only those of this account's topics."),
    ):
        function = option(function)
    return function


@command.command(name="list")
@_selectors
@click.option("--state", type=click.Choice(["queued", "leased", "done", "dead"]), help="Only what is so.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
@on_store
def list_(ground: Ground, as_json: bool, state: str | None, limit: int, **selectors: Any) -> None:
    """List notifications, the newest first."""
    from relay.control import notifications

    of = notifications.selection(ground, state=state, **selectors)
    found = notifications.every(ground, of, limit)
    show_table([_record(one) if as_json else _line(one) for one in found], as_json=as_json)


def _record(one: Shown) -> dict[str, Any]:
    record = asdict(one.view)
    for name in ("topic", "subscription", "body"):
        del record[name]
    return {**record, "subscription_arn": one.subscription_arn}


def _line(one: Shown) -> dict[str, Any]:
    view = one.view
    return {
        "id": view.id,
        "type": view.event_type,
        "state": view.state,
        "made": instant(view.created_at),
        "attempts": view.attempts,
        "next attempt": instant(view.due_at) if view.state == "queued" else "-",
        "to": f"{view.protocol} {view.endpoint}" if view.protocol else "(gone)",
        "last error": view.last_error or "",
    }


@command.command(name="show")
@click.argument("id_", metavar="ID")
@on_store
def show(ground: Ground, as_json: bool, id_: str) -> None:
    """Show one notification with the document that its endpoint gets."""
    from relay.control import notifications

    one = notifications.show(ground, id_)
    record = {**_record(one), "body": one.view.body}
    if as_json:
        show_json(record)
        return
    times = {name: instant(record[name]) for name in ("created_at", "due_at")}
    show_record({**record, **times}, as_json=False)


@command.command(name="replay")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_selectors
@click.option("--dead", is_flag=True, help="Only what was given up, not what was posted.")
@on_store
def replay(ground: Ground, as_json: bool, ids: tuple[str, ...], dead: bool, **selectors: Any) -> None:
    """Post notifications again: some by their ids, or all that are selected, under the ids they had."""
    from relay.control import notifications

    named = [name for name, value in selectors.items() if value is not None]
    if ids and (named or dead):
        raise click.UsageError("Name ids, or select by --dead, --subscription, --topic and the like.")
    if not ids and not named and not dead:
        raise click.UsageError("Name ids, or --dead, --subscription, --topic, --account, --type or --since.")
    if ids:
        of = notifications.by_id(*ids)
    else:
        of = notifications.selection(ground, state="dead" if dead else None, **selectors)
    count = notifications.replay(ground, of)
    if not count:
        fail("not_found", "nothing that was posted or given up is selected; see `relay event list`")
    show_record({"replayed": count}, as_json=as_json)
