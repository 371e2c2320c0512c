"""``relay identity``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.cli.context import on_store
from relay.cli.output import show_record, show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground

_account = click.option("--account", "account_id", metavar="ID", required=True, help="The owner's account.")


@click.group(name="identity")
def command() -> None:
    """Domains and addresses that mail is sent from."""


@command.command(name="create")
@click.argument("name")
@_account
@click.option("--verified", is_flag=True, help="Vouch for it: it may be used at once, its key is in DNS.")
@on_store
def create(ground: Ground, as_json: bool, name: str, account_id: str, verified: bool) -> None:
    """Make an identity and show what its owner puts into DNS."""
    from relay.control import identities

    view = identities.create(ground, name, account_id, verified)
    record = {
        "arn": view.arn,
        "type": view.row.type,
        "verification_status": view.row.verification_status,
        "dns_records": view.dns_records,
    }
    show_record(record, as_json=as_json)


@command.command(name="list")
@click.option("--account", "account_id", metavar="ID", help="Only those of this account.")
@on_store
def list_(ground: Ground, as_json: bool, account_id: str | None) -> None:
    """List identities."""
    from relay.control import identities

    columns = ("type", "verification_status", "dkim_enabled", "dkim_status")
    rows = [
        {"arn": view.arn, **{name: getattr(view.row, name) for name in columns}}
        for view in identities.every(ground, account_id)
    ]
    show_table(rows, as_json=as_json)


@command.command(name="show")
@click.argument("name")
@_account
@on_store
def show(ground: Ground, as_json: bool, name: str, account_id: str) -> None:
    """Show one identity with its keys and policies, and who sent in its name of late."""
    from relay.control import identities

    view = identities.show(ground, name, account_id)
    senders = [line.as_record() for line in identities.senders(ground, view.arn)]
    show_record({**view.as_record(), "senders": senders}, as_json=as_json)


_on_off = click.Choice(["on", "off"])


@command.command(name="set")
@click.argument("name")
@_account
@click.option(
    "--feedback-forwarding",
    "forwarding",
    type=_on_off,
    help="Mail bounces and complaints to the Return-Path although somebody else is told.",
)
@click.option("--bounce-topic", metavar="ARN", help="The topic that bounces are notified to; or none.")
@click.option("--complaint-topic", metavar="ARN", help="The same for complaints.")
@click.option("--delivery-topic", metavar="ARN", help="The same for deliveries.")
@click.option("--headers-in-bounce", type=_on_off, help="Whether these notifications quote the header.")
@click.option("--headers-in-complaint", type=_on_off, help="The same for complaints.")
@click.option("--headers-in-delivery", type=_on_off, help="The same for deliveries.")
@click.option(
    "--default-configuration-set",
    "default_set",
    metavar="SET",
    help="The set of its mail that names none; or none. Not for an identity that is lent.",
)
@on_store
def set_(
    ground: Ground,
    as_json: bool,
    name: str,
    account_id: str,
    forwarding: str | None,
    default_set: str | None,
    **values: str | None,
) -> None:
    """Choose how its owner is told of bounces, complaints and deliveries, and its default set."""
    from relay.control import feedback

    kinds = ("bounce", "complaint", "delivery")
    chosen_topics = {kind: arn for kind in kinds if (arn := values[f"{kind}_topic"]) is not None}
    quoted = {kind: word == "on" for kind in kinds if (word := values[f"headers_in_{kind}"]) is not None}
    chosen = feedback.Chosen(
        None if forwarding is None else forwarding == "on", default_set, chosen_topics, quoted
    )
    record = feedback.choose(ground, name, account_id, chosen).as_record()
    shown = ("arn", "feedback_forwarding", "bounce_topic", "complaint_topic", "delivery_topic", "headers_in")
    show_record({field: record[field] for field in (*shown, "configuration_set")}, as_json=as_json)


@command.command(name="delete")
@click.argument("name")
@_account
@on_store
def delete(ground: Ground, as_json: bool, name: str, account_id: str) -> None:
    """Delete an identity with its keys and policies; nothing of it can be restored."""
    from relay.control import identities

    show_record({"deleted": identities.delete(ground, name, account_id).arn}, as_json=as_json)


@command.command(name="verify")
@click.argument("name")
@_account
@on_store
def verify(ground: Ground, as_json: bool, name: str, account_id: str) -> None:
    """Ask DNS for the records of a domain now, or mail an address its code; ends with 1 if not verified."""
    from relay.control import verification

    done = verification.verify(ground, name, account_id)
    shown = {
        "arn": done.view.arn,
        "verification_status": done.view.row.verification_status,
        "dkim_status": done.view.row.dkim_status,
        **({"mail_from_status": done.view.row.mail_from_status} if done.view.mail_from else {}),
    }
    if as_json:
        show_record({**shown, "records": [one.as_record() for one in done.records]}, as_json=True)
    else:
        for one in done.records:
            advice = " (advice)" if one.purpose == "advice" else ""
            click.echo(f"{one.type} {one.name}: {one.result}{advice}")
            click.echo(f"  expected  {one.expected}")
            for value in one.found or [f"({one.reason or 'nothing'})"]:
                click.echo(f"  DNS has   {value}")
        show_record(shown, as_json=False)
    if done.view.row.verification_status != "SUCCESS":
        sys.exit(1)


@command.command(name="mail-from")
@click.argument("name")
@_account
@click.option("--domain", help="A subdomain of the identity that has no other use.")
@click.option(
    "--on-mx-failure",
    type=click.Choice(["use-default-value", "reject-message"]),
    default="use-default-value",
    show_default=True,
    help="While DNS does not show its MX: send with the relay's own return path, or refuse.",
)
@click.option("--remove", is_flag=True, help="Send with the relay's own return path again.")
@on_store
def mail_from_(
    ground: Ground,
    as_json: bool,
    name: str,
    account_id: str,
    domain: str | None,
    on_mx_failure: str,
    remove: bool,
) -> None:
    """Send with an envelope sender in a domain of the owner's; without options, show it."""
    from relay.control import identities, mail_from

    if domain is not None and remove:
        raise click.UsageError("--domain and --remove exclude each other.")
    if domain is not None:
        on_failure = on_mx_failure.upper().replace("-", "_")
        view = mail_from.put(ground, name, account_id, domain, on_failure)
    elif remove:
        view = mail_from.remove(ground, name, account_id)
    else:
        view = identities.show(ground, name, account_id)
    records = identities.mail_from_records(view.row, ground.hostname)
    show_record({"arn": view.arn, "mail_from": view.mail_from, "dns_records": records}, as_json=as_json)


