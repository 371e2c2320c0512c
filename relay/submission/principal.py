"""Who is logged in: the principal that a submission is judged as."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PrincipalKind(StrEnum):
    """What stands behind a credential; the values are those of ``aws:PrincipalType`` where it has one."""

    USER = "User"
    SERVICE = "Service"


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a credential.

    ``account_id`` is the account that carries quota, usage and reputation: the user's account, or the
    one a service credential was made in.  ``arn`` is the IAM user's ARN, or the service name
    (``cognito-idp.amazonaws.com``) for a service, whose ``source_arn`` is the resource it acts for.
    ``unique_id`` is immutable and never used again: a user deleted and made anew is another principal.
    """

    kind: PrincipalKind
    account_id: str
    arn: str
    unique_id: str
    access_key_id: str
    user_name: str | None = None
    source_arn: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
