"""Topics and their subscriptions: made, opened to other accounts, confirmed, brought back, removed.

Whoever answers at an http, https or email endpoint has to agree before it is told anything: it gets a token
that confirms the subscription, which the store keeps as a hash beside its sealed text.
"""

from __future__ import annotations

import base64
import hashlib
import secrets as random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from relay.control import accounts, endpoints, subscription_mail
from relay.control.endpoints import Endpoint
from relay.control.ground import ControlError, Ground, letters, now
from relay.queue import notification_views
from relay.queue.notifications import NO_EVENT, NewNotification, insert_notifications
from relay.store import topics
from relay.store.changes import ControlWrite
from relay.store.topics import (
    CONFIRMED,
    DEAD,
    PENDING,
    UNSUBSCRIBED,
    TopicRow,
    secret_place,
    topic_arn,
)
from relay.store.topics import Subscribed as Subscribed  # pages and commands know control only
from relay.store.topics import SubscriptionRow as SubscriptionRow

# The type of what is no event, and no handshake either.
_PUBLISHED = "Publish"
# 160 bits: nobody guesses one.
_TOKEN_LETTERS = 32
_SECRET_BYTES = 32
# SNS: the message of the two handshakes, to the letter.
_ASK_TO_CONFIRM = (
    "You have chosen to subscribe to the topic {arn}.\n"
    "To confirm the subscription, visit the SubscribeURL included in this message."
)
_ASK_IF_MEANT = (
    "You have chosen to deactivate subscription {arn}.\n"
    "To cancel this operation and restore the subscription, visit the SubscribeURL included in this message."
)


@dataclass(frozen=True, slots=True)
class TopicView:
    """A topic with all that belongs to it."""

    row: TopicRow
    arn: str
    open_to: tuple[str, ...]
    subscriptions: tuple[SubscriptionRow, ...]
    told_by: tuple[str, ...]

    def subscription_arn(self, row: SubscriptionRow) -> str:
        return f"{self.arn}:{row.uuid}"


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """``secret`` is what a webhook's receiver verifies with; it is shown this once."""

    arn: str
    status: str
    secret: str | None


# ---------------------------------------------------------------- topics


def create(ground: Ground, account_id: str, name: str, signature_version: int = 2) -> str:
    """A new topic's ARN."""
    accounts.get(ground, account_id)
    if not topics.is_topic_name(name):
        raise ControlError("invalid_name", f"{name!r}: a topic's name has 1 to 256 of A-Z, a-z, 0-9, - and _")
    arn = topic_arn(ground.region, account_id, name)
    with ground.write() as write:
        if topics.find_topic(write.connection, arn):
            raise ControlError("already_exists", f"{arn} exists already")
        topics.add(write, TopicRow(ground.new_id(), account_id, name, signature_version, now()))
    return arn


def every(ground: Ground, account_id: str | None) -> list[TopicView]:
    with ground.store.read() as connection:
        return [_view(ground, connection, row) for row in topics.every(connection, account_id)]


def show(ground: Ground, arn: str) -> TopicView:
    with ground.store.read() as connection:
        return _view(ground, connection, _present(topics.find_topic(connection, arn), arn))


def _view(ground: Ground, connection: Any, row: TopicRow) -> TopicView:
    arn = topic_arn(ground.region, row.account_id, row.name)
    return TopicView(
        row,
        arn,
        tuple(topics.consents(connection, row)),
        tuple(topics.subscriptions(connection, row)),
        tuple(_users(connection, arn)),
    )


def update(ground: Ground, arn: str, signature_version: int) -> None:
    with ground.write() as write:
        row = _present(topics.find_topic(write.connection, arn), arn)
        topics.change(write, row, signature_version=signature_version)


def delete(ground: Ground, arn: str) -> None:
    """Remove the topic with its subscriptions.

    Deliberate: SNS deletes a topic that is in use, and the events are lost.  Here nobody is cut off unseen.
    """
    with ground.write() as write:
        row = _present(topics.find_topic(write.connection, arn), arn)
        users = list(_users(write.connection, arn))
        if users:
            raise ControlError("in_use", f"{arn} is told of events by {'; '.join(users)}: change those first")
        topics.remove(write, row)


def _users(connection: Any, arn: str) -> Iterable[str]:
    for account_id, name in topics.identities_telling(connection, arn):
        yield f"identity {name} of account {account_id}"
    for set_name, name in topics.destinations_telling(connection, arn):
        yield f"destination {name} of configuration set {set_name}"


def allow(ground: Ground, arn: str, account_id: str) -> None:
    """Let identities of the account send their notifications to the topic."""
    accounts.get(ground, account_id)
    with ground.write() as write:
        row = _present(topics.find_topic(write.connection, arn), arn)
        if account_id == row.account_id:
            raise ControlError(
                "nothing_to_do", f"{arn} is of account {account_id}: its identities may anyway"
            )
        if account_id not in topics.consents(write.connection, row):
            topics.allow(write, row, account_id, now())


