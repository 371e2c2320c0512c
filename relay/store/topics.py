"""Topics, their subscriptions, and which other accounts' identities may send to them.

A topic's ARN has the form of SNS.  A subscription is told things while it is ``confirmed``: one that is
``pending`` was not agreed to yet, one that is ``dead`` failed for too long, and one that is
``unsubscribed`` is only kept until its endpoint has heard of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, or_, select, update

from relay.store.changes import ControlWrite, topic_subject
from relay.store.tables import (
    configuration_set,
    event_destination,
    identity,
    meta,
    sns_key,
    subscription,
    topic,
    topic_consent,
)

PENDING, CONFIRMED, DEAD, UNSUBSCRIBED = "pending", "confirmed", "dead", "unsubscribed"

# SNS: a standard topic's name; one that ends in .fifo is of another kind, and SES takes none.
_NAME = r"[A-Za-z0-9_-]{1,256}"
_ARN = re.compile(rf"arn:aws:sns:([a-z0-9-]+):([0-9]{{12}}):({_NAME})").fullmatch
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
is_topic_name = re.compile(_NAME).fullmatch


@dataclass(frozen=True, slots=True)
class TopicArn:
    """The parts of ``arn:aws:sns:REGION:ACCOUNT:NAME``."""

    region: str
    account_id: str
    name: str


@dataclass(frozen=True, slots=True)
class TopicRow:
    """``signature_version`` is 1 (SHA-1) or 2 (SHA-256), as SNS has it."""

    id: int
    account_id: str
    name: str
    signature_version: int
    created_at: int


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """Instants are microseconds UTC; ``secret`` is sealed for ``secret_place(id)``."""

    id: int
    account_id: str
    topic_id: int
    uuid: str
    protocol: str
    endpoint: str
    state: str
    confirmation: str | None
    raw_delivery: bool
    secret: bytes | None
    created_at: int
    expires_at: int | None = None
    failing_since: int | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription with the topic that it is to."""

    topic: TopicRow
    row: SubscriptionRow


def topic_arn(region: str, account_id: str, name: str) -> str:
    return f"arn:aws:sns:{region}:{account_id}:{name}"


def parse_topic_arn(text: str) -> TopicArn | None:
    """The ARN's parts, or None if it is not a topic's ARN to the letter."""
    found = _ARN(text)
    return TopicArn(*found.groups()) if found else None


def secret_place(subscription_id: int) -> str:
    """What a subscription's secret is sealed for."""
    return f"subscription/secret/{subscription_id}"


def key_place(key_id: int) -> str:
    """What a signing key is sealed for."""
    return f"sns_key/private_key/{key_id}"


# ---------------------------------------------------------------- topics


def find_topic(connection: Connection, arn: str) -> TopicRow | None:
    """The topic that the ARN names; None also for one of another region than the store's (R14)."""
    named = parse_topic_arn(arn)
    if named is None:
        return None
    ours = exists().where(meta.c.name == "region", meta.c.value == named.region)
    query = select(topic).where(topic.c.account_id == named.account_id, topic.c.name == named.name, ours)
    row = connection.execute(query).mappings().first()
    return TopicRow(**row) if row else None


def add(write: ControlWrite, row: TopicRow) -> None:
    write.connection.execute(insert(topic), [asdict(row)])
    _record(write, row, "CreateTopic", signature_version=row.signature_version)


def change(write: ControlWrite, row: TopicRow, **values: Any) -> None:
    write.connection.execute(update(topic).where(topic.c.id == row.id).values(values))
    _record(write, row, "SetTopicAttributes", **values)


def remove(write: ControlWrite, row: TopicRow) -> None:
    """The topic with its subscriptions and consents."""
    for table in (subscription, topic_consent):
        write.connection.execute(delete(table).where(table.c.topic_id == row.id))
    write.connection.execute(delete(topic).where(topic.c.id == row.id))
    _record(write, row, "DeleteTopic")


def every(connection: Connection, account_id: str | None) -> list[TopicRow]:
    """All of an account, or of all accounts."""
    query = select(topic).order_by(topic.c.account_id, topic.c.name)
    if account_id is not None:
        query = query.where(topic.c.account_id == account_id)
    return [TopicRow(**row) for row in connection.execute(query).mappings()]


def identities_telling(connection: Connection, arn: str) -> list[tuple[str, str]]:
    """(account, name) of every identity, of whatever account, that sends notifications to the topic."""
    columns = (identity.c.bounce_topic, identity.c.complaint_topic, identity.c.delivery_topic)
    query = select(identity.c.account_id, identity.c.name).where(or_(*(one == arn for one in columns)))
    return [(row.account_id, row.name) for row in connection.execute(query.order_by(identity.c.name))]


def destinations_telling(connection: Connection, arn: str) -> list[tuple[str, str]]:
    """(configuration set, destination) of every event destination that sends to the topic."""
    query = (
        select(configuration_set.c.name.label("set_name"), event_destination.c.name)
        .join(configuration_set, configuration_set.c.id == event_destination.c.configuration_set_id)
        .where(event_destination.c.topic_arn == arn)
        .order_by(configuration_set.c.name, event_destination.c.name)
    )
    return [(row.set_name, row.name) for row in connection.execute(query)]


# ---------------------------------------------------------------- whose notifications a topic takes


def is_allowed(connection: Connection, topic_arn: str, owner_account_id: str) -> bool:
    """Whether identities of the account may send to the topic: its own may, others where it consented."""
    row = find_topic(connection, topic_arn)
    if row is None:
        return False
    return row.account_id == owner_account_id or owner_account_id in consents(connection, row)


