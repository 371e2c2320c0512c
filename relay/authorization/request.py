"""What is asked of policies: who wants to do what with which identity, in which context."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from relay.submission.principal import Principal, PrincipalKind

_PRINCIPAL_ARN = re.compile(r"arn:(aws(?:-[a-z]+)*):(iam|sts)::([0-9]{12}):([a-z-]+)(?:/(.+))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks.

    ``names`` are the principal entries that name it, any of which is enough for ``Principal``;
    ``own_names`` those of them that a ``NotPrincipal`` must all list to except it.
    """

    arn: str
    account_id: str
    names: frozenset[str]
    own_names: tuple[frozenset[str], ...]


def role_name(arn: str) -> str | None:
    """The entry under which a role's principal element and its sessions meet; a path does not count."""
    found = _PRINCIPAL_ARN.fullmatch(arn)
    if found is None or found[5] is None:
        return None
    partition, service, account_id, kind, rest = found.groups()
    if (service, kind) == ("iam", "role"):
        return f"role:{partition}:{account_id}:{rest.rpartition('/')[2]}"
    if (service, kind) == ("sts", "assumed-role"):
        return f"role:{partition}:{account_id}:{rest.partition('/')[0]}"
    return None


@lru_cache(maxsize=4096)
def caller(arn: str, account_id: str) -> Caller:
    """The caller behind a user, role, session or root ARN, or a service's name."""
    found = _PRINCIPAL_ARN.fullmatch(arn)
    if found is None:
        return _service(arn, account_id)
    account_id = account_id or found[3]
    account = frozenset((account_id, f"arn:{found[1]}:iam::{account_id}:root"))
    own = frozenset((arn,))
    role = role_name(arn)
    roles = (frozenset((role,)),) if role else ()
    levels = (account,) if arn in account else (own, *roles, account)
    return Caller(arn, account_id, frozenset().union(*levels), levels)


def _service(name: str, account_id: str) -> Caller:
    names = frozenset((service_name(name),))
    return Caller(name, account_id, names, (names,))


def service_name(name: str) -> str:
    """The entry under which a service's principal element and its credentials meet."""
    return f"service:{name}"


def caller_of(principal: Principal) -> Caller:
    """The caller behind a credential."""
    if principal.kind is PrincipalKind.SERVICE:
        return _service(principal.arn, principal.account_id)
    return caller(principal.arn, principal.account_id)


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the policies of one resource.  Context keys are in lower case."""

    caller: Caller
    action: str
    resource: str
    context: Mapping[str, Any]
    # What narrows the statements before any condition is looked at; the same for one caller and identity.
    question: tuple[frozenset[str], str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "question", (self.caller.names, self.action.lower(), self.resource))
