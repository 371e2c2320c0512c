"""Tags on identities, configuration sets and templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from relay.control.ground import ControlError, Ground
from relay.store import configuration_sets, identities, tags, templates
from relay.store.changes import ControlWrite

# SES's quota.
_MOST = 50
_LONGEST_NAME, _LONGEST_VALUE = 128, 256
_ARN = re.compile(r"arn:aws:ses:([a-z0-9-]+):([0-9]{12}):([a-z-]+)/([!-~]{1,320})").fullmatch
_FIND: dict[str, Callable[[Any, str, str], object]] = {
    "identity": identities.find,
    "configuration-set": configuration_sets.find,
    "template": templates.find,
}


def arn_of(ground: Ground, account_id: str, kind: str, name: str) -> str:
    """``kind`` is identity, configuration-set or template."""
    return f"arn:aws:ses:{ground.region}:{account_id}:{kind}/{name}"


def every(ground: Ground, account_id: str, arn: str) -> dict[str, str]:
    """What is written on a thing of the account."""
    with ground.store.read() as connection:
        _require(ground, connection, account_id, arn)
        return tags.of(connection, arn)


def known(ground: Ground, arn: str) -> dict[str, str]:
    """The same of a thing that was looked up."""
    with ground.store.read() as connection:
        return tags.of(connection, arn)


def put(ground: Ground, account_id: str, arn: str, added: Mapping[str, str]) -> None:
    """Write tags on a thing of the account, each over one of the same name."""
    with ground.write() as write:
        _require(ground, write.connection, account_id, arn)
        add(write, account_id, arn, added)


def add(write: ControlWrite, account_id: str, arn: str, added: Mapping[str, str]) -> None:
    """The same within a transaction, for a thing that is there."""
    if not added:
        return
    for name, value in added.items():
        if not 1 <= len(name) <= _LONGEST_NAME or len(value) > _LONGEST_VALUE:
            raise ControlError(
                "invalid_tag",
                f"{name[:80]!r}: a tag has a key of 1 to {_LONGEST_NAME} characters and a value of at most"
                f" {_LONGEST_VALUE}",
            )
        if name.lower().startswith("aws:"):
            raise ControlError("invalid_tag", f"{name}: keys that begin with aws: are reserved")
    if len(tags.of(write.connection, arn).keys() | added.keys()) > _MOST:
        raise ControlError("limit_exceeded", f"{arn}: more than {_MOST} tags")
    tags.put(write, account_id, arn, added)


def remove(ground: Ground, account_id: str, arn: str, names: Collection[str]) -> None:
    """Take tags away; those that are not there are no error."""
    with ground.write() as write:
        _require(ground, write.connection, account_id, arn)
        tags.remove(write, arn, names)


def _require(ground: Ground, connection: Any, account_id: str, arn: str) -> None:
    """ControlError unless the ARN is of a thing that the account has."""
    found = _ARN(arn)
    if found is None or found[3] not in _FIND:
        raise ControlError("invalid_arn", f"{arn}: not the ARN of an identity, configuration set or template")
    region, owner, kind, name = found.groups()
    if (region, owner) != (ground.region, account_id) or not _FIND[kind](connection, account_id, name):
        raise ControlError("not_found", f"Resource {arn} does not exist.")
