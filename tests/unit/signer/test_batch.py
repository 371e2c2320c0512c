"""Who waits for whom, and that everybody gets a good signature."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from relay.signer.batch import Signer
from relay.signer.multibuffer import Lane, MultiBuffer
from relay.signing.dkim import SigningError, SigningKey, SimpleBodyHash, public_record
from relay.submission.headers import HeaderBlock, parse_headers
from tests.support.dkim_verifier import verifies
from tests.support.multibuffer import library

BODY_DIGEST = SimpleBodyHash().digest()
AT = 1_700_000_000


class Lanes:
    """Notes how many were signed in each call; ``makes`` is what it answers, None if it is broken."""

    def __init__(self, *, broken: bool = False) -> None:
        self.calls: list[int] = []
        self._broken = broken

    def sign(self, wanted: Sequence[tuple[Lane, bytes]]) -> list[bytes] | None:
        self.calls.append(len(wanted))
        if self._broken:
            return None
        return [key_in(lane).sign(digest, PKCS1v15(), Prehashed(SHA256())) for lane, digest in wanted]


def key_in(lane: Lane) -> rsa.RSAPrivateKey:
    """The key again, from the numbers in its lane's memory."""
    n = int.from_bytes(lane.memory[:256], "little")
    p, q, dp, dq, inverse = (
        int.from_bytes(lane.memory[start : start + 128], "little") for start in range(256, 896, 128)
    )
    d = rsa.rsa_recover_private_exponent(65537, p, q)
    public = rsa.RSAPublicNumbers(65537, n)
    return rsa.RSAPrivateNumbers(p, q, d, dp, dq, inverse, public).private_key(
        unsafe_skip_rsa_key_validation=True
    )


class Lines:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self.lines.append((event, {"level": level, **fields}))


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey("owner.example", "r1", "rsa-sha256", rsa.generate_private_key(65537, 2048))


@pytest.fixture(scope="module")
def second() -> SigningKey:
    return SigningKey("owner.example", "e1", "ed25519-sha256", ed25519.Ed25519PrivateKey.generate())


def signer(lanes: Lanes | MultiBuffer | None, log: Lines | None = None) -> Signer:
    return Signer(cast("MultiBuffer | None", lanes), log or Lines())


def header(number: int) -> bytes:
    return b"From: news@owner.example\r\nSubject: %d\r\n" % number


def headers(number: int) -> HeaderBlock:
    return parse_headers(header(number))


async def sign(by: Signer, number: int, *keys: SigningKey) -> bytes:
    return await by.sign(headers(number), BODY_DIGEST, keys, AT)


async def sign_at_once(by: Signer, count: int, *keys: SigningKey) -> list[bytes]:
    return await asyncio.gather(*(sign(by, number, *keys) for number in range(count)))


def all_verify(fields: Sequence[bytes], *keys: SigningKey) -> bool:
    records = {f"{key.selector}._domainkey.{key.domain}": public_record(key.private_key) for key in keys}
    messages = [made + header(number) + b"\r\n" for number, made in enumerate(fields)]
    return all(verifies(message, records, index) for message in messages for index in range(len(keys)))


@pytest.mark.parametrize(
    ("count", "calls"),
    [(1, []), (2, []), (3, [3]), (7, [7]), (8, [8]), (11, [8, 3]), (17, [8, 8])],
)
def test_as_many_at_a_time_as_wait(key: SigningKey, count: int, calls: list[int]) -> None:
    """What is left over is signed singly where that is cheaper."""
    lanes = Lanes()
    fields = asyncio.run(sign_at_once(signer(lanes), count, key))
    assert lanes.calls == calls
    assert all_verify(fields, key)


@pytest.mark.parametrize("turns", [1, 3])
def test_who_comes_within_a_few_turns_of_the_loop_is_waited_for(key: SigningKey, turns: int) -> None:
    lanes = Lanes()

    async def run() -> None:
        by = signer(lanes)
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(sign(by, number, key)))
            for _ in range(turns):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert lanes.calls == [5]


