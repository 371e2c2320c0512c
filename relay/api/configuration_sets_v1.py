"""Configuration sets, in the words of SES v1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.api import models
from relay.api.configuration_sets import destination_v1, does_not_exist, find
from relay.api.errors import named
from relay.api.pages import page, page_size
from relay.api.targets import configuration_set, nothing
from relay.api.values import APIError, Caller, Operations, Target, in_thread
from relay.control import configuration_sets
from relay.control.configuration_sets import Options, SetView
from relay.control.tags import arn_of

_DEFAULT_PAGE = 1000


def _must_find(caller: Caller, name: str) -> SetView:
    found = find(caller, name)
    if found is None:
        raise APIError("ConfigurationSetDoesNotExistException", does_not_exist(name))
    return found


def create(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    codes = {
        "already_exists": "ConfigurationSetAlreadyExistsException",
        "invalid_name": "InvalidConfigurationSetException",
    }
    with named(codes):
        configuration_sets.create(caller.ground, caller.account_id, given["ConfigurationSet"]["Name"])
    return {}


def describe(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view = _must_find(caller, given["ConfigurationSetName"])
    row = view.row
    wanted = given.get("ConfigurationSetAttributeNames", ())
    found: dict[str, Any] = {"ConfigurationSet": {"Name": row.name}}
    if "eventDestinations" in wanted:
        found["EventDestinations"] = [destination_v1(one) for one in view.destinations]
    if "deliveryOptions" in wanted:
        found["DeliveryOptions"] = {"TlsPolicy": row.tls_policy.capitalize()}
    if "reputationOptions" in wanted:
        found["ReputationOptions"] = {
            "SendingEnabled": row.sending_enabled,
            "ReputationMetricsEnabled": False,
        }
    return found


def list_(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    names = [row.name for row in configuration_sets.every(caller.ground, caller.account_id)]
    chosen, token = page(caller, names, given.get("NextToken"), page_size(given, "MaxItems", _DEFAULT_PAGE))
    return {"ConfigurationSets": [{"Name": name} for name in chosen], "NextToken": token}


def delete(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = _must_find(caller, given["ConfigurationSetName"]).row
    configuration_sets.delete(caller.ground, caller.account_id, row.name)
    return {}


def put_delivery_options(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = _must_find(caller, given["ConfigurationSetName"]).row
    policy = given.get("DeliveryOptions", {}).get("TlsPolicy", "Optional")
    configuration_sets.update(caller.ground, caller.account_id, row.name, Options(tls_policy=policy.upper()))
    return {}


def update_sending_enabled(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = _must_find(caller, given["ConfigurationSetName"]).row
    options = Options(sending_enabled=given["Enabled"])
    configuration_sets.update(caller.ground, caller.account_id, row.name, options)
    return {}


def _new(caller: Caller, given: Mapping[str, Any]) -> Target:
    """A name that is none has an error of its own."""
    name = given["ConfigurationSet"]["Name"]
    return Target(arn_of(caller.ground, caller.account_id, "configuration-set", name), caller.account_id)


_OF_SET = configuration_set("ConfigurationSetName")

OPERATIONS: Operations = {
    (models.SES, name): in_thread(work, name, target)
    for name, work, target in (
        ("CreateConfigurationSet", create, _new),
        ("DescribeConfigurationSet", describe, _OF_SET),
        ("ListConfigurationSets", list_, nothing),
        ("DeleteConfigurationSet", delete, _OF_SET),
        ("PutConfigurationSetDeliveryOptions", put_delivery_options, _OF_SET),
        ("UpdateConfigurationSetSendingEnabled", update_sending_enabled, _OF_SET),
    )
}
