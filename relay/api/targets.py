"""What calls are about: identities and configuration sets, as named or as ARN."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from relay.api.values import APIError, Caller, Target
from relay.authorization.identities import identity_arn, parse_identity_arn
from relay.control.identities import normalised

_TOPIC_ARN = re.compile(r"arn:aws:sns:([a-z0-9-]+):([0-9]{12}):([A-Za-z0-9_-]{1,256})").fullmatch
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_RESOURCE_ARN = re.compile(r"arn:aws:ses:([a-z0-9-]+):([0-9]{12}):[a-z-]+/[!-~]{1,320}").fullmatch


def nothing(caller: Caller, given: Mapping[str, Any]) -> Target:
    """The account as a whole."""
    return Target("*", caller.account_id)


def identity(member: str) -> Callable[[Caller, Mapping[str, Any]], Target]:
    """The identity that a member names; SES takes an ARN there too."""

    def target(caller: Caller, given: Mapping[str, Any]) -> Target:
        found = identity_target(caller, given[member])
        normalised(found.identity or "")  # ControlError if it is no identity's name
        return found

    return target


def identity_target(caller: Caller, name: str) -> Target:
    arn = parse_identity_arn(name)
    if arn is not None:
        if arn.region != caller.region:
            raise APIError("InvalidParameterValue", f"{name}: this endpoint is region {caller.region}.")
        return Target(str(arn), arn.account_id, arn.name)
    if "@" not in name:
        name = name.lower()
    return Target(identity_arn(caller.region, caller.account_id, name), caller.account_id, name)


def configuration_set(member: str) -> Callable[[Caller, Mapping[str, Any]], Target]:
    """The configuration set that a member names; always the caller's own."""
    return _own("configuration-set", member)


def _own(kind: str, member: str) -> Callable[[Caller, Mapping[str, Any]], Target]:
    def target(caller: Caller, given: Mapping[str, Any]) -> Target:
        name = given[member]
        if not _NAME(name):
            raise APIError("InvalidParameterValue", f"{name[:80]!r}: a name has 1 to 64 of A-Z a-z 0-9 _ -.")
        return Target(f"arn:aws:ses:{caller.region}:{caller.account_id}:{kind}/{name}", caller.account_id)

    return target


def topic(member: str) -> Callable[[Caller, Mapping[str, Any]], Target]:
    """The topic that a member names by its ARN."""

    def target(caller: Caller, given: Mapping[str, Any]) -> Target:
        found = _TOPIC_ARN(given[member])
        if found is None or found[1] != caller.region:
            raise APIError("InvalidParameterException", "Invalid parameter: TopicArn")
        return Target(given[member], found[2])

    return target


def template(member: str) -> Callable[[Caller, Mapping[str, Any]], Target]:
    """The template that a member names; always the caller's own."""
    return _own("template", member)


def resource(member: str) -> Callable[[Caller, Mapping[str, Any]], Target]:
    """Whatever of SES a member names by its ARN."""

    def target(caller: Caller, given: Mapping[str, Any]) -> Target:
        name = given[member]
        if parse_identity_arn(name) is not None:
            return identity_target(caller, name)
        found = _RESOURCE_ARN(name)
        if found is None or found[1] != caller.region:
            raise APIError(
                "InvalidParameterValue", f"{name}: not the ARN of a resource of SES in this region."
            )
        return Target(name, found[2])

    return target


def subscription(member: str) -> Callable[[Caller, Mapping[str, Any]], Target]:
    """The topic of the subscription that a member names by its ARN."""

    def target(caller: Caller, given: Mapping[str, Any]) -> Target:
        return topic(member)(caller, {member: given[member].rpartition(":")[0]})

    return target
