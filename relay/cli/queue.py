"""``relay queue``: what waits to be delivered, and what is done with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relay.cli.context import on_store
from relay.cli.output import age, fail, instant, show_record, show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground
    from relay.control.queue import Group, Selection, Waiting

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group(name="queue")
def command() -> None:
    """Look at mail that waits to be delivered, and steer it."""


def _selectors(function: _Command) -> _Command:
    for option in (
        click.option("--identity", "identity_arn", metavar="ARN", help="Mail that is sent as this identity."),
        click.option("--account", "account_id", metavar="ID", help="Mail of this sending account."),
        click.option("--destination", metavar="DOMAIN", help="Recipients in this domain."),
        click.option("--message", metavar="ID", help="One message."),
    ):
        function = option(function)
    return function


@command.command(name="list")
@_selectors
@click.option("--state", type=click.Choice(["queued", "leased", "held"]), help="Only what is so.")
@click.option(
    "--by", type=click.Choice(["destination", "account", "identity"]), help="Sums instead of recipients."
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
@on_store
def list_(
    ground: Ground, as_json: bool, state: str | None, by: str | None, limit: int, **selectors: Any
) -> None:
    """List recipients in the queue, the next due first."""
    from relay.control import queue

    of = queue.selection(**selectors)
    if by is not None:
        groups = queue.summary(ground, of, by)
        show_table([asdict(one) if as_json else _group(by, one) for one in groups], as_json=as_json)
        return
    rows = queue.waiting(ground, of, state, limit)
    show_table([asdict(one) if as_json else _waiting(one) for one in rows], as_json=as_json)


def _waiting(row: Waiting) -> dict[str, Any]:
    return {
        "message": row.message_id,
        "recipient": row.recipient,
        "state": _state(row),
        "age": age(row.received_at),
        "attempts": row.attempts,
        "next attempt": instant(row.due_at) if row.state == "queued" else "-",
        "last reply": row.last_reply or "",
    }


def _state(row: Waiting) -> str:
    return f"{row.state} ({row.held_because})" if row.held_because else row.state


def _group(by: str, group: Group) -> dict[str, Any]:
    return {
        by: group.name,
        "recipients": group.recipients,
        "held": group.held,
        "oldest": age(group.oldest_at),
        "next attempt": instant(group.due_at) if group.due_at is not None else "-",
        "a last reply": group.last_reply or "",
    }


@command.command(name="show")
@_selectors
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1, 100_000))
@on_store
def show(ground: Ground, as_json: bool, limit: int, **selectors: Any) -> None:
    """Show recipients in the queue with all that is known of them, the next due first."""
    from relay.control import queue

    rows = queue.waiting(ground, queue.selection(**selectors), None, limit)
    if not rows:
        _nothing()
    if as_json:
        show_table([asdict(one) for one in rows], as_json=True)
        return
    for number, row in enumerate(rows):
        if number:
            click.echo()
        times = {name: instant(getattr(row, name)) for name in ("received_at", "due_at", "expires_at")}
        show_record({**asdict(row), **times}, as_json=False)


def _nothing() -> None:
    fail("not_found", "nothing in the queue is selected; `relay queue list` shows what is there")


def _steering(function: _Command) -> _Command:
    """A verb: takes a selection, or ``--all``."""
    function = click.option("--all", "everything", is_flag=True, help="The whole queue.")(function)
    return on_store(_selectors(function))


def _selected(everything: bool, selectors: dict[str, Any]) -> Selection:
    from relay.control import queue

    if everything == any(value is not None for value in selectors.values()):
        raise click.UsageError("Name --message, --destination, --account, --identity, or --all.")
    return queue.selection(**selectors)


def _steer(ground: Ground, verb: str, of: Selection, as_json: bool, notify: bool = False) -> None:
    from relay.control import queue

    done = queue.steer(ground, queue.Verb(verb), of, notify)
    if not done.changed and not done.in_hand:
        _nothing()
    if as_json:
        show_record({"verb": verb, **asdict(done)}, as_json=True)
    else:
        click.echo(f"{verb}: {done.changed} recipients")
        if done.in_hand:
            click.echo(f"left alone: {done.in_hand} that are being tried right now")
    if not done.changed:
        sys.exit(1)


@command.command(name="retry")
@_steering
def retry(ground: Ground, as_json: bool, everything: bool, **selectors: Any) -> None:
    """Try again now what waits for its time."""
    _steer(ground, "retry", _selected(everything, selectors), as_json)


@command.command(name="hold")
@_steering
def hold(ground: Ground, as_json: bool, everything: bool, **selectors: Any) -> None:
    """Stop what waits until it is released; held mail does not expire."""
    _steer(ground, "hold", _selected(everything, selectors), as_json)


@command.command(name="release")
@_steering
@click.option(
    "--because",
    "held_because",
    type=click.Choice(["operator", "revoked", "restored"]),
    help="Only what is held for this reason.",
)
def release(ground: Ground, as_json: bool, everything: bool, **selectors: Any) -> None:
    """Let held mail go on, now."""
    _steer(ground, "release", _selected(everything, selectors), as_json)


@command.command(name="drop")
@_steering
@click.option("--notify", is_flag=True, help="Tell the Return-Path, as if it had bounced.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(ground: Ground, as_json: bool, everything: bool, notify: bool, yes: bool, **selectors: Any) -> None:
    """Throw mail away: it is not delivered, and nobody is told but with --notify."""
    from relay.control import queue

    of = _selected(everything, selectors)
    concerned = queue.count(ground, queue.Verb.DROP, of)
    if concerned > 1 and not yes and sys.stdin.isatty():
        click.confirm(f"Drop {concerned} recipients for good?", abort=True)
    _steer(ground, "drop", of, as_json, notify)
