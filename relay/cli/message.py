"""``relay message``: everything that is known of one message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from relay.cli.context import on_store
from relay.cli.explain import show
from relay.cli.output import fail, instant, show_json

if TYPE_CHECKING:
    from relay.control.explanation import Explanation
    from relay.control.ground import Ground


@click.group(name="message")
def command() -> None:
    """Look at single messages, accepted or refused."""


@command.command(name="show")
@click.argument("key", metavar="ID|REFERENCE")
@on_store
def show_message(ground: Ground, as_json: bool, key: str) -> None:
    """Show the decision on a message, what was added and removed, and each attempt to deliver it."""
    from relay.control.overview import find

    found = find(ground.store, key)
    if found is None:
        fail("not_found", f"no message or refusal {key!r}; records are kept for [retention] days")
    why = _explained(ground, found["record"])
    if as_json:
        show_json({**found, "explained": why.as_record() if why else None})
        return
    for line in _refused(found) if "reference" in found else _accepted(found):
        click.echo(line)
    if why is not None:
        click.echo("\nBy the policies as they are now:\n")
        show(why, as_json=False)


def _explained(ground: Ground, record: dict[str, Any]) -> Explanation | None:
    """The decision made again; None for our own mail, and where the sender is gone."""
    from relay.control.explanation import explain_record
    from relay.control.ground import ControlError

    if "send" not in record:
        return None
    try:
        return explain_record(ground, record)
    except ControlError:
        return None


def _accepted(found: dict[str, Any]) -> Iterator[str]:
    record = found["record"]
    yield f"message      {found['message_id']}"
    yield f"accepted     {instant(found['received_at'])}, {found['size_bytes']} octets"
    if "report_on" in record:
        yield f"our report   {record['kind']} of {record['report_on']}"
    elif "confirmation_of" in record:
        yield f"our mail     code for {record['confirmation_of']}"
    elif "notification" in record:
        yield f"our mail     notification {record['notification']} ({record['kind']})"
    else:
        yield from _decision(found, record)
    yield from _recipients(found)


def _decision(found: dict[str, Any], record: dict[str, Any]) -> Iterator[str]:
    yield from _who(record["send"])
    yield f"identity     {record['identity']}"
    for grant in record["grants"]:
        by = (
            f"policy {grant['policy']}, statement {grant['sid'] or grant['statement']}"
            if grant["policy"]
            else "own"
        )
        yield f"allowed      {grant['role']} {grant['address']} ({by})"
    yield f"signed       {record['signed_by'] or 'no: ' + record['unsigned_because']}"
    yield f"return path  {found['return_path'] or '<>'}"
    if found["reverse_path"] != found["return_path"]:
        yield f"on the wire  {found['reverse_path']}"
    for name in ("added", "removed"):
        for field in record[name]:
            yield f"{name:<12} {' '.join(field.split())}"


def _recipients(found: dict[str, Any]) -> Iterator[str]:
    for one in found["recipients"]:
        yield f"recipient    {one['address']}: {one['state']}"
        for tried in found["attempts"]:
            if tried["number"] == one["number"]:
                words = " ".join(
                    str(part) for part in (tried["code"], tried["enhanced"], tried["reply"]) if part
                )
                yield (
                    f"  attempt {tried['attempt']}  {instant(tried['at'])} {tried['host']}"
                    f" {tried['phase']}: {words} -> {tried['outcome']}"
                )
        for notice in found["notices"]:
            for late in notice["late"]:
                if late["address"] == one["address"]:
                    yield f"  {notice['kind']:<9}  {instant(late['at'])} reported by {_late(late)}"
    for notice in found["notices"]:
        yield f"notice       {notice['kind']} {notice['state']}"


def _late(late: dict[str, Any]) -> str:
    """Who reports, and its words."""
    words = (late["code"], late["enhanced"] or late["status"], late["text"])
    return f"{late['host']}: {' '.join(str(word) for word in words if word)}"


def _refused(found: dict[str, Any]) -> Iterator[str]:
    yield f"reference    {found['reference']}"
    yield f"refused      {instant(found['at'])}, {found['reason']}"
    for line in found["reply"].splitlines():
        yield f"reply        {line}"
    yield from _who(found["record"]["send"])


def _who(send: dict[str, Any]) -> Iterator[str]:
    yield f"user         {send['principal']['arn']} ({send['principal']['access_key_id']})"
    tls = "TLS" if send["is_secure"] else "no TLS"
    yield f"client       {send['source_ip']}, {tls}"
    name, address = send["from"]
    yield f"From         {f'{name} <{address}>' if name else address}"
    yield f"MAIL FROM    {send['mail_from']}"
    yield f"recipients   {', '.join(send['recipients'])}"
    for label in ("source_arn", "from_arn", "return_path_arn"):
        if send[label]:
            yield f"{label:<12} {send[label]}"
