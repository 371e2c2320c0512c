"""Keys, made once: an RSA key costs a tenth of a second."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from relay.signing.dkim import SigningKey


@pytest.fixture(scope="session")
def rsa_key() -> SigningKey:
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return SigningKey("owner.example", "r1", "rsa-sha256", private_key)


@pytest.fixture(scope="session")
def ed25519_key() -> SigningKey:
    return SigningKey("owner.example", "e1", "ed25519-sha256", ed25519.Ed25519PrivateKey.generate())
