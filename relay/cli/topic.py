"""``relay topic``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from relay.cli.context import on_store
from relay.cli.output import instant, show_record, show_table

if TYPE_CHECKING:
    from relay.control.ground import Ground
    from relay.control.topics import SubscriptionRow, TopicView

_PROTOCOLS = click.Choice(["http", "https", "webhook", "email", "file", "sns", "sqs"])
_VERSION = click.option(
    "--signature-version",
    type=click.Choice(["1", "2"]),
    default="2",
    show_default=True,
    help="Of what http and https endpoints get: 2 is SHA-256, 1 is SHA-1 for old receivers.",
)


@click.group(name="topic")
def command() -> None:
    """Topics: who is told of bounces, complaints and other events."""


@command.command(name="create")
@click.argument("name")
@click.option("--account", "account_id", metavar="ID", required=True, help="The account that it is of.")
@_VERSION
@on_store
def create(ground: Ground, as_json: bool, name: str, account_id: str, signature_version: str) -> None:
    """Make a topic; identities and event destinations name it by its ARN."""
    from relay.control import topics

    arn = topics.create(ground, account_id, name, int(signature_version))
    show_record({"arn": arn}, as_json=as_json)


@command.command(name="update")
@click.argument("arn", metavar="TOPIC_ARN")
@_VERSION
@on_store
def update(ground: Ground, as_json: bool, arn: str, signature_version: str) -> None:
    """Change how the topic's notifications are signed, from the next one on."""
    from relay.control import topics

    topics.update(ground, arn, int(signature_version))
    show_record({"arn": arn, "signature_version": int(signature_version)}, as_json=as_json)


@command.command(name="list")
@click.option("--account", "account_id", metavar="ID", help="Only those of this account.")
@on_store
def list_(ground: Ground, as_json: bool, account_id: str | None) -> None:
    """List topics."""
    from relay.control import topics

    rows = [
        {
            "arn": view.arn,
            "subscriptions": len(view.subscriptions),
            "confirmed": sum(one.state == "confirmed" for one in view.subscriptions),
        }
        for view in topics.every(ground, account_id)
    ]
    show_table(rows, as_json=as_json)


@command.command(name="show")
@click.argument("arn", metavar="TOPIC_ARN")
@on_store
def show(ground: Ground, as_json: bool, arn: str) -> None:
    """Show a topic: whose notifications it takes, and how its subscriptions fare."""
    from relay.control import topics

    view = topics.show(ground, arn)
    waiting = topics.waiting(ground, view)
    subscriptions = [_subscription(view, row, waiting.get(row.id, {})) for row in view.subscriptions]
    record: dict[str, Any] = {
        "arn": view.arn,
        "account_id": view.row.account_id,
        "signature_version": view.row.signature_version,
        "created_at": view.row.created_at,
        "open_to": list(view.open_to),
        "told_by": list(view.told_by),
        "subscriptions": subscriptions,
    }
    if as_json:
        show_record(record, as_json=True)
        return
    del record["subscriptions"]
    show_record({**record, "created_at": instant(view.row.created_at)}, as_json=False)
    for one in subscriptions:
        click.echo()
        show_record(dict(_readable(one)), as_json=False)


def _subscription(view: TopicView, row: SubscriptionRow, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "subscription_arn": view.subscription_arn(row),
        "protocol": row.protocol,
        "endpoint": row.endpoint,
        "status": row.state,
        "raw": row.raw_delivery,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "failing_since": row.failing_since,
        "last_error": row.last_error,
        "posted": counts.get("done", 0),
        "waiting": counts.get("queued", 0) + counts.get("leased", 0),
        "dead": counts.get("dead", 0),
    }