def consents(connection: Connection, row: TopicRow) -> list[str]:
    """The other accounts that the topic is open to."""
    found = topic_consent.c.topic_id == row.id
    query = select(topic_consent.c.owner_account_id).where(found).order_by(topic_consent.c.owner_account_id)
    return list(connection.execute(query).scalars())


def allow(write: ControlWrite, row: TopicRow, owner_account_id: str, at: int) -> None:
    values = {"topic_id": row.id, "owner_account_id": owner_account_id, "created_at": at}
    write.connection.execute(insert(topic_consent), [values])
    _record(write, row, "AddPermission", account=owner_account_id)


def disallow(write: ControlWrite, row: TopicRow, owner_account_id: str) -> bool:
    """Close the topic to the account; False if it was not open to it."""
    found = topic_consent.c.topic_id == row.id, topic_consent.c.owner_account_id == owner_account_id
    if write.connection.execute(delete(topic_consent).where(*found)).rowcount == 0:
        return False
    _record(write, row, "RemovePermission", account=owner_account_id)
    return True


# ---------------------------------------------------------------- subscriptions


def confirmed(connection: Connection, topic_arn: str) -> tuple[int, ...]:
    """The subscriptions that are told what is sent to the topic; with none it is no handler (R13)."""
    row = find_topic(connection, topic_arn)
    if row is None:
        return ()
    found = subscription.c.topic_id == row.id, subscription.c.state == CONFIRMED
    return tuple(
        connection.execute(select(subscription.c.id).where(*found).order_by(subscription.c.id)).scalars()
    )


def subscriptions(connection: Connection, row: TopicRow) -> list[SubscriptionRow]:
    """All of a topic, whatever their state, the oldest first."""
    query = select(subscription).where(subscription.c.topic_id == row.id).order_by(subscription.c.id)
    return [SubscriptionRow(**one) for one in connection.execute(query).mappings()]


def find_subscription(connection: Connection, arn: str) -> Subscribed | None:
    """The subscription that ``TOPIC_ARN:UUID`` names, with its topic."""
    of, _, uuid = arn.rpartition(":")
    row = find_topic(connection, of)
    if row is None or not _UUID(uuid):
        return None
    found = subscription.c.topic_id == row.id, subscription.c.uuid == uuid
    one = connection.execute(select(subscription).where(*found)).mappings().first()
    return Subscribed(row, SubscriptionRow(**one)) if one else None


def find_by_confirmation(connection: Connection, hashed: str) -> Subscribed | None:
    """The subscription that the token with this hash confirms."""
    one = connection.execute(select(subscription).where(subscription.c.confirmation == hashed)).mappings()
    row = one.first()
    return load(connection, [row["id"]]).get(row["id"]) if row else None


def load(connection: Connection, ids: Sequence[int]) -> dict[int, Subscribed]:
    """Those subscriptions that there are, by id."""
    rows = connection.execute(select(subscription).where(subscription.c.id.in_(ids))).mappings().all()
    of = {row["topic_id"] for row in rows}
    found = connection.execute(select(topic).where(topic.c.id.in_(of))).mappings()
    topics = {row["id"]: TopicRow(**row) for row in found}
    return {row["id"]: Subscribed(topics[row["topic_id"]], SubscriptionRow(**row)) for row in rows}


def add_subscription(write: ControlWrite, of: TopicRow, row: SubscriptionRow) -> None:
    write.connection.execute(insert(subscription), [asdict(row)])
    _record(write, of, "Subscribe", **_named(row), state=row.state)


def change_subscription(write: ControlWrite, one: Subscribed, action: str, **values: Any) -> None:
    write.connection.execute(update(subscription).where(subscription.c.id == one.row.id).values(values))
    shown = {name: value for name, value in values.items() if name not in ("confirmation", "secret")}
    _record(write, one.topic, action, **_named(one.row), **shown)


def remove_subscription(write: ControlWrite, one: Subscribed, action: str) -> None:
    write.connection.execute(delete(subscription).where(subscription.c.id == one.row.id))
    _record(write, one.topic, action, **_named(one.row))


def expired(connection: Connection, at: int) -> list[Subscribed]:
    """Those that nobody confirmed in time, and those that were unsubscribed long enough ago."""
    late = subscription.c.state.in_((PENDING, UNSUBSCRIBED)), subscription.c.expires_at <= at
    ids = list(connection.execute(select(subscription.c.id).where(*late)).scalars())
    return list(load(connection, ids).values())


def failing(connection: Connection, since: int) -> list[Subscribed]:
    """Those that are told things and have failed without a success from before ``since``."""
    broken = subscription.c.state == CONFIRMED, subscription.c.failing_since <= since
    ids = list(connection.execute(select(subscription.c.id).where(*broken)).scalars())
    return list(load(connection, ids).values())


def _named(row: SubscriptionRow) -> dict[str, str]:
    return {"subscription": row.uuid, "protocol": row.protocol, "endpoint": row.endpoint}


def _record(write: ControlWrite, row: TopicRow, action: str, **detail: Any) -> None:
    write.record(topic_subject(row.account_id, row.name), action, **detail)


# ---------------------------------------------------------------- what signs


@dataclass(frozen=True, slots=True)
class KeyRow:
    """``private_key`` is sealed for ``key_place(id)``, ``certificate`` PEM."""

    id: int
    private_key: bytes
    certificate: str
    created_at: int


def newest_key(connection: Connection) -> KeyRow | None:
    """The key that signs."""
    query = select(sns_key).order_by(sns_key.c.id.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return KeyRow(**row) if row else None


def find_key(connection: Connection, key_id: int) -> KeyRow | None:
    row = connection.execute(select(sns_key).where(sns_key.c.id == key_id)).mappings().first()
    return KeyRow(**row) if row else None


def add_key(connection: Connection, row: KeyRow) -> None:
    connection.execute(insert(sns_key), [asdict(row)])
