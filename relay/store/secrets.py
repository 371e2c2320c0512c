"""Secrets at rest: AES-GCM under a key file that lies outside the database.

The key file is JSON: ``{"current": "1", "keys": {"1": "<base64 of 32 octets>"}}``; it may hold several
keys, so that old rows stay readable while they are encrypted anew (``relay.store.key_file`` changes it).
From each key HKDF (RFC 5869) derives one per purpose.  A sealed value is ``key id | 0 | nonce |
ciphertext``, bound to its place (table, column, row) as associated data: a row copied elsewhere does not
open.
"""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_KEY_BYTES = 32
_NONCE_BYTES = 12


class KeyFileError(Exception):
    """The key file is missing, unreadable or the wrong one; the text says what to do."""


class Secrets:
    """Seals and opens secrets; its repr shows key ids only."""

    def __init__(self, keys: dict[str, bytes], current: str) -> None:
        self._keys = keys
        self.current = current
        self._ciphers = {key_id: AESGCM(self.derive("store", key_id)) for key_id in keys}

    def __repr__(self) -> str:
        return f"Secrets(keys={sorted(self._keys)}, current={self.current!r})"

    @property
    def key_ids(self) -> tuple[str, ...]:
        return tuple(sorted(self._keys))

    def learn(self, other: Secrets) -> None:
        """Take over what a newer reading of the key file has; what was known stays known.

        KeyFileError if a key differs under its name.
        """
        if any(self._keys.get(key_id, key) != key for key_id, key in other._keys.items()):
            raise KeyFileError("the key file was replaced by another store's; put the right one back")
        # Other threads read these meanwhile: each is replaced as a whole, the current key last.
        self._keys = {**self._keys, **other._keys}
        self._ciphers = {**self._ciphers, **other._ciphers}
        self.current = other.current

    def derive(self, label: str, key_id: str | None = None) -> bytes:
        """32 octets for one purpose: store, verp, sns, page, cookie."""
        master = self._keys[key_id or self.current]
        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=f"relay {label}".encode()).derive(master)

    def seal(self, plain: bytes, place: str, key_id: str | None = None) -> bytes:
        """Encrypt for one ``place``, written ``table/column/row``, under the current key or another."""
        key_id = key_id or self.current
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[key_id].encrypt(nonce, plain, place.encode())
        return mark(key_id) + nonce + sealed

    def open(self, sealed: bytes, place: str) -> bytes:
        """Decrypt what was sealed for ``place``; KeyFileError if no key of the file opens it."""
        key_id, _, rest = bytes(sealed).partition(b"\0")
        cipher = self._ciphers.get(key_id.decode("utf-8", "replace"))
        if cipher is None:
            raise KeyFileError(
                f"the key file has no key {key_id.decode('ascii', 'replace')!r};"
                " copy the file from the machine that has it"
            )
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise KeyFileError(
                f"the key file does not open {place}: it is not this store's;"
                " copy the file from a node that serves, or from your backup"
            ) from None


def mark(key_id: str) -> bytes:
    """What every value that is sealed under the key begins with."""
    return key_id.encode() + b"\0"


def new_key() -> str:
    """A fresh key as the key file holds it."""
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode()


def create_key_file(path: Path) -> None:
    """Write a new key file, mode 0600; FileExistsError if there is one."""
    content = {"current": "1", "keys": {"1": new_key()}, "history": {"1": {"added": time.time_ns() // 1000}}}
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(content, file)
        file.write("\n")


def load_key_file(path: Path) -> Secrets:
    """Read the key file; KeyFileError says what is wrong with it."""
    try:
        content = json.loads(path.read_text())
        keys = {str(key_id): base64.b64decode(key, validate=True) for key_id, key in content["keys"].items()}
        current = content["current"]
    except FileNotFoundError:
        raise KeyFileError(f"{path}: no such key file; restore it from your copy") from None
    except PermissionError:
        raise KeyFileError(f"{path}: not readable by this user") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KeyFileError(f"{path}: not a key file") from None
    is_known = isinstance(current, str) and current in keys
    if not is_known or any(len(key) != _KEY_BYTES for key in keys.values()):
        raise KeyFileError(f"{path}: not a key file")
    if path.stat().st_mode & 0o077:
        raise KeyFileError(f"{path}: others may read it; run: chmod 600 {path}")
    return Secrets(keys, current)
