"""Eight signatures at a time are the signatures that OpenSSL makes, or none at all."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from relay.signer import multibuffer
from relay.signer.multibuffer import LANES, Lane, MultiBuffer, lane_of
from tests.support.multibuffer import library


@pytest.fixture(scope="module")
def lanes() -> MultiBuffer:
    return library()


@pytest.fixture(scope="module")
def keys() -> list[rsa.RSAPrivateKey]:
    return [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(3)]


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def lane(key: rsa.RSAPrivateKey) -> Lane:
    found = lane_of(key)
    assert found is not None
    return found


def by_openssl(key: rsa.RSAPrivateKey, of: bytes) -> bytes:
    return key.sign(of, PKCS1v15(), Prehashed(SHA256()))


@pytest.mark.parametrize("count", range(1, LANES + 1))
def test_each_lane_signs_as_openssl_does(
    lanes: MultiBuffer, keys: list[rsa.RSAPrivateKey], count: int
) -> None:
    wanted = [(keys[number % len(keys)], digest(number)) for number in range(count)]
    assert lanes.sign([(lane(key), of) for key, of in wanted]) == [by_openssl(key, of) for key, of in wanted]


def test_a_call_leaves_nothing_to_the_next(lanes: MultiBuffer, keys: list[rsa.RSAPrivateKey]) -> None:
    lanes.sign([(lane(keys[0]), digest(number)) for number in range(LANES)])
    assert lanes.sign([(lane(keys[1]), digest(9))]) == [by_openssl(keys[1], digest(9))]


@pytest.mark.parametrize("at", [0, 2])
def test_one_wrong_octet_and_nothing_is_shown(
    keys: list[rsa.RSAPrivateKey], at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault while computing (rule 23: such a signature would give the key away)."""
    lanes = library()
    right: Callable[..., int] = lanes._sign

    def faulty(from_: object, to: ctypes.Array[ctypes.c_void_p], *rest: object) -> int:
        status = right(from_, to, *rest)
        octet = ctypes.c_ubyte.from_address(to[at] + 100)
        octet.value ^= 1
        return status

    monkeypatch.setattr(lanes, "_sign", faulty)
    assert lanes.sign([(lane(keys[0]), digest(number)) for number in range(3)]) is None


def test_a_status_of_the_library_is_believed(
    keys: list[rsa.RSAPrivateKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = library()
    monkeypatch.setattr(lanes, "_sign", lambda *_: 0x20)
    assert lanes.sign([(lane(keys[0]), digest(1))]) is None


def with_primes_exchanged(key: rsa.RSAPrivateKey) -> rsa.RSAPrivateKey:
    of = key.private_numbers()
    exchanged = rsa.RSAPrivateNumbers(
        of.q, of.p, of.d, of.dmq1, of.dmp1, rsa.rsa_crt_iqmp(of.q, of.p), of.public_numbers
    )
    return exchanged.private_key()


def test_keys_that_no_lane_is_for(keys: list[rsa.RSAPrivateKey]) -> None:
    assert lane_of(keys[0])
    assert not lane_of(rsa.generate_private_key(public_exponent=65537, key_size=3072))
    assert not lane_of(rsa.generate_private_key(public_exponent=3, key_size=2048))
    assert not lane_of(with_primes_exchanged(keys[0]))
    assert not lane_of(ed25519.Ed25519PrivateKey.generate())


def test_without_the_library_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multibuffer, "_NAMES", ("libcrypto_mb.so.none",))
    assert multibuffer.load() is None


def test_a_processor_without_the_instructions_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    library()
    monkeypatch.setattr(multibuffer, "_AVX512_IFMA", 1 << 62)
    assert multibuffer.load() is None
