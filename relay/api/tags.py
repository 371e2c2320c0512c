"""Tags, in the words of SES v2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from relay.api import models
from relay.api.targets import resource
from relay.api.values import Caller, Operations, in_thread
from relay.control import tags


def labels(given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Tags of a call by their keys."""
    return {one["Key"]: one["Value"] for one in given}


def tags_of(caller: Caller, arn: str) -> list[dict[str, str]]:
    """The tags of what the caller was found to have."""
    return _listed(tags.known(caller.ground, arn))


def _listed(found: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in found.items()]


def tag_resource(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    tags.put(caller.ground, caller.account_id, given["ResourceArn"], labels(given["Tags"]))
    return {}


def untag_resource(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    tags.remove(caller.ground, caller.account_id, given["ResourceArn"], given["TagKeys"])
    return {}


def list_tags_for_resource(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"Tags": _listed(tags.every(caller.ground, caller.account_id, given["ResourceArn"]))}


OPERATIONS: Operations = {
    (models.SESV2, name): in_thread(work, name, resource("ResourceArn"))
    for name, work in (
        ("TagResource", tag_resource),
        ("UntagResource", untag_resource),
        ("ListTagsForResource", list_tags_for_resource),
    )
}