def disallow(ground: Ground, arn: str, account_id: str) -> None:
    """Take that back; what those identities would tell goes where it goes without a topic (R13)."""
    with ground.write() as write:
        row = _present(topics.find_topic(write.connection, arn), arn)
        if not topics.disallow(write, row, account_id):
            raise ControlError("not_found", f"{arn} is not open to account {account_id}")


def publish(ground: Ground, arn: str, message: str) -> str:
    """Tell every confirmed subscription of the topic a message of one's own; gives an id for it."""
    if message.startswith("{"):
        try:
            orjson.loads(message)
        except orjson.JSONDecodeError:
            raise ControlError("invalid_value", "a message that begins with { is JSON") from None
    with ground.write() as write:
        told = announce(ground, write, _present(topics.find_topic(write.connection, arn), arn), message)
        write.note(arn, "Publish", subscriptions=told)
    return str(uuid.uuid4())


def announce(ground: Ground, write: ControlWrite, row: TopicRow, message: str) -> int:
    """Tell the topic's confirmed subscriptions, in the caller's transaction; gives their number."""
    told = [one for one in topics.subscriptions(write.connection, row) if one.state == CONFIRMED]
    new = [
        NewNotification(ground.new_id(), one.account_id, one.id, NO_EVENT, _PUBLISHED, message, now())
        for one in told
    ]
    insert_notifications(write.connection, new)
    return len(new)


# ---------------------------------------------------------------- subscriptions


def subscribe(ground: Ground, arn: str, protocol: str, endpoint: str, raw: bool = False) -> NewSubscription:
    """A new subscription; one that waits for its confirmation is asked again."""
    to = endpoints.read(ground, protocol, endpoint, raw)
    with ground.write() as write:
        row = _present(topics.find_topic(write.connection, arn), arn)
        same = _same(write, row, to)
        if same is not None and same.state in (CONFIRMED, DEAD):
            raise ControlError("already_exists", f"{to.shown} is subscribed already: {arn}:{same.uuid}")
        if same is not None:
            topics.remove_subscription(write, Subscribed(row, same), "Resubscribe")
        made, secret = _new(ground, row, to, raw, same)
        topics.add_subscription(write, row, made)
        if made.state == PENDING:
            _ask(ground, write, Subscribed(row, made))
    return NewSubscription(f"{arn}:{made.uuid}", made.state, secret)


def _same(write: ControlWrite, row: TopicRow, to: Endpoint) -> SubscriptionRow | None:
    return next(
        (
            one
            for one in topics.subscriptions(write.connection, row)
            if (one.protocol, one.endpoint) == (to.protocol, to.shown)
        ),
        None,
    )


def _new(
    ground: Ground, of: TopicRow, to: Endpoint, raw: bool, before: SubscriptionRow | None
) -> tuple[SubscriptionRow, str | None]:
    """The row, and the secret that is to be shown; a subscription that is asked again keeps its ARN."""
    id_, at = ground.new_id(), now()
    known: dict[str, str] = {"basic": to.basic} if to.basic else {}
    shown = token = None
    if to.needs_confirmation:
        token = known["token"] = letters(_TOKEN_LETTERS)
    elif to.protocol == "webhook":
        known["key"] = base64.b64encode(random.token_bytes(_SECRET_BYTES)).decode()
        shown = f"whsec_{known['key']}"
    row = SubscriptionRow(
        id=id_,
        account_id=of.account_id,
        topic_id=of.id,
        uuid=before.uuid if before else str(uuid.uuid4()),
        protocol=to.protocol,
        endpoint=to.shown,
        state=PENDING if token else CONFIRMED,
        confirmation=hashed(token) if token else None,
        raw_delivery=raw,
        secret=ground.secrets.seal(orjson.dumps(known), secret_place(id_)) if known else None,
        created_at=at,
        expires_at=at + ground.subscribing.confirm_seconds * 1_000_000 if token else None,
    )
    return row, shown


def _ask(ground: Ground, write: ControlWrite, one: Subscribed) -> None:
    """Ask whoever answers at the endpoint whether it agrees."""
    if one.row.protocol == "email":
        subscription_mail.ask(ground, write, one, _token(ground, one.row))
        return
    arn = topic_arn(ground.region, one.topic.account_id, one.topic.name)
    _handshake(ground, write, one, "SubscriptionConfirmation", _ASK_TO_CONFIRM.format(arn=arn))


def _handshake(ground: Ground, write: ControlWrite, one: Subscribed, kind: str, text: str) -> None:
    row = one.row
    new = NewNotification(ground.new_id(), row.account_id, row.id, NO_EVENT, kind, text, now())
    insert_notifications(write.connection, [new])


