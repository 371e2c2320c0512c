"""Configuration sets: made, listed, changed, removed; their event destinations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.control import accounts, tags
from relay.control.ground import ControlError, Ground, now
from relay.control.topics import announce
from relay.outcome.events import TYPES
from relay.store import configuration_sets, topics
from relay.store import tags as stored_tags
from relay.store.changes import ControlWrite
from relay.store.configuration_sets import ConfigurationSetRow
from relay.store.configuration_sets import DestinationRow as DestinationRow  # the API shows it
from relay.store.suppression import write_reasons
from relay.store.topics import TopicRow

# SES API v2, ConfigurationSetName.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
# SES API v2, MaxDeliverySeconds.
LEAST_SECONDS, MOST_SECONDS = 300, 50_400
# What SES publishes to a topic when a destination for it is made.
_VALIDATED = "Successfully validated SNS topic for Amazon SES event publishing."
_TYPE_BY_WORD = {stored.replace("_", "").lower(): name for stored, name in TYPES.items()}


@dataclass(frozen=True, slots=True)
class SetView:
    """A set with its event destinations."""

    row: ConfigurationSetRow
    destinations: tuple[DestinationRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What to change of a set; None leaves it as it is."""

    tls_policy: str | None = None
    sending_enabled: bool | None = None
    max_delivery_seconds: int | None = None

    def changes(self) -> dict[str, tuple[str, Any]]:
        """The new value of each column with the name of SES's operation; ControlError if one cannot be."""
        found: dict[str, tuple[str, Any]] = {}
        if self.tls_policy is not None:
            found["tls_policy"] = "PutConfigurationSetDeliveryOptions", self.tls_policy
        if self.sending_enabled is not None:
            found["sending_enabled"] = "PutConfigurationSetSendingOptions", self.sending_enabled
        if self.max_delivery_seconds is not None:
            seconds = _checked_seconds(self.max_delivery_seconds)
            found["max_delivery_seconds"] = "PutConfigurationSetDeliveryOptions", seconds
        return found


def _checked_seconds(seconds: int) -> int:
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise ControlError(
            "invalid_value", f"a message is tried for {LEAST_SECONDS} to {MOST_SECONDS} seconds"
        )
    return seconds


