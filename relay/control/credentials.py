"""Access keys: generated, shown once, switched off and on."""

from __future__ import annotations

import re
import secrets as random
import string
from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.control import accounts, users
from relay.control.ground import ControlError, Ground, letters, now
from relay.store import credentials
from relay.store.credentials import CredentialRow
from relay.submission.principal import parse_network
from relay.submission.smtp_password import smtp_password

_SECRET_ALPHABET = string.ascii_letters + string.digits + "+/"
_SECRET_LENGTH = 40
_MOST_PER_USER = 2  # IAM's limit: one in use, one to rotate to
_SERVICE = re.compile(r"[a-z0-9][a-z0-9.-]{0,120}\.amazonaws\.com").fullmatch
_ARN = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{0,12}:[!-~]{1,400}").fullmatch


@dataclass(frozen=True, slots=True)
class NewCredential:
    """What is shown once and never again."""

    access_key_id: str
    smtp_username: str
    region: str
    secret_access_key: str = field(repr=False)
    smtp_password: str = field(repr=False)


def create_for_user(
    ground: Ground, account_id: str, user_name: str, networks: Sequence[str] = ()
) -> NewCredential:
    """A credential for a user; with ``networks`` it may be used from these alone."""
    user = users.get(ground, user_name, account_id)
    with ground.store.read() as connection:
        held = credentials.count_of_user(connection, user.id)
    if held >= _MOST_PER_USER:
        raise ControlError(
            "limit_exceeded", f"{user_name} has {held} credentials already; delete one: relay credential list"
        )
    return _create(ground, account_id, networks, user_id=user.id)


def create_for_service(
    ground: Ground, account_id: str, service: str, source_arn: str | None, networks: Sequence[str] = ()
) -> NewCredential:
    """A credential that presents a Service principal, for a resource of this account (R17)."""
    accounts.get(ground, account_id)
    if not _SERVICE(service):
        raise ControlError(
            "invalid_service", f"{service!r} is not a service, such as cognito-idp.amazonaws.com"
        )
    if source_arn is not None and not _ARN(source_arn):
        raise ControlError("invalid_arn", f"{source_arn!r} is not an ARN")
    return _create(ground, account_id, networks, service=service, source_arn=source_arn)


def _create(
    ground: Ground,
    account_id: str,
    networks: Sequence[str],
    user_id: int | None = None,
    service: str | None = None,
    source_arn: str | None = None,
) -> NewCredential:
    access_key_id = "AKIA" + letters(16)
    secret = "".join(random.choice(_SECRET_ALPHABET) for _ in range(_SECRET_LENGTH))
    row = CredentialRow(
        access_key_id, account_id, user_id, service, source_arn, True, now(), _parsed(networks)
    )
    sealed = ground.secrets.seal(secret.encode(), credentials.secret_place(access_key_id))
    with ground.write() as write:
        credentials.add(write, row, sealed)
    return NewCredential(
        access_key_id=access_key_id,
        smtp_username=access_key_id,
        region=ground.region,
        secret_access_key=secret,
        smtp_password=smtp_password(secret, ground.region),
    )


def every(ground: Ground, account_id: str) -> list[CredentialRow]:
    accounts.get(ground, account_id)
    with ground.store.read() as connection:
        return credentials.every(connection, account_id)


def set_active(ground: Ground, access_key_id: str, active: bool) -> CredentialRow:
    """Switch a credential on or off; sessions that are logged in with it end at their next message."""
    with ground.write() as write:
        _present(credentials.find(write.connection, access_key_id), access_key_id)
        credentials.set_active(write, access_key_id, active)
        return _present(credentials.find(write.connection, access_key_id), access_key_id)


def set_networks(ground: Ground, access_key_id: str, networks: Sequence[str]) -> CredentialRow:
    """Bind a credential to networks, or to none; sessions from elsewhere end at their next message."""
    parsed = _parsed(networks)
    with ground.write() as write:
        _present(credentials.find(write.connection, access_key_id), access_key_id)
        credentials.set_networks(write, access_key_id, parsed)
        return _present(credentials.find(write.connection, access_key_id), access_key_id)


def _parsed(networks: Sequence[str]) -> tuple[str, ...] | None:
    try:
        return tuple(str(parse_network(one)) for one in networks) or None
    except ValueError as error:
        raise ControlError("invalid_network", str(error)) from error


def delete(ground: Ground, access_key_id: str) -> None:
    with ground.write() as write:
        _present(credentials.find(write.connection, access_key_id), access_key_id)
        credentials.remove(write, access_key_id)


def _present(row: CredentialRow | None, access_key_id: str) -> CredentialRow:
    if row is None:
        raise ControlError("not_found", f"no credential {access_key_id}; see `relay credential list`")
    return row
