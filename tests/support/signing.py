"""DKIM signatures made at once, without the signer of a loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.signing.dkim import SigningKey, signature_of, unsigned
from relay.submission.headers import HeaderBlock


def sign(
    headers: HeaderBlock, body_digest: bytes, keys: Sequence[SigningKey], at: int, **options: Any
) -> tuple[bytes, ...]:
    """One DKIM-Signature field with its CRLF for each key."""
    made = unsigned(headers, body_digest, keys, at, **options)
    return tuple(one.complete(signature_of(one)) for one in made)
