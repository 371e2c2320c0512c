"""Identifiers: the 64-bit key of a message, and the texts that are made of it.

A key has 63 bits, so that it is a positive integer to every database: 41 of milliseconds since 2020
(enough until 2089), 10 of the worker's number, 12 of sequence.  Keys sort by time.  Who makes them holds
the clock; here is only the arithmetic.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

EPOCH_MILLISECONDS: Final = 1_577_836_800_000  # 2020-01-01T00:00:00Z
_TIME_BITS = 41
_WORKER_BITS = 10
_SEQUENCE_BITS = 12
_LOW_BITS = _WORKER_BITS + _SEQUENCE_BITS
_LOW_MASK = (1 << _LOW_BITS) - 1

_match_ses_message_id = re.compile(
    r"0100([0-9a-f]{12})-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{6}([0-9a-f]{6})-000000"
).fullmatch

_DIGEST_BITS = 59
_match_notification_id = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
).fullmatch

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_REFERENCE_BITS = 40
_REFERENCE_MASK = (1 << _REFERENCE_BITS) - 1
# Odd, therefore invertible modulo 2**40; 2**40 divided by the golden ratio spreads neighbours widest.
_REFERENCE_FACTOR: Final = 0x9E3779B97F


def compose_id(milliseconds: int, worker: int, sequence: int) -> int:
    """The key for a Unix time in milliseconds, a worker's number and a sequence number."""
    since = milliseconds - EPOCH_MILLISECONDS
    if since >> _TIME_BITS or worker >> _WORKER_BITS or sequence >> _SEQUENCE_BITS:
        raise ValueError(f"no id for {milliseconds} ms, worker {worker}, sequence {sequence}")
    return since << _LOW_BITS | worker << _SEQUENCE_BITS | sequence


def id_milliseconds(id_: int) -> int:
    """When the key was made, in milliseconds of Unix time."""
    return (id_ >> _LOW_BITS) + EPOCH_MILLISECONDS


def id_worker(id_: int) -> int:
    """The number of the worker that made the key; 0 is the control plane's."""
    return id_ >> _SEQUENCE_BITS & (1 << _WORKER_BITS) - 1


@lru_cache(maxsize=8192)
def ses_message_id(id_: int) -> str:
    """The key in the shape of SES's message ids: prefix and time, what looks like a UUID, zeros.

    The last six digits of the middle part hold worker and sequence, the others are a digest of the key:
    the text is given back to its key by ``parse_ses_message_id``, and a typing error is noticed.  It is
    remembered for a while: a message's header, reply, record and log all name it.
    """
    digest = blake2b(id_.to_bytes(8, "big"), digest_size=12).hexdigest()
    return (
        f"0100{id_milliseconds(id_):012x}-{digest[:8]}-{digest[8:12]}-4{digest[12:15]}"
        f"-a{digest[15:18]}-{digest[18:24]}{id_ & _LOW_MASK:06x}-000000"
    )


def parse_ses_message_id(text: str) -> int | None:
    """The key, or None if ``text`` is not what ``ses_message_id`` gives for one."""
    found = _match_ses_message_id(text)
    if found is None:
        return None
    since = int(found[1], 16) - EPOCH_MILLISECONDS
    id_ = since << _LOW_BITS | int(found[2], 16)
    if since < 0 or since >> _TIME_BITS or ses_message_id(id_) != text:
        return None
    return id_


def notification_id(id_: int) -> str:
    """The key of a notification in the shape of SNS's message ids, a random UUID.

    Of its 122 free bits 63 are the key, the others a digest of it: every repeat has the same one, and
    ``parse_notification_id`` gives the key back.
    """
    digest = blake2b(id_.to_bytes(8, "big"), digest_size=8, person=b"notification").digest()
    bits = id_ << _DIGEST_BITS | int.from_bytes(digest, "big") >> 64 - _DIGEST_BITS
    high, middle, low = bits >> 74, bits >> 62 & 0xFFF, bits & (1 << 62) - 1
    text = f"{high << 80 | 4 << 76 | middle << 64 | 2 << 62 | low:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_notification_id(text: str) -> int | None:
    """The key, or None if ``text`` is not what ``notification_id`` gives for one."""
    if not _match_notification_id(text):
        return None
    bits = int(text.replace("-", ""), 16)
    id_ = (bits >> 80) << 15 | (bits >> 64 & 0xFFF) << 3 | bits >> 59 & 7
    return id_ if notification_id(id_) == text else None


def reference(id_: int) -> str:
    """Eight characters that name a refused message, easy to read out over the telephone.

    They stand for 40 bits of the key: 30 of time, 5 of the worker's number, 5 of sequence.  Two keys
    have the same reference only if they agree in all of these: made a multiple of 12.4 days apart, or in
    one millisecond by worker numbers or sequence numbers 32 apart.  Records of refusals are kept for less.
    The 40 bits are mixed one to one, so that neighbours do not look alike.
    """
    worker = id_worker(id_) & 31
    mixed = (id_ >> _LOW_BITS & (1 << 30) - 1) << 10 | worker << 5 | id_ & 31
    mixed = mixed * _REFERENCE_FACTOR & _REFERENCE_MASK
    mixed ^= mixed >> 20
    mixed = mixed * _REFERENCE_FACTOR & _REFERENCE_MASK
    return "".join([_CROCKFORD[mixed >> shift & 31] for shift in range(35, -1, -5)])
