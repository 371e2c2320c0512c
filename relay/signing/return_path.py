"""Our bounce address: made for one message, and recognised when a report comes back to it.

The local part is lower-case base32 of id, expiry day, key id and an 80-bit MAC.  Whoever does not hold
the key cannot make one; one that is late, or from another installation, is told from a forged one, so
that the listener can answer each properly.

Key ids of the key file are any text and the token has eight bits for one: keys whose ids share a number
are all tried.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Final

SECONDS_OF_A_DAY: Final = 86_400

_MAC_BYTES: Final = 10
_DAY_BITS = 16
_KEY_ID_BITS = 8
_PAYLOAD_BYTES = 11  # id 8, day 2, key id 1
_LABEL = b"relay return path 1\0"
# 21 octets are 34 letters; base64.b32encode would add six "=" to make 40.
_LETTERS = 34
_PADDING = "======"
# 34 letters hold two bits more than 21 octets; only with both zero is the text the one we made.
_is_token = re.compile(rf"[A-Za-z2-7]{{{_LETTERS - 1}}}[AEIMQUYaeimquy4]").fullmatch


class Rejection(StrEnum):
    """Why an address is not taken for one of ours."""

    NOT_A_TOKEN = "not_a_token"  # noqa: S105
    UNKNOWN_KEY = "unknown_key"
    FORGED = "forged"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Token:
    """What a bounce address says.  ``expires_day`` counts days since 1970-01-01 UTC, itself included."""

    message_id: int
    expires_day: int
    key_id: int


# The keys of an installation by the number that stands for their id in a token.
Keys = Mapping[int, Sequence[bytes]]


def key_number(key_id: str) -> int:
    """The eight bits that stand for a key id; numbers, as they are usual, stand for themselves."""
    if key_id.isascii() and key_id.isdigit():
        return int(key_id) % (1 << _KEY_ID_BITS)
    return blake2b(key_id.encode(), digest_size=1).digest()[0]


def keys_by_number(keys: Mapping[str, bytes]) -> Keys:
    """The keys, by the numbers of their ids."""
    found: dict[int, list[bytes]] = defaultdict(list)
    for key_id, key in keys.items():
        found[key_number(key_id)].append(key)
    return found


@dataclass(frozen=True, slots=True)
class Issuer:
    """Gives a message its bounce address.  ``domain`` is empty if only MAIL FROM domains have them."""

    domain: str
    lifetime_days: int
    key_number: int
    key: bytes = field(repr=False)

    def issue(self, message_id: int, seconds: int, mail_from_domain: str | None) -> str | None:
        """The address for a message accepted at a Unix time; None without a domain for it."""
        domain = mail_from_domain or self.domain
        if not domain:
            return None
        last_day = seconds // SECONDS_OF_A_DAY + self.lifetime_days
        return encode(message_id, last_day, self.key_number, self.key, domain)


def encode(message_id: int, expires_day: int, key_id: int, key: bytes, domain: str) -> str:
    """The envelope sender for a message; its local part has 34 letters."""
    if expires_day >> _DAY_BITS or key_id >> _KEY_ID_BITS:
        raise ValueError(f"no return path for day {expires_day}, key {key_id}")
    payload = message_id.to_bytes(8, "big") + expires_day.to_bytes(2, "big") + key_id.to_bytes(1, "big")
    token = base64.b32encode(payload + _mac(key, payload)).decode("ascii").rstrip("=").lower()
    return f"{token}@{domain}"


def decode(address: str, keys: Keys, today: int) -> Token | Rejection:
    """The token in ``address``, whose domain the caller looks at.

    Letter case is ignored: some systems change it on the way back.
    """
    local = address.partition("@")[0]
    if not _is_token(local):
        return Rejection.NOT_A_TOKEN
    octets = base64.b32decode((local + _PADDING).upper())
    payload, mac = octets[:_PAYLOAD_BYTES], octets[_PAYLOAD_BYTES:]
    token = Token(int.from_bytes(payload[:8], "big"), int.from_bytes(payload[8:10], "big"), payload[10])
    candidates = keys.get(token.key_id)
    if not candidates:
        return Rejection.UNKNOWN_KEY
    if not any(hmac.compare_digest(mac, _mac(key, payload)) for key in candidates):
        return Rejection.FORGED
    return Rejection.EXPIRED if today > token.expires_day else token


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, _LABEL + payload, "sha256")[:_MAC_BYTES]