def create(
    ground: Ground,
    account_id: str,
    name: str,
    options: Options | None = None,
    suppressed_reasons: frozenset[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> SetView:
    """A new set; mail names it in X-SES-CONFIGURATION-SET.  Reasons are those of ``suppress``."""
    _check_name("configuration set", name)
    given = {column: value for column, (_, value) in (options or Options()).changes().items()}
    values = {"sending_enabled": True, "tls_policy": "OPTIONAL", **given}
    if suppressed_reasons is not None:
        values["suppressed_reasons"] = write_reasons(suppressed_reasons)
    row = ConfigurationSetRow(
        id=ground.new_id(), account_id=account_id, name=name, created_at=now(), **values
    )
    with ground.write() as write:
        accounts.require(write.connection, account_id)
        if configuration_sets.find(write.connection, account_id, name):
            raise ControlError("already_exists", f"account {account_id} has a set {name} already")
        configuration_sets.add(write, row)
        tags.add(write, account_id, _arn(ground, row), labels or {})
    return SetView(row)


def show(ground: Ground, account_id: str, name: str) -> SetView:
    with ground.store.read() as connection:
        row = _present(configuration_sets.find(connection, account_id, name), account_id, name)
        return SetView(row, tuple(configuration_sets.destinations(connection, row.id)))


def every(ground: Ground, account_id: str | None) -> list[ConfigurationSetRow]:
    with ground.store.read() as connection:
        return configuration_sets.every(connection, account_id)


def update(ground: Ground, account_id: str, name: str, options: Options) -> SetView:
    """Change what the options name; it holds for mail accepted from then on."""
    given = options.changes()
    if not given:
        raise ControlError("nothing_to_do", "name what to change, such as --tls-policy require")
    with ground.write() as write:
        row = _present(configuration_sets.find(write.connection, account_id, name), account_id, name)
        for column, (action, value) in given.items():
            configuration_sets.change(write, row, action, **{column: value})
    return show(ground, account_id, name)


def suppress(ground: Ground, account_id: str, name: str, reasons: frozenset[str] | None) -> SetView:
    """For which reasons mail of the set is not sent to an address on the account's suppression list, and
    gets one on it; None leaves both to the account."""
    written = None if reasons is None else write_reasons(reasons)
    with ground.write() as write:
        row = _present(configuration_sets.find(write.connection, account_id, name), account_id, name)
        action = "PutConfigurationSetSuppressionOptions"
        configuration_sets.change(write, row, action, suppressed_reasons=written)
    return show(ground, account_id, name)


def delete(ground: Ground, account_id: str, name: str) -> ConfigurationSetRow:
    """Remove the set with its destinations; mail that names it is refused from then on.

    Mail that was accepted with it still goes, and is told of as if it had none.
    """
    with ground.write() as write:
        row = _present(configuration_sets.find(write.connection, account_id, name), account_id, name)
        identities = configuration_sets.default_of(write.connection, account_id, name)
        if identities:
            raise ControlError("in_use", f"{name} is the default set of {', '.join(identities)}")
        configuration_sets.remove(write, row)
        stored_tags.forget(write, _arn(ground, row))
    return row


def _arn(ground: Ground, row: ConfigurationSetRow) -> str:
    return tags.arn_of(ground, row.account_id, "configuration-set", row.name)


# ---------------------------------------------------------------- event destinations


@dataclass(frozen=True, slots=True)
class DestinationChange:
    """What a destination is to have; None leaves it as it is, and is no answer for a new one.

    ``event_types`` are words such as bounce, deliveryDelay or DELIVERY_DELAY.
    """

    topic_arn: str | None = None
    event_types: tuple[str, ...] | None = None
    enabled: bool | None = None


def put_destination(
    ground: Ground, account_id: str, set_name: str, name: str, wanted: DestinationChange
) -> SetView:
    """Make the destination, or change it; it holds for what happens from then on."""
    _check_name("destination", name)
    types = None if wanted.event_types is None else _read_types(wanted.event_types)
    with ground.write() as write:
        of = _present(configuration_sets.find(write.connection, account_id, set_name), account_id, set_name)
        held = {one.name: one for one in configuration_sets.destinations(write.connection, of.id)}.get(name)
        topic_arn = wanted.topic_arn or (held.topic_arn if held else None)
        types = types or (held.event_types if held else None)
        if topic_arn is None or types is None:
            raise ControlError(
                "incomplete",
                f"{set_name} has no destination {name}: a new one needs --topic and --events",
            )
        topic = _checked_topic(write, account_id, topic_arn)
        if held is None:
            announce(ground, write, topic, _VALIDATED)
        # SES leaves a new one off unless it is told otherwise; a command that makes one means it.
        is_on = wanted.enabled if wanted.enabled is not None else (held.enabled if held else True)
        row = DestinationRow(held.id if held else ground.new_id(), name, is_on, types, topic_arn)
        configuration_sets.put_destination(write, of, row)
    return show(ground, account_id, set_name)


def remove_destination(ground: Ground, account_id: str, set_name: str, name: str) -> SetView:
    with ground.write() as write:
        of = _present(configuration_sets.find(write.connection, account_id, set_name), account_id, set_name)
        if not configuration_sets.remove_destination(write, of, name):
            raise ControlError("not_found", f"No EventDestination found for {name}")
    return show(ground, account_id, set_name)


def _read_types(words: Iterable[str]) -> frozenset[str]:
    """``bounce``, ``deliveryDelay``, ``delivery-delay`` and ``DELIVERY_DELAY`` are all taken."""
    found = set()
    for word in words:
        name = _TYPE_BY_WORD.get(re.sub("[_-]", "", word.strip()).lower())
        if name is None:
            known = ", ".join(stored.lower().replace("_", "-") for stored in TYPES)
            raise ControlError("invalid_value", f"{word!r} is no event that happens here: {known}")
        found.add(name)
    if not found:
        raise ControlError("invalid_value", "a destination takes at least one type of event")
    return frozenset(found)


def _checked_topic(write: ControlWrite, account_id: str, arn: str) -> TopicRow:
    topic = topics.find_topic(write.connection, arn)
    if topic is None:
        raise ControlError("not_found", f"SNS topic {arn} not found; see `relay topic list`")
    if topic.account_id != account_id:
        raise ControlError(
            "not_allowed", f"{arn} belongs to account {topic.account_id}; a set sends to topics of its own"
        )
    return topic


def _check_name(what: str, name: str) -> None:
    if not _NAME(name):
        raise ControlError("invalid_name", f"{name!r}: a {what}'s name has 1 to 64 of A-Z, a-z, 0-9, - and _")


def _present(row: ConfigurationSetRow | None, account_id: str, name: str) -> ConfigurationSetRow:
    if row is None:
        raise ControlError(
            "not_found",
            f"account {account_id} has no configuration set {name}; see `relay configuration-set list`",
        )
    return row
