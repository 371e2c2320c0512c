"""Configuration sets, in the words of SES v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from relay.api import models
from relay.api.configuration_sets import does_not_exist, find
from relay.api.pages import page, page_size
from relay.api.tags import labels, tags_of
from relay.api.targets import configuration_set, nothing
from relay.api.values import APIError, Caller, Operations, in_thread, refuse_members
from relay.control import configuration_sets
from relay.control.configuration_sets import Options, SetView
from relay.control.tags import arn_of

_DEFAULT_PAGE = 1000
# What SES can do for a set and this cannot.
_NOT_OFFERED = ("TrackingOptions", "VdmOptions", "ArchivingOptions", "MessageSecurityOptions")
_NOT_OF_DELIVERY = ("SendingPoolName", "SharedPoolDeliveryMode")
_NOT_OF_SUPPRESSION = ("SuppressionScope", "ValidationOptions")


def _must_find(caller: Caller, name: str) -> SetView:
    found = find(caller, name)
    if found is None:
        raise APIError("NotFoundException", does_not_exist(name))
    return found


def create(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    refuse_members(given, _NOT_OFFERED)
    delivery, suppression = given.get("DeliveryOptions", {}), given.get("SuppressionOptions", {})
    refuse_members(delivery, _NOT_OF_DELIVERY, "DeliveryOptions.")
    refuse_members(suppression, _NOT_OF_SUPPRESSION, "SuppressionOptions.")
    if given.get("ReputationOptions", {}).get("ReputationMetricsEnabled"):
        refuse_members(given, ["ReputationOptions"])
    configuration_sets.create(
        caller.ground,
        caller.account_id,
        given["ConfigurationSetName"],
        Options(
            tls_policy=delivery.get("TlsPolicy"),
            sending_enabled=given.get("SendingOptions", {}).get("SendingEnabled"),
            max_delivery_seconds=delivery.get("MaxDeliverySeconds"),
        ),
        suppressed_reasons=_reasons(suppression),
        labels=labels(given.get("Tags", ())),
    )
    return {}


def _reasons(given: Mapping[str, Any]) -> frozenset[str] | None:
    """None follows the account."""
    reasons = given.get("SuppressedReasons")
    return None if reasons is None else frozenset(reasons)


def get(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = _must_find(caller, given["ConfigurationSetName"]).row
    found = {
        "ConfigurationSetName": row.name,
        "DeliveryOptions": {
            "TlsPolicy": row.tls_policy,
            "MaxDeliverySeconds": row.max_delivery_seconds,
        },
        "ReputationOptions": {"ReputationMetricsEnabled": False},
        "SendingOptions": {"SendingEnabled": row.sending_enabled},
        "Tags": tags_of(caller, arn_of(caller.ground, caller.account_id, "configuration-set", row.name)),
    }
    if row.suppressed_reasons is not None:
        found["SuppressionOptions"] = {"SuppressedReasons": orjson.loads(row.suppressed_reasons)}
    return found


def list_(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    refuse_members(given, ["Filter"])
    names = [row.name for row in configuration_sets.every(caller.ground, caller.account_id)]
    chosen, token = page(caller, names, given.get("NextToken"), page_size(given, "PageSize", _DEFAULT_PAGE))
    return {"ConfigurationSets": chosen, "NextToken": token}


def delete(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = _must_find(caller, given["ConfigurationSetName"]).row
    configuration_sets.delete(caller.ground, caller.account_id, row.name)
    return {}


def put_delivery_options(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    refuse_members(given, _NOT_OF_DELIVERY)
    row = _must_find(caller, given["ConfigurationSetName"]).row
    options = Options(given.get("TlsPolicy", "OPTIONAL"), None, given.get("MaxDeliverySeconds"))
    configuration_sets.update(caller.ground, caller.account_id, row.name, options)
    return {}


def put_sending_options(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = _must_find(caller, given["ConfigurationSetName"]).row
    options = Options(sending_enabled=given.get("SendingEnabled", False))
    configuration_sets.update(caller.ground, caller.account_id, row.name, options)
    return {}


def put_suppression_options(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    refuse_members(given, _NOT_OF_SUPPRESSION)
    row = _must_find(caller, given["ConfigurationSetName"]).row
    configuration_sets.suppress(caller.ground, caller.account_id, row.name, _reasons(given))
    return {}


_OF_SET = configuration_set("ConfigurationSetName")

OPERATIONS: Operations = {
    (models.SESV2, name): in_thread(work, name, target)
    for name, work, target in (
        ("CreateConfigurationSet", create, _OF_SET),
        ("GetConfigurationSet", get, _OF_SET),
        ("ListConfigurationSets", list_, nothing),
        ("DeleteConfigurationSet", delete, _OF_SET),
        ("PutConfigurationSetDeliveryOptions", put_delivery_options, _OF_SET),
        ("PutConfigurationSetSendingOptions", put_sending_options, _OF_SET),
        ("PutConfigurationSetSuppressionOptions", put_suppression_options, _OF_SET),
    )
}
