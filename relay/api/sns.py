"""Topics and their subscriptions, in the words of SNS.

Deliberate: only endpoints that have to agree are subscribed by this way (http, https, email); the others
reach into the gateway's own machine and credentials, and are the operator's (``relay topic subscribe``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from relay.api import models
from relay.api.pages import page
from relay.api.targets import nothing, subscription, topic
from relay.api.values import APIError, Caller, Operation, Operations, Target, in_thread, refuse_members
from relay.control import topics
from relay.control.ground import ControlError
from relay.control.topics import SubscriptionRow, TopicView

_PAGE = 100
_PROTOCOLS = ("http", "https", "email")
_RAW, _VERSION = "RawMessageDelivery", "SignatureVersion"
_PENDING = "PendingConfirmation"


def _invalid(text: str) -> APIError:
    return APIError("InvalidParameterException", f"Invalid parameter: {text}")


def _must_find(caller: Caller, arn: str) -> TopicView:
    try:
        return topics.show(caller.ground, arn)
    except ControlError:
        raise APIError("NotFoundException", "Topic does not exist") from None


def create_topic(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """The ARN of a topic new or known, as in SNS."""
    refuse_members(given, ["Tags", "DataProtectionPolicy"])
    version = _signature_version(given.get("Attributes", {}))
    arn = _topic_arn(caller, given["Name"])
    try:
        held = topics.show(caller.ground, arn).row
    except ControlError:
        return {"TopicArn": topics.create(caller.ground, caller.account_id, given["Name"], version or 2)}
    if version is not None and version != held.signature_version:
        raise _invalid("Attributes Reason: Topic already exists with different attributes")
    return {"TopicArn": arn}


def _signature_version(attributes: Mapping[str, str]) -> int | None:
    for name in attributes:
        if name != _VERSION:
            raise _invalid(f"{name}: this attribute is not offered here")
    version = attributes.get(_VERSION)
    if version not in (None, "1", "2"):
        raise _invalid("SignatureVersion is 1 or 2")
    return None if version is None else int(version)


def _topic_arn(caller: Caller, name: str) -> str:
    return f"arn:aws:sns:{caller.region}:{caller.account_id}:{name}"


def delete_topic(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """No error if there is none, as in SNS; one that mail is told to is kept."""
    try:
        topics.delete(caller.ground, given["TopicArn"])
    except ControlError as error:
        if error.code == "in_use":
            raise APIError("InvalidStateException", error.text) from error
    return {}


def list_topics(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    arns = [view.arn for view in topics.every(caller.ground, caller.account_id)]
    chosen, token = page(caller, arns, given.get("NextToken"), _PAGE)
    return {"Topics": [{"TopicArn": arn} for arn in chosen], "NextToken": token}


def get_topic_attributes(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view = _must_find(caller, given["TopicArn"])
    states = [one.state for one in view.subscriptions]
    return {
        "Attributes": {
            "TopicArn": view.arn,
            "Owner": view.row.account_id,
            "DisplayName": "",
            _VERSION: str(view.row.signature_version),
            "SubscriptionsConfirmed": str(states.count("confirmed")),
            "SubscriptionsPending": str(states.count("pending")),
            "SubscriptionsDeleted": str(states.count("unsubscribed")),
        }
    }


def set_topic_attributes(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view = _must_find(caller, given["TopicArn"])
    version = _signature_version({given["AttributeName"]: given.get("AttributeValue", "")})
    topics.update(caller.ground, view.arn, version or 2)
    return {}


def publish(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    not_offered = ("PhoneNumber", "Subject", "MessageStructure", "MessageAttributes", "MessageGroupId")
    refuse_members(given, not_offered)
    view = _must_find(caller, given.get("TopicArn") or given.get("TargetArn") or "")
    if not given["Message"]:
        raise _invalid("Empty message")
    return {"MessageId": topics.publish(caller.ground, view.arn, given["Message"])}


def _published(caller: Caller, given: Mapping[str, Any]) -> Target:
    return topic("TopicArn")(caller, {"TopicArn": given.get("TopicArn") or given.get("TargetArn") or ""})


# ---------------------------------------------------------------- subscriptions


def subscribe(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """The ARN, or that it waits for a confirmation; what is subscribed already keeps its ARN, as in SNS."""
    view = _must_find(caller, given["TopicArn"])
    protocol, endpoint = given["Protocol"], given.get("Endpoint", "")
    if protocol not in _PROTOCOLS:
        raise _invalid(f"Protocol Reason: {protocol[:40]} is not offered by this way, see docs/api.md")
    is_raw = _is_raw(given.get("Attributes", {}))
    for one in view.subscriptions:
        if (one.protocol, one.endpoint, one.state) == (protocol, endpoint, "confirmed"):
            return {"SubscriptionArn": view.subscription_arn(one)}
    made = topics.subscribe(caller.ground, view.arn, protocol, endpoint, is_raw)
    is_told = given.get("ReturnSubscriptionArn", False) or made.status != "pending"
    return {"SubscriptionArn": made.arn if is_told else "pending confirmation"}


def _is_raw(attributes: Mapping[str, str]) -> bool:
    for name in attributes:
        if name != _RAW:
            raise _invalid(f"{name}: this attribute is not offered here")
    return attributes.get(_RAW, "false").lower() == "true"


def confirm_subscription(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """The token is all that is needed: whoever answers at the endpoint has it."""
    if given.get("AuthenticateOnUnsubscribe", "false").lower() == "true":
        raise _invalid("AuthenticateOnUnsubscribe is not offered here")
    return {"SubscriptionArn": topics.confirm(caller.ground, given["Token"], given["TopicArn"])}


def unsubscribe(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    topics.unsubscribe(caller.ground, given["SubscriptionArn"])
    return {}


def list_subscriptions_by_topic(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return _listed(caller, [_must_find(caller, given["TopicArn"])], given.get("NextToken"))


def list_subscriptions(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return _listed(caller, topics.every(caller.ground, caller.account_id), given.get("NextToken"))


def _listed(caller: Caller, views: list[TopicView], token: str | None) -> dict[str, Any]:
    found = {view.subscription_arn(one): (view, one) for view in views for one in view.subscriptions}
    chosen, further = page(caller, list(found), token, _PAGE)
    return {"Subscriptions": [_shown(arn, *found[arn]) for arn in chosen], "NextToken": further}


def _shown(arn: str, view: TopicView, one: SubscriptionRow) -> dict[str, Any]:
    return {
        "SubscriptionArn": _PENDING if one.state == "pending" else arn,
        "Owner": one.account_id,
        "Protocol": one.protocol,
        "Endpoint": one.endpoint,
        "TopicArn": view.arn,
    }


async def _confirm(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    return await asyncio.to_thread(confirm_subscription, caller, given)


_OF_TOPIC = topic("TopicArn")


def _new(caller: Caller, given: Mapping[str, Any]) -> Target:
    return Target(_topic_arn(caller, given["Name"]), caller.account_id)


OPERATIONS: Operations = {
    (models.SNS, "ConfirmSubscription"): Operation(_confirm, None, nothing),
    **{
        (models.SNS, name): in_thread(work, name, target, models.SNS)
        for name, work, target in (
            ("CreateTopic", create_topic, _new),
            ("DeleteTopic", delete_topic, _OF_TOPIC),
            ("ListTopics", list_topics, nothing),
            ("GetTopicAttributes", get_topic_attributes, _OF_TOPIC),
            ("SetTopicAttributes", set_topic_attributes, _OF_TOPIC),
            ("Publish", publish, _published),
            ("Subscribe", subscribe, _OF_TOPIC),
            ("Unsubscribe", unsubscribe, subscription("SubscriptionArn")),
            ("ListSubscriptionsByTopic", list_subscriptions_by_topic, _OF_TOPIC),
            ("ListSubscriptions", list_subscriptions, nothing),
        )
    },
}