def _token(ground: Ground, row: SubscriptionRow) -> str:
    assert row.secret is not None
    return str(orjson.loads(ground.secrets.open(row.secret, secret_place(row.id)))["token"])


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def find_by_token(ground: Ground, token: str) -> Subscribed:
    """The subscription that the token confirms, again if it did before; ControlError if there is none."""
    with ground.store.read() as connection:
        one = topics.find_by_confirmation(connection, hashed(token.strip()))
    return _if_it_serves(one)


def _if_it_serves(one: Subscribed | None) -> Subscribed:
    """A token confirms what is pending or was unsubscribed; for what is confirmed it does no harm."""
    late = one is not None and one.row.expires_at is not None and one.row.expires_at <= now()
    if one is None or late or one.row.state == DEAD:
        raise ControlError(
            "invalid_token",
            "no subscription waits for this token: it is not one, or is too old;"
            " subscribe the endpoint again to have a new one sent",
        )
    return one


def confirm(ground: Ground, token: str, topic: str | None = None) -> str:
    """The ARN of the subscription that the token was sent for, now confirmed; ``topic`` must be its topic."""
    find_by_token(ground, token)  # the one writer is not for who only guesses
    with ground.write() as write:
        one = _if_it_serves(topics.find_by_confirmation(write.connection, hashed(token.strip())))
        arn = topic_arn(ground.region, one.topic.account_id, one.topic.name)
        if topic is not None and topic != arn:
            raise ControlError("invalid_token", f"the token is of another topic than {topic}")
        if one.row.state != CONFIRMED:
            _confirmed(write, one, "ConfirmSubscription")
    return f"{arn}:{one.row.uuid}"


def vouch(ground: Ground, arn: str) -> str:
    """Confirm a pending subscription at the operator's word."""
    with ground.write() as write:
        one = _subscribed(write, arn)
        if one.row.state == DEAD:
            raise ControlError("dead", f"{arn} is dead: `relay topic revive` brings it back")
        if one.row.state != CONFIRMED:
            _confirmed(write, one, "ConfirmSubscription")
    return arn


def revive(ground: Ground, arn: str) -> SubscriptionRow:
    """Tell a subscription again that failed for too long."""
    with ground.write() as write:
        one = _subscribed(write, arn)
        if one.row.state != DEAD:
            raise ControlError("nothing_to_do", f"{arn} is {one.row.state}, not dead")
        _confirmed(write, one, "ReviveSubscription")
    return one.row


def _confirmed(write: ControlWrite, one: Subscribed, action: str) -> None:
    healthy = {"failing_since": None, "last_error": None}
    topics.change_subscription(write, one, action, state=CONFIRMED, expires_at=None, **healthy)


def unsubscribe(ground: Ground, arn: str) -> None:
    """End the subscription.  An http(s) endpoint is told so and may take it back for a while (SNS)."""
    with ground.write() as write:
        one = _subscribed(write, arn)
        if one.row.state == UNSUBSCRIBED:
            return  # a repeat must not end the time in which it may be taken back
        if one.row.protocol not in endpoints.HTTP or one.row.state == PENDING:
            topics.remove_subscription(write, one, "Unsubscribe")
            return
        expires_at = now() + ground.subscribing.confirm_seconds * 1_000_000
        topics.change_subscription(write, one, "Unsubscribe", state=UNSUBSCRIBED, expires_at=expires_at)
        _handshake(ground, write, one, "UnsubscribeConfirmation", _ASK_IF_MEANT.format(arn=arn))


def _subscribed(write: ControlWrite, arn: str) -> Subscribed:
    one = topics.find_subscription(write.connection, arn)
    if one is None:
        raise ControlError("not_found", f"no subscription {arn}; `relay topic show TOPIC_ARN` lists them")
    return one


def find(ground: Ground, arn: str) -> Subscribed:
    """A subscription by its ARN."""
    with ground.store.read() as connection:
        one = topics.find_subscription(connection, arn)
    if one is None:
        raise ControlError("not_found", f"no subscription {arn}; `relay topic show TOPIC_ARN` lists them")
    return one


def waiting(ground: Ground, view: TopicView) -> dict[int, dict[str, int]]:
    """How many notifications of each subscription are in which state."""
    with ground.store.read() as connection:
        return notification_views.counts(connection, [row.id for row in view.subscriptions])


def certificate(ground: Ground, key_id: int) -> str | None:
    """The certificate of a key that signs, or signed, notifications; PEM."""
    with ground.store.read() as connection:
        key = topics.find_key(connection, key_id)
    return key.certificate if key else None


def _present(row: TopicRow | None, arn: str) -> TopicRow:
    if row is None:
        raise ControlError("not_found", f"no topic {arn}; `relay topic list` shows all")
    return row
