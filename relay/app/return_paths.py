"""Our own return paths under the keys of the key file, which is rotated while we run."""

from __future__ import annotations

from relay.settings import BounceSection
from relay.signing.return_path import Issuer, Keys, key_number, keys_by_number
from relay.store.secrets import Secrets

_LABEL = "verp"


class ReturnPaths:
    """Issues under the current key and knows those of all keys; derived anew when the file has changed."""

    def __init__(self, bounce: BounceSection, secrets: Secrets) -> None:
        self._bounce = bounce
        self._secrets = secrets
        self._issuer = self._new_issuer()
        self._known: tuple[str, ...] = ()
        self._keys: Keys = {}

    def issuer(self) -> Issuer:
        """What gives a message its address now."""
        if self._issuer_key != self._secrets.current:
            self._issuer = self._new_issuer()
        return self._issuer

    def keys(self) -> Keys:
        """What recognises every address that was given out under a key we have."""
        key_ids = self._secrets.key_ids
        if self._known != key_ids:
            self._keys = keys_by_number({one: self._secrets.derive(_LABEL, one) for one in key_ids})
            self._known = key_ids
        return self._keys

    def _new_issuer(self) -> Issuer:
        self._issuer_key = key_id = self._secrets.current
        key = self._secrets.derive(_LABEL, key_id)
        return Issuer(self._bounce.domain, self._bounce.token_days, key_number(key_id), key)
