"""Configuration sets of the caller, as calls of either version name them."""

from __future__ import annotations

from typing import Any

from relay.api.values import Caller
from relay.control import configuration_sets
from relay.control.configuration_sets import DestinationRow, SetView
from relay.control.ground import ControlError
from relay.outcome.events import DELIVERY_DELAY


def find(caller: Caller, name: str) -> SetView | None:
    try:
        return configuration_sets.show(caller.ground, caller.account_id, name)
    except ControlError:
        return None


def does_not_exist(name: str) -> str:
    """SES's sentence."""
    return f"Configuration set <{name}> does not exist."


def destination_v1(one: DestinationRow) -> dict[str, Any]:
    """v1 knows no delays: a destination that is told of them too shows the rest."""
    return {
        "Name": one.name,
        "Enabled": one.enabled,
        "MatchingEventTypes": [name.lower() for name in sorted(one.event_types - {DELIVERY_DELAY})],
        "SNSDestination": {"TopicARN": one.topic_arn},
    }
