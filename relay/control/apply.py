"""Makes the store what a file says: reads what there is, and does the steps of a plan, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from relay.authorization.identities import identity_arn
from relay.control import accounts, configuration_sets, dkim, feedback, identities, policies, topics, users
from relay.control.configuration_sets import DestinationChange, Options
from relay.control.feedback import NONE, Chosen
from relay.control.ground import ControlError, Ground
from relay.control.plan import Action, Step
from relay.control.wanted import Key, Table, canonical
from relay.outcome.events import TYPES
from relay.store.topics import UNSUBSCRIBED, topic_arn

Values = Mapping[str, Any]
_STORED = {name: stored for stored, name in TYPES.items()}
_TOPICS = ("bounce", "complaint", "delivery")


# ---------------------------------------------------------------- what there is


def existing(ground: Ground, wanted: Table) -> Table:
    """Everything that a file can say, of the accounts that this one names."""
    table: Table = {}
    named = {key.account_id for key in wanted}
    for row in accounts.every(ground):
        if row.account_id in named:
            values = {name: getattr(row, name) for name in _OF_ACCOUNT}
            table[Key("account", row.account_id, row.account_id)] = values
            for read in (_users, _topics, _sets, _identities):
                table.update(read(ground, row.account_id))
    # Every user is made with it, so that a file need not say it.
    return {key: values for key, values in table.items() if key in wanted or values != _FIRST_POLICY}


_FIRST_POLICY = {"document": canonical(users.FIRST_POLICY)}
_OF_ACCOUNT = ("name", "production", "max_24h_send", "max_send_rate")


def _users(ground: Ground, account_id: str) -> Iterator[tuple[Key, Values]]:
    for user, _ in users.every(ground, account_id):
        yield Key("user", account_id, user.name), {"path": user.path, "tags": user.tags}
        for name, document in users.documents(ground, user).items():
            yield Key("user policy", account_id, user.name, name), {"document": canonical(document)}


def _topics(ground: Ground, account_id: str) -> Iterator[tuple[Key, Values]]:
    for view in topics.every(ground, account_id):
        name = view.row.name
        yield Key("topic", account_id, name), {"signature_version": view.row.signature_version}
        for other in view.open_to:
            yield Key("consent", account_id, name, other), {}
        for one in view.subscriptions:
            if one.state != UNSUBSCRIBED:
                part = f"{one.protocol} {one.endpoint}"
                yield Key("subscription", account_id, name, part), {"raw": one.raw_delivery}


def _sets(ground: Ground, account_id: str) -> Iterator[tuple[Key, Values]]:
    for row in configuration_sets.every(ground, account_id):
        yield (
            Key("configuration set", account_id, row.name),
            {
                "tls_policy": row.tls_policy,
                "sending": row.sending_enabled,
                "max_delivery_seconds": row.max_delivery_seconds,
            },
        )
        for one in configuration_sets.show(ground, account_id, row.name).destinations:
            events = sorted(_STORED[name] for name in one.event_types)
            found = {"topic": one.topic_arn, "events": events, "enabled": one.enabled}
            yield Key("destination", account_id, row.name, one.name), found


def _identities(ground: Ground, account_id: str) -> Iterator[tuple[Key, Values]]:
    for view in identities.every(ground, account_id):
        row = view.row
        values = {
            "dkim": row.dkim_enabled,
            "feedback_forwarding": row.feedback_forwarding,
            "configuration_set": row.configuration_set or "",
        }
        values |= {f"{kind}_topic": getattr(row, f"{kind}_topic") or "" for kind in _TOPICS}
        yield Key("identity", account_id, row.name), values
        for name, document in policies.documents(ground, view).items():
            yield Key("identity policy", account_id, row.name, name), {"document": canonical(document)}


# ---------------------------------------------------------------- what is done


def perform(ground: Ground, step: Step) -> None:
    """Do one step; ControlError if it cannot be done."""
    if step.action is Action.DELETE:
        _DELETES[step.key.kind](ground, step.key)
    else:
        _PUTS[step.key.kind](ground, step.key, step.values, step.action is Action.CREATE)


def _account(ground: Ground, key: Key, values: Values, is_new: bool) -> None:
    if is_new:
        accounts.create(ground, values.get("name", key.name), key.account_id, **_but(values, "name"))
    else:
        accounts.update(ground, key.account_id, **values)


def _user(ground: Ground, key: Key, values: Values, is_new: bool) -> None:
    tags = (f"{name}={value}" for name, value in values.get("tags", {}).items())
    users.create(ground, key.name, key.account_id, values.get("path", "/"), tags)


def _user_policy(ground: Ground, key: Key, values: Values, is_new: bool) -> None:
    users.put_policy(ground, key.name, key.account_id, key.part, values["document"])


def _topic(ground: Ground, key: Key, values: Values, is_new: bool) -> None:
    if is_new:
        topics.create(ground, key.account_id, key.name, values.get("signature_version", 2))
    else:
        topics.update(ground, _topic_arn(ground, key), values["signature_version"])


def _consent(ground: Ground, key: Key, values: Values, is_new: bool) -> None:
    topics.allow(ground, _topic_arn(ground, key), key.part)


def _subscription(ground: Ground, key: Key, values: Values, is_new: bool) -> None:
    protocol, _, endpoint = key.part.partition(" ")
    topics.subscribe(ground, _topic_arn(ground, key), protocol, endpoint, values["raw"])


def _set(ground: Ground, key: Key, values: Values, is_new: bool) -> None:
    options = Options(values.get("tls_policy"), values.get("sending"), values.get("max_delivery_seconds"))
    do = configuration_sets.create if is_new else configuration_sets.update
    do(ground, key.account_id, key.name, options)


def _destination(ground: Ground, key: Key, values: Values, is_new: bool) -> None:
    events = tuple(values["events"]) if "events" in values else None
    change = DestinationChange(values.get("topic"), events, values.get("enabled"))
    configuration_sets.put_destination(ground, key.account_id, key.name, key.part, change)


def _identity(ground: Ground, key: Key, values: Values, is_new: bool) -> None:
    if is_new:
        identities.create(ground, key.name, key.account_id, values.get("verified", False))
    if "dkim" in values:
        row = identities.show(ground, key.name, key.account_id).row
        if row.dkim_enabled != values["dkim"]:
            dkim.set_enabled(ground, row, values["dkim"])
    told = {kind: values[f"{kind}_topic"] or NONE for kind in _TOPICS if f"{kind}_topic" in values}
    default = values.get("configuration_set")
    chosen = Chosen(values.get("feedback_forwarding"), NONE if default == "" else default, told)
    if not chosen.is_nothing:
        feedback.choose(ground, key.name, key.account_id, chosen)


def _identity_policy(ground: Ground, key: Key, values: Values, is_new: bool) -> None:
    arn = identity_arn(ground.region, key.account_id, key.name)
    policies.put(ground, arn, key.part, values["document"])


def _unsubscribe(ground: Ground, key: Key) -> None:
    view = topics.show(ground, _topic_arn(ground, key))
    for one in view.subscriptions:
        if f"{one.protocol} {one.endpoint}" == key.part:
            topics.unsubscribe(ground, view.subscription_arn(one))


def _topic_arn(ground: Ground, key: Key) -> str:
    return topic_arn(ground.region, key.account_id, key.name)


def _but(values: Values, name: str) -> dict[str, Any]:
    return {one: value for one, value in values.items() if one != name}


_PUTS: dict[str, Callable[[Ground, Key, Values, bool], None]] = {
    "account": _account,
    "user": _user,
    "user policy": _user_policy,
    "topic": _topic,
    "consent": _consent,
    "subscription": _subscription,
    "configuration set": _set,
    "destination": _destination,
    "identity": _identity,
    "identity policy": _identity_policy,
}
_DELETES: dict[str, Callable[[Ground, Key], Any]] = {
    "user": lambda ground, key: users.delete(ground, key.name, key.account_id),
    "user policy": lambda ground, key: users.delete_policy(ground, key.name, key.account_id, key.part),
    "topic": lambda ground, key: topics.delete(ground, _topic_arn(ground, key)),
    "consent": lambda ground, key: topics.disallow(ground, _topic_arn(ground, key), key.part),
    "subscription": _unsubscribe,
    "configuration set": lambda ground, key: configuration_sets.delete(ground, key.account_id, key.name),
    "destination": lambda ground, key: configuration_sets.remove_destination(
        ground, key.account_id, key.name, key.part
    ),
    "identity": lambda ground, key: identities.delete(ground, key.name, key.account_id),
    "identity policy": lambda ground, key: policies.delete(
        ground, identity_arn(ground.region, key.account_id, key.name), key.part
    ),
}


def attempt(ground: Ground, step: Step) -> str | None:
    """Do one step; why it could not be done, or None."""
    try:
        perform(ground, step)
    except ControlError as error:
        return error.text
    return None
