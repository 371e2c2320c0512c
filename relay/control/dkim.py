"""Signing keys: generated, imported, switched; only the owner's side ever does this (R11)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.control.ground import ControlError, Ground, letters, now
from relay.signing.dkim import (
    KeyRefused,
    PrivateKey,
    algorithm_of,
    check_key,
    load_private_key,
    public_record,
)
from relay.store import identities
from relay.store.changes import ControlWrite
from relay.store.identities import IdentityRow, KeyRow

RSA, ED25519 = "rsa-sha256", "ed25519-sha256"
_RSA_BITS = 2048
# SES's model: starts and ends alphanumeric, 63 characters at the most.
_SELECTOR = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?").fullmatch


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is not stored yet."""

    selector: str
    algorithm: str
    public_record: str
    pem: bytes = field(repr=False)


def new_key(algorithm: str) -> NewKey:
    """Generate a key under a selector of its own."""
    is_rsa = algorithm == RSA
    key = generate_private_key(65537, _RSA_BITS) if is_rsa else Ed25519PrivateKey.generate()
    selector = f"r{datetime.now(UTC):%Y%m%d}{letters(6).lower()}"
    return _described(key, selector)


def imported_key(material: bytes, selector: str) -> NewKey:
    """An owner's own key: PEM, or bare base64 as SES takes it; ControlError if it is not fit."""
    if not _SELECTOR(selector):
        raise ControlError("invalid_selector", f"{selector!r}: letters, digits and inner hyphens, at most 63")
    last: KeyRefused | None = None
    for pem in _as_pem(material):
        try:
            key = load_private_key(pem, trusted=False)
            check_key(key, algorithm_of(key))
            return _described(key, selector.lower())
        except KeyRefused as error:
            last = error
    raise ControlError("invalid_key", f"the key cannot be used: {last.reason if last else 'it is empty'}")


def _as_pem(material: bytes) -> list[bytes]:
    """The forms the material may stand for; CRLF line ends are taken."""
    text = material.replace(b"\r\n", b"\n").strip()
    if text.startswith(b"-----"):
        return [text + b"\n"]
    try:
        der = base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        return [text]
    body = base64.encodebytes(der)
    return [
        b"-----BEGIN %s-----\n%s-----END %s-----\n" % (kind, body, kind)
        for kind in (b"RSA PRIVATE KEY", b"PRIVATE KEY")
    ]


def _described(key: PrivateKey, selector: str) -> NewKey:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return NewKey(selector, algorithm_of(key), public_record(key), pem)


def seal_key(
    ground: Ground, write: ControlWrite, of: IdentityRow, key: NewKey, status: str = "signing"
) -> None:
    """Store the key, its private half sealed."""
    key_id = ground.new_id()
    sealed = ground.secrets.seal(key.pem, identities.key_place(key_id))
    row = KeyRow(key_id, key.selector, key.algorithm, key.public_record, status)
    identities.add_key(write, of, row, sealed, now())


def set_enabled(ground: Ground, of: IdentityRow, enabled: bool) -> None:
    with ground.write() as write:
        identities.change(write, of, "PutEmailIdentityDkimAttributes", dkim_enabled=enabled)


def set_algorithm(ground: Ground, of: IdentityRow, algorithm: Literal["rsa-2048", "both"]) -> None:
    """Sign with RSA alone, or with Ed25519 as a second signature."""
    _require_domain(of)
    wants_second = algorithm == "both"
    key = new_key(ED25519) if wants_second else None
    with ground.write() as write:
        has_second = any(one.algorithm == ED25519 for one in identities.keys(write.connection, of.id))
        if key is not None and not has_second:
            seal_key(ground, write, of, key)
        if not wants_second:
            identities.remove_keys(write, of, ED25519)


def rotate(ground: Ground, of: IdentityRow) -> None:
    """New keys that wait until DNS has their records; meanwhile the old ones sign."""
    _require_domain(of)
    with ground.store.read() as connection:
        algorithms = {key.algorithm for key in identities.keys(connection, of.id) if key.status == "signing"}
    fresh = [new_key(algorithm) for algorithm in sorted(algorithms)]
    with ground.write() as write:
        identities.remove_keys(write, of, status="pending")
        for key in fresh:
            seal_key(ground, write, of, key, "pending")
        identities.touch(write.connection, of, check_at=now())


def import_key(ground: Ground, of: IdentityRow, material: bytes, selector: str) -> None:
    """Sign with the owner's own key instead of ours of the same algorithm.

    If DNS vouches for the keys that sign now, the new one waits until it is seen there too; where the
    operator does, it signs at once.
    """
    _require_domain(of)
    key = imported_key(material, selector)
    waits = of.dkim_requested_at is not None and of.dkim_status in ("SUCCESS", "TEMPORARY_FAILURE")
    with ground.write() as write:
        identities.remove_keys(write, of, key.algorithm, "pending" if waits else None)
        if any(one.selector == key.selector for one in identities.keys(write.connection, of.id)):
            raise ControlError("already_exists", f"{of.name} has a key with the selector {key.selector}")
        seal_key(ground, write, of, key, "pending" if waits else "signing")
        if of.dkim_requested_at is not None:
            identities.touch(write.connection, of, check_at=now())


def _require_domain(of: IdentityRow) -> None:
    if of.type != "DOMAIN":
        raise ControlError("not_a_domain", f"{of.name} is an address: it is signed by the domain above it")
