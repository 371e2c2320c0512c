"""Our bounce address: made for one message, and recognised when a report comes back to it.

The local part is lower-case base32 of id, expiry day, key id and an 80-bit MAC.  Whoever does not hold
the key cannot make one; one that is late, or from another installation, is told from a forged one, so
that the listener can answer each properly.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

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


def encode(message_id: int, expires_day: int, key_id: int, key: bytes, domain: str) -> str:
    """The envelope sender for a message; its local part has 34 letters."""
    if expires_day >> _DAY_BITS or key_id >> _KEY_ID_BITS:
        raise ValueError(f"no return path for day {expires_day}, key {key_id}")
    payload = message_id.to_bytes(8, "big") + expires_day.to_bytes(2, "big") + key_id.to_bytes(1, "big")
    token = base64.b32encode(payload + _mac(key, payload)).decode("ascii").rstrip("=").lower()
    return f"{token}@{domain}"


def decode(address: str, keys: Mapping[int, bytes], today: int) -> Token | Rejection:
    """The token in ``address``, whose domain the caller has found to be ours.

    Letter case is ignored: some systems change it on the way back.
    """
    local = address.partition("@")[0]
    if not _is_token(local):
        return Rejection.NOT_A_TOKEN
    octets = base64.b32decode((local + _PADDING).upper())
    payload, mac = octets[:_PAYLOAD_BYTES], octets[_PAYLOAD_BYTES:]
    token = Token(int.from_bytes(payload[:8], "big"), int.from_bytes(payload[8:10], "big"), payload[10])
    key = keys.get(token.key_id)
    if key is None:
        return Rejection.UNKNOWN_KEY
    if not hmac.compare_digest(mac, _mac(key, payload)):
        return Rejection.FORGED
    return Rejection.EXPIRED if today > token.expires_day else token


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, _LABEL + payload, "sha256")[:_MAC_BYTES]
