"""What calls are about: identities and configuration sets, as named or as ARN."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from relay.api.values import APIError, Caller, Target
from relay.authorization.identities import identity_arn, parse_identity_arn

_TOPIC_ARN = re.compile(r"arn:aws:sns:([a-z0-9-]+):([0-9]{12}):([A-Za-z0-9_-]{1,256})").fullmatch


def nothing(caller: Caller, given: Mapping[str, Any]) -> Target:
    """The account as a whole."""
    return Target("*", caller.account_id)


def identity(member: str) -> Callable[[Caller, Mapping[str, Any]], Target]:
    """The identity that a member names; SES takes an ARN there too."""

    def target(caller: Caller, given: Mapping[str, Any]) -> Target:
        return identity_target(caller, given[member])

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

    def target(caller: Caller, given: Mapping[str, Any]) -> Target:
        arn = f"arn:aws:ses:{caller.region}:{caller.account_id}:configuration-set/{given[member]}"
        return Target(arn, caller.account_id)

    return target


def topic(member: str) -> Callable[[Caller, Mapping[str, Any]], Target]:
    """The topic that a member names by its ARN."""

    def target(caller: Caller, given: Mapping[str, Any]) -> Target:
        found = _TOPIC_ARN(given[member])
        if found is None or found[1] != caller.region:
            raise APIError("InvalidParameterException", "Invalid parameter: TopicArn")
        return Target(given[member], found[2])

    return target