def _readable(one: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Without what does not concern it, and with what to do if it is dead."""
    for name, value in one.items():
        if value is not None:
            yield name, instant(value) if name in ("created_at", "expires_at", "failing_since") else value
    if one["status"] == "dead":
        yield "to do", f"mend the endpoint, then: relay topic revive {one['subscription_arn']} --replay"


@command.command(name="delete")
@click.argument("arn", metavar="TOPIC_ARN")
@on_store
def delete(ground: Ground, as_json: bool, arn: str) -> None:
    """Remove a topic and its subscriptions; one that is in use is kept."""
    from relay.control import topics

    topics.delete(ground, arn)
    show_record({"deleted": arn}, as_json=as_json)


@command.command(name="allow")
@click.argument("arn", metavar="TOPIC_ARN")
@click.option("--account", "account_id", metavar="OWNER", required=True, help="An identity owner's account.")
@on_store
def allow(ground: Ground, as_json: bool, arn: str, account_id: str) -> None:
    """Let identities of another account send their notifications to the topic."""
    from relay.control import topics

    topics.allow(ground, arn, account_id)
    show_record({"arn": arn, "allowed": account_id}, as_json=as_json)


@command.command(name="disallow")
@click.argument("arn", metavar="TOPIC_ARN")
@click.option("--account", "account_id", metavar="OWNER", required=True, help="An identity owner's account.")
@on_store
def disallow(ground: Ground, as_json: bool, arn: str, account_id: str) -> None:
    """Take from the topic no more notifications of that account's identities."""
    from relay.control import topics

    topics.disallow(ground, arn, account_id)
    show_record({"arn": arn, "disallowed": account_id}, as_json=as_json)


@command.command(name="subscribe")
@click.argument("arn", metavar="TOPIC_ARN")
@click.option("--protocol", type=_PROTOCOLS, required=True, help="How the endpoint is told.")
@click.argument("endpoint")
@click.option("--raw", is_flag=True, help="The event alone, not within SNS's envelope.")
@on_store
def subscribe(ground: Ground, as_json: bool, arn: str, protocol: str, endpoint: str, raw: bool) -> None:
    """Have an endpoint told: a URL, an address, a file's name, or an ARN at AWS.

    http, https and email are pending until whoever answers there has confirmed. A webhook's secret is shown
    once, here.
    """
    from relay.control import topics

    made = topics.subscribe(ground, arn, protocol, endpoint, raw)
    record = {"subscription_arn": made.arn, "status": made.status}
    show_record({**record, **({"secret": made.secret} if made.secret else {})}, as_json=as_json)


@command.command(name="confirm")
@click.argument("token", metavar="TOKEN|SUBSCRIPTION_ARN")
@on_store
def confirm(ground: Ground, as_json: bool, token: str) -> None:
    """Confirm a subscription by the token that was sent to it; its ARN vouches for it without one."""
    from relay.control import topics

    arn = topics.vouch(ground, token) if token.startswith("arn:") else topics.confirm(ground, token)
    show_record({"subscription_arn": arn, "status": "confirmed"}, as_json=as_json)


@command.command(name="revive")
@click.argument("arn", metavar="SUBSCRIPTION_ARN")
@click.option("--replay", is_flag=True, help="Also post again what died meanwhile.")
@on_store
def revive(ground: Ground, as_json: bool, arn: str, replay: bool) -> None:
    """Tell a subscription again that was given up because it failed for too long."""
    from relay.control import notifications, topics

    topics.revive(ground, arn)
    record: dict[str, Any] = {"subscription_arn": arn, "status": "confirmed"}
    if replay:
        of = notifications.selection(ground, subscription=arn, state="dead")
        record["replayed"] = notifications.replay(ground, of)
    show_record(record, as_json=as_json)


@command.command(name="unsubscribe")
@click.argument("arn", metavar="SUBSCRIPTION_ARN")
@on_store
def unsubscribe(ground: Ground, as_json: bool, arn: str) -> None:
    """Tell the endpoint nothing more."""
    from relay.control import topics

    topics.unsubscribe(ground, arn)
    show_record({"unsubscribed": arn}, as_json=as_json)
