"""From a user name and a password, or from an access key, to a principal."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from enum import StrEnum

from relay.authorization.policy import Policy
from relay.store.directory import Directory
from relay.submission.principal import Network, Principal, is_within


class Failure(StrEnum):
    """Why a login failed: for the operator's log, never for the client, who learns nothing from it."""

    UNKNOWN = "unknown user"
    PASSWORD = "wrong password"  # noqa: S105
    INACTIVE = "credential is not active"
    NETWORK = "not from this network"


class Authenticator:
    """Checks SMTP credentials against the directory.

    The password is derived from the secret by a keyed hash and compared in constant time; an unknown
    user costs one comparison too, so that the answer's time tells nothing (security rule 20).
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._nobodys_password = secrets.token_urlsafe(33).encode()

    async def authenticate(self, username: str, password: bytes, source_ip: str) -> Principal | Failure:
        """The holder of the credential, or why not.  StoreUnavailable if it cannot be told."""
        credential = await self._directory.credential(username)
        expected = credential.password if credential else self._nobodys_password
        is_right = hmac.compare_digest(expected, password)
        if credential is None:
            return Failure.UNKNOWN
        if not is_right:
            return Failure.PASSWORD
        if not credential.active:
            return Failure.INACTIVE
        if not credential.may_come_from(source_ip):
            return Failure.NETWORK
        return credential.principal


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose an access key is, and the secret that signs its calls."""

    principal: Principal
    secret: str = field(repr=False)
    networks: tuple[Network, ...] | None

    def may_act_from(self, source_ip: str) -> bool:
        return self.networks is None or is_within(source_ip, self.networks)


class KeyHolders:
    """Access keys and policies as the directory knows them; StoreUnavailable if it cannot tell."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def find(self, access_key_id: str) -> KeyHolder | None:
        """The holder of an active key."""
        found = await self._directory.credential(access_key_id)
        if found is None or not found.active:
            return None
        return KeyHolder(found.principal, found.secret, found.networks)

    async def policies(
        self, principal: Principal, account_id: str, identity: str | None
    ) -> tuple[tuple[Policy, ...] | None, tuple[Policy, ...]]:
        """The principal's own policies, None for a service, and those of an identity if one is named."""
        return await self._directory.policies(principal, account_id, identity)
