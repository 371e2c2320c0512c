"""From a user name and a password to a principal."""

from __future__ import annotations

import hmac
import secrets
from enum import StrEnum

from relay.store.directory import Directory
from relay.submission.principal import Principal


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
