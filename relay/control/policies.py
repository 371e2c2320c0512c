"""Sending authorization policies: what an owner attaches to an identity (R4)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from relay.authorization.storable import check_storable
from relay.control.ground import ControlError, Ground, new_id, now
from relay.control.identities import IdentityView, by_arn
from relay.control.users import lines_of
from relay.store import identities

# SES Developer Guide, policy anatomy.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_MOST_POLICIES = 20


@dataclass(frozen=True, slots=True)
class Stored:
    """A policy was attached; ``warnings`` are what its owner may not have meant."""

    identity: IdentityView
    name: str
    warnings: tuple[str, ...]


def put(ground: Ground, arn: str, name: str, document: str) -> Stored:
    """Attach a policy to the identity, over one of the same name."""
    view = by_arn(ground, arn)
    if not _NAME(name):
        raise ControlError("invalid_name", f"{name!r}: a policy's name has 1 to 64 of A-Z a-z 0-9 _ -")
    if view.row.verification_status != "SUCCESS":
        raise ControlError(
            "not_verified", f"{view.row.name} is not verified; only a verified identity is lent"
        )
    findings = check_storable(document, view.arn)
    if findings.errors:
        raise ControlError("invalid_policy", "\n".join(lines_of(findings.errors)))
    with ground.write() as write:
        names = identities.policies(write.connection, view.row.id)
        if name not in names and len(names) >= _MOST_POLICIES:
            raise ControlError("limit_exceeded", f"{view.row.name} has {_MOST_POLICIES} policies already")
        identities.put_policy(write, view.row, new_id(), name, document, now())
    return Stored(view, name, tuple(lines_of(findings.warnings)))


def every(ground: Ground, arn: str) -> dict[str, str]:
    """The documents attached to the identity, by name."""
    view = by_arn(ground, arn)
    with ground.store.read() as connection:
        return identities.policies(connection, view.row.id)


def get(ground: Ground, arn: str, name: str) -> str:
    documents = every(ground, arn)
    if name not in documents:
        raise ControlError(
            "not_found", f"{arn} has no policy {name}; see `relay policy list --identity {arn}`"
        )
    return documents[name]


def delete(ground: Ground, arn: str, name: str) -> None:
    """Take the grant back; it is gone for good."""
    view = by_arn(ground, arn)
    with ground.write() as write:
        if not identities.delete_policy(write, view.row, name):
            raise ControlError("not_found", f"{arn} has no policy {name}")
