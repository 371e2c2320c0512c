"""Sending authorization policies: what an owner attaches to an identity (R4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from relay.authorization.grants import Grant, grants_of
from relay.authorization.identities import covering_domains, covering_names, identity_arn
from relay.authorization.outsiders import lends_outside
from relay.authorization.policy import Policy, PolicyError, compile_policy, unreadable
from relay.authorization.request import caller
from relay.authorization.storable import check_storable
from relay.control.ground import ControlError, Ground, now
from relay.control.identities import IdentityView, by_arn
from relay.control.users import lines_of
from relay.store import identities
from relay.store.changes import ControlWrite
from relay.submission.address import parse_mailbox

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
        _check_default_set(write, view, document)
        names = identities.policies(write.connection, view.row.id)
        if name not in names and len(names) >= _MOST_POLICIES:
            raise ControlError("limit_exceeded", f"{view.row.name} has {_MOST_POLICIES} policies already")
        identities.put_policy(write, view.row, ground.new_id(), name, document, now())
    return Stored(view, name, tuple(lines_of(findings.warnings)))


def _check_default_set(write: ControlWrite, view: IdentityView, document: str) -> None:
    """R3: what has a default configuration set is not lent to another account."""
    row = identities.lock(write, view.row.account_id, view.row.name)
    if row is None:
        raise ControlError("not_found", f"{view.arn} was deleted meanwhile")
    lending = lends_outside(compile_policy(document), row.account_id)
    if row.configuration_set is not None and lending is not None:
        raise ControlError(
            "default_configuration_set",
            f"statement {lending.sid or lending.number} lends {row.name} to another account, but its mail has"
            f" the default configuration set {row.configuration_set}; remove that first: relay identity set"
            f" {row.name} --account {row.account_id} --default-configuration-set none",
        )


def every(ground: Ground, arn: str) -> dict[str, str]:
    """The documents attached to the identity, by name."""
    return documents(ground, by_arn(ground, arn))


def documents(ground: Ground, view: IdentityView) -> dict[str, str]:
    """The same of an identity that was looked up."""
    with ground.store.read() as connection:
        return identities.policies(connection, view.row.id)


def get(ground: Ground, arn: str, name: str) -> str:
    documents = every(ground, arn)
    if name not in documents:
        raise ControlError(
            "not_found", f"{arn} has no policy {name}; see `relay policy list --identity {arn}`"
        )
    return documents[name]


def who(ground: Ground, arn: str) -> list[Grant]:
    """Who may send as the identity, from its own policies and from those of the domains above it."""
    view = by_arn(ground, arn)
    name = view.row.name
    names = covering_names(parse_mailbox(name)) if "@" in name else covering_domains(name)
    with ground.store.read() as connection:
        rows = [identities.find(connection, view.row.account_id, name) for name in names]
        documents = [(row, identities.policies(connection, row.id)) for row in rows if row is not None]
    return [
        grant
        for row, found in documents
        for grant in grants_of(identity_arn(ground.region, row.account_id, row.name), _compiled(found))
    ]


def grants(ground: Ground, principal_arn: str) -> list[Grant]:
    """Every statement, of whatever owner, that concerns the principal."""
    account_id = _account_of(principal_arn)
    with ground.store.read() as connection:
        documents = [
            (row, identities.policies(connection, row.id)) for row in identities.every(connection, None)
        ]
    asking = caller(principal_arn, account_id)
    return [
        grant
        for row, found in documents
        for grant in grants_of(
            identity_arn(ground.region, row.account_id, row.name), _compiled(found), asking
        )
    ]


def _account_of(principal_arn: str) -> str:
    """An ARN's account, or a bare account id; a service has none."""
    if re.fullmatch(r"[a-z0-9.-]+\.amazonaws\.com", principal_arn):
        return ""
    found = re.fullmatch(r"arn:aws:(?:iam|sts)::([0-9]{12}):[!-~]+", principal_arn)
    if found is None:
        raise ControlError(
            "invalid_arn",
            f"{principal_arn!r} is no principal: arn:aws:iam::ACCOUNT:user/NAME, arn:aws:iam::ACCOUNT:root,"
            " or a service",
        )
    return found[1]


def _compiled(documents: dict[str, str]) -> Iterator[Policy]:
    for name, document in documents.items():
        try:
            yield compile_policy(document, name)
        except PolicyError as error:
            yield unreadable(name, error)


def delete(ground: Ground, arn: str, name: str) -> None:
    """Take the grant back; it is gone for good."""
    view = by_arn(ground, arn)
    with ground.write() as write:
        if not identities.delete_policy(write, view.row, name):
            raise ControlError("not_found", f"{arn} has no policy {name}")