def test_alone_nobody_is_waited_for(key: SigningKey) -> None:
    async def turns_until_signed() -> int:
        task = asyncio.create_task(sign(signer(Lanes()), 0, key))
        turns = 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(turns_until_signed()) <= 10


def test_without_a_library_nobody_waits(key: SigningKey) -> None:
    async def run() -> bytes:
        task = asyncio.create_task(sign(signer(None), 0, key))
        await asyncio.sleep(0)
        return task.result()

    assert all_verify([asyncio.run(run())], key)


def test_a_second_key_of_another_kind_signs_too(key: SigningKey, second: SigningKey) -> None:
    lanes = Lanes()
    fields = asyncio.run(sign_at_once(signer(lanes), 4, key, second))
    assert lanes.calls == [4]
    assert all_verify(fields, key, second)


def test_keys_without_a_lane_sign_singly() -> None:
    long = SigningKey("owner.example", "r3", "rsa-sha256", rsa.generate_private_key(65537, 3072))
    lanes = Lanes()
    fields = asyncio.run(sign_at_once(signer(lanes), 3, long))
    assert lanes.calls == []
    assert all_verify(fields, long)


def test_numbers_of_a_key_go_with_it() -> None:
    by = signer(Lanes())

    async def run() -> int:
        key = SigningKey("owner.example", "r1", "rsa-sha256", rsa.generate_private_key(65537, 2048))
        await sign_at_once(by, 3, key)
        return len(by._lanes)

    assert asyncio.run(run()) == 1
    gc.collect()
    assert len(by._lanes) == 0


def test_a_wrong_signature_is_the_librarys_last(key: SigningKey) -> None:
    lanes, log = Lanes(broken=True), Lines()
    by = signer(lanes, log)

    async def run() -> list[bytes]:
        return await sign_at_once(by, 20, key)

    assert all_verify(asyncio.run(run()), key)
    assert lanes.calls == [8]
    ((event, fields),) = log.lines
    assert event == "signing-slower"
    assert fields["level"] == "error"


def test_a_library_that_raises_leaves_nobody_waiting(key: SigningKey) -> None:
    class Raising(Lanes):
        def sign(self, wanted: Sequence[tuple[Lane, bytes]]) -> list[bytes] | None:
            raise OSError("broken")

    async def run() -> list[bytes]:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        made = await sign_at_once(signer(Raising()), 4, key)
        assert len(faults) == 1
        return made

    assert all_verify(asyncio.run(run()), key)


def test_a_client_that_has_gone_takes_nothing_from_the_others(key: SigningKey) -> None:
    async def run() -> list[bytes]:
        by = signer(Lanes())
        first, *others = [asyncio.create_task(sign(by, number, key)) for number in range(4)]
        await asyncio.sleep(0)
        first.cancel()
        made = await asyncio.gather(*others)
        return [b"", *made]

    _, *made = asyncio.run(run())
    messages = [field + header(number) + b"\r\n" for number, field in enumerate(made, 1)]
    records = {"r1._domainkey.owner.example": public_record(key.private_key)}
    assert all(verifies(message, records, 0) for message in messages)


def test_what_cannot_be_signed_keeps_nobody_waiting(key: SigningKey) -> None:
    async def run() -> list[bytes | BaseException]:
        by = signer(Lanes())
        no_from = by.sign(parse_headers(b"Subject: x\r\n"), BODY_DIGEST, (key,), AT)
        return await asyncio.gather(no_from, *(sign(by, n, key) for n in range(3)), return_exceptions=True)

    fault, *made = asyncio.run(run())
    assert isinstance(fault, SigningError)
    assert all_verify([field for field in made if isinstance(field, bytes)], key)
    assert len(made) == 3


def test_with_the_real_library_what_leaves_verifies(key: SigningKey, second: SigningKey) -> None:
    fields = asyncio.run(sign_at_once(signer(library()), 13, key, second))
    assert all_verify(fields, key, second)
