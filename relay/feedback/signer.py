"""The key that signs notifications in SNS's form, and its certificate.

It is made when the first one is needed, kept sealed in the store and shared by all workers and nodes.  The
certificate is served under its key's number, so that what an older key signed can be verified too.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID

from relay.store import topics
from relay.store.changes import control_write
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.store.topics import KeyRow, key_place

_KEY_BITS = 2048
_CERTIFICATE_DAYS = 3650
# By signature version.  Deliberate: version 1 is SHA-1 because SNS's is; only a topic that asks for it.
_HASHES: dict[int, HashAlgorithm] = {1: SHA1(), 2: SHA256()}  # noqa: S303


@dataclass(frozen=True, slots=True)
class _Key:
    id: int
    private: RSAPrivateKey


class Signer:
    """Signs for one worker process.  ``public_url`` is how others reach the certificate."""

    def __init__(self, store: Store, secrets: Secrets, public_url: str, next_id: Callable[[], int]) -> None:
        self._store = store
        self._secrets = secrets
        self._public_url = public_url
        self._next_id = next_id
        self._key: _Key | None = None
        self._loading = asyncio.Lock()

    async def ready(self) -> None:
        """Have the key; StoreUnavailable if it cannot be had."""
        if self._key is None:
            async with self._loading:
                if self._key is None:
                    self._key = await asyncio.to_thread(self._load)

    def _load(self) -> _Key:
        with self._store.read() as connection:
            row = topics.newest_key(connection)
        row = row or self._make()
        der = self._secrets.open(row.private_key, key_place(row.id))
        private = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(private, RSAPrivateKey)
        return _Key(row.id, private)

    def _make(self) -> KeyRow:
        private = generate_private_key(65537, _KEY_BITS)
        id_ = self._next_id()
        der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        made = KeyRow(
            id_,
            self._secrets.seal(der, key_place(id_)),
            _certificate(private, urlsplit(self._public_url).hostname or "localhost"),
            time.time_ns() // 1000,
        )
        with control_write(self._store, "relay:notifications") as write:
            found = topics.newest_key(write.connection)  # another worker may have been first
            if found is None:
                topics.add_key(write.connection, made)
                write.note("sns-key", "CreateSigningKey", id=id_)
        return found or made

    def sign(self, text: bytes, version: int) -> str:
        """The signature in base64; about 0.25 ms."""
        assert self._key is not None
        return base64.b64encode(self._key.private.sign(text, PKCS1v15(), _HASHES[version])).decode()

    @property
    def certificate_url(self) -> str:
        assert self._key is not None
        return f"{self._public_url}/SimpleNotificationService-{self._key.id:032x}.pem"

    def subscribe_url(self, topic_arn: str, token: str) -> str:
        named = f"TopicArn={quote(topic_arn, safe=':')}&Token={quote(token)}"
        return f"{self._public_url}/sns/?Action=ConfirmSubscription&{named}"

    def unsubscribe_url(self, subscription_arn: str) -> str:
        return unsubscribe_url(self._public_url, subscription_arn)


def unsubscribe_url(public_url: str, subscription_arn: str) -> str:
    """Where whoever is told can say that it wants no more."""
    return f"{public_url}/sns/?Action=Unsubscribe&SubscriptionArn={quote(subscription_arn, safe=':')}"


def _certificate(key: RSAPrivateKey, host: str) -> str:
    # RFC 5280 appendix A.1: a common name has at most 64 characters.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode()
