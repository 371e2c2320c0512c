"""Event destinations of configuration sets, v1 and v2: topics of the caller's account, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.api import models
from relay.api.configuration_sets import does_not_exist, find
from relay.api.errors import named
from relay.api.targets import configuration_set
from relay.api.values import APIError, Caller, Operations, in_thread, refuse_members
from relay.control import configuration_sets
from relay.control.configuration_sets import DestinationChange, DestinationRow, SetView
from relay.outcome.events import TYPES

_NOT_OFFERED_V2 = (
    "KinesisFirehoseDestination",
    "CloudWatchDestination",
    "EventBridgeDestination",
    "PinpointDestination",
)
_INVALID_TOPIC = {
    "not_found": "InvalidSNSDestinationException",
    "not_allowed": "InvalidSNSDestinationException",
}
_MOST = 10
# What v2 calls each type of event.
_STORED = {name: stored for stored, name in TYPES.items()}


def _held(view: SetView, name: str) -> bool:
    return any(one.name == name for one in view.destinations)


def _put(caller: Caller, view: SetView, name: str, wanted: DestinationChange) -> None:
    configuration_sets.put_destination(caller.ground, caller.account_id, view.row.name, name, wanted)


# ---------------------------------------------------------------- v1


def _set_v1(caller: Caller, given: Mapping[str, Any]) -> SetView:
    view = find(caller, given["ConfigurationSetName"])
    if view is None:
        code = "ConfigurationSetDoesNotExistException"
        raise APIError(code, does_not_exist(given["ConfigurationSetName"]))
    return view


def _wanted_v1(given: Mapping[str, Any]) -> DestinationChange:
    for kind, code in (("KinesisFirehose", "InvalidFirehose"), ("CloudWatch", "InvalidCloudWatch")):
        if f"{kind}Destination" in given:
            raise APIError(f"{code}DestinationException", f"{kind}Destination is not offered here.")
    if "SNSDestination" not in given:
        raise APIError("InvalidSNSDestinationException", "SNSDestination is needed.")
    return DestinationChange(
        topic_arn=given["SNSDestination"]["TopicARN"],
        event_types=tuple(given["MatchingEventTypes"]),
        enabled=given.get("Enabled", False),
    )


def create_v1(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view, name = _set_v1(caller, given), given["EventDestination"]["Name"]
    if _held(view, name):
        raise APIError("EventDestinationAlreadyExistsException", f"EventDestination {name} already exists.")
    if len(view.destinations) >= _MOST:
        raise APIError("LimitExceededException", f"A configuration set has at most {_MOST} destinations.")
    with named(_INVALID_TOPIC):
        _put(caller, view, name, _wanted_v1(given["EventDestination"]))
    return {}


def update_v1(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view, name = _set_v1(caller, given), given["EventDestination"]["Name"]
    _require_v1(view, name)
    with named(_INVALID_TOPIC):
        _put(caller, view, name, _wanted_v1(given["EventDestination"]))
    return {}


def delete_v1(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view, name = _set_v1(caller, given), given["EventDestinationName"]
    _require_v1(view, name)
    configuration_sets.remove_destination(caller.ground, caller.account_id, view.row.name, name)
    return {}


def _require_v1(view: SetView, name: str) -> None:
    if not _held(view, name):
        raise APIError("EventDestinationDoesNotExistException", f"No EventDestination found for {name}")


# ---------------------------------------------------------------- v2


def _set_v2(caller: Caller, given: Mapping[str, Any]) -> SetView:
    view = find(caller, given["ConfigurationSetName"])
    if view is None:
        raise APIError("NotFoundException", does_not_exist(given["ConfigurationSetName"]))
    return view


def _wanted_v2(given: Mapping[str, Any], is_new: bool) -> DestinationChange:
    """What an update leaves out stays as it is; a new one is off unless it is told otherwise, as in SES."""
    refuse_members(given, _NOT_OFFERED_V2, "EventDestination.")
    if is_new and "SnsDestination" not in given:
        raise APIError("BadRequestException", "EventDestination: SnsDestination is needed.")
    types = given.get("MatchingEventTypes")
    return DestinationChange(
        topic_arn=given["SnsDestination"]["TopicArn"] if "SnsDestination" in given else None,
        event_types=tuple(types) if types is not None else None,
        enabled=given.get("Enabled", False if is_new else None),
    )


def create_v2(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view, name = _set_v2(caller, given), given["EventDestinationName"]
    if _held(view, name):
        raise APIError("AlreadyExistsException", f"EventDestination {name} already exists.")
    if len(view.destinations) >= _MOST:
        raise APIError("LimitExceededException", f"A configuration set has at most {_MOST} destinations.")
    _put(caller, view, name, _wanted_v2(given["EventDestination"], is_new=True))
    return {}


def update_v2(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view, name = _set_v2(caller, given), given["EventDestinationName"]
    _require_v2(view, name)
    _put(caller, view, name, _wanted_v2(given["EventDestination"], is_new=False))
    return {}


def delete_v2(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view, name = _set_v2(caller, given), given["EventDestinationName"]
    _require_v2(view, name)
    configuration_sets.remove_destination(caller.ground, caller.account_id, view.row.name, name)
    return {}


def _require_v2(view: SetView, name: str) -> None:
    if not _held(view, name):
        raise APIError("NotFoundException", f"No EventDestination found for {name}")


def list_v2(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"EventDestinations": [_shown(one) for one in _set_v2(caller, given).destinations]}


def _shown(one: DestinationRow) -> dict[str, Any]:
    return {
        "Name": one.name,
        "Enabled": one.enabled,
        "MatchingEventTypes": sorted(_STORED[name] for name in one.event_types),
        "SnsDestination": {"TopicArn": one.topic_arn},
    }


_OF_SET = configuration_set("ConfigurationSetName")

OPERATIONS: Operations = {
    (service, name): in_thread(work, name, _OF_SET)
    for service, name, work in (
        (models.SES, "CreateConfigurationSetEventDestination", create_v1),
        (models.SES, "UpdateConfigurationSetEventDestination", update_v1),
        (models.SES, "DeleteConfigurationSetEventDestination", delete_v1),
        (models.SESV2, "CreateConfigurationSetEventDestination", create_v2),
        (models.SESV2, "UpdateConfigurationSetEventDestination", update_v2),
        (models.SESV2, "DeleteConfigurationSetEventDestination", delete_v2),
        (models.SESV2, "GetConfigurationSetEventDestinations", list_v2),
    )
}