@command.command(name="confirm")
@click.argument("code")
@on_store
def confirm(ground: Ground, as_json: bool, code: str) -> None:
    """Verify an address by the code that was mailed to it."""
    from relay.control import confirmation, identities

    row = confirmation.confirm(ground, code)
    view = identities.show(ground, row.name, row.account_id)
    shown = {"arn": view.arn, "verification_status": view.row.verification_status}
    show_record(shown, as_json=as_json)


@command.command(name="dkim")
@click.argument("name")
@_account
@click.option("--enable/--disable", "enabled", default=None, help="Sign its mail, or do not.")
@click.option("--algorithm", type=click.Choice(["rsa-2048", "both"]), help="Also sign with Ed25519, or not.")
@click.option(
    "--import",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A key of your own.",
)
@click.option("--selector", help="The selector of the imported key.")
@click.option("--rotate", is_flag=True, help="New keys; the old ones sign until DNS has the new records.")
@on_store
def dkim_(
    ground: Ground,
    as_json: bool,
    name: str,
    account_id: str,
    enabled: bool | None,
    algorithm: str | None,
    file: Path | None,
    selector: str | None,
    rotate: bool,
) -> None:
    """Change how mail from an identity is signed; without options, show it."""
    from relay.control import dkim, identities

    if (file is None) != (selector is None):
        raise click.UsageError("--import and --selector go together.")
    of = identities.show(ground, name, account_id).row
    if file is not None and selector is not None:
        dkim.import_key(ground, of, file.read_bytes(), selector)
    if algorithm is not None:
        dkim.set_algorithm(ground, of, "both" if algorithm == "both" else "rsa-2048")
    if rotate:
        dkim.rotate(ground, of)
    if enabled is not None:
        dkim.set_enabled(ground, of, enabled)
    record = identities.show(ground, name, account_id).as_record()
    shown = ("arn", "dkim_enabled", "dkim_status", "keys", "dns_records")
    show_record({field: record[field] for field in shown}, as_json=as_json)
