"""Checking a signature, as a receiver would: dkimpy's verifier on records that are handed in.

The gateway never judges mail by the signatures it finds; this is for those who look at what leaves us.
"""

from __future__ import annotations

from collections.abc import Mapping

import dkim


def is_validly_signed(message: bytes, records: Mapping[str, str]) -> bool:
    """Whether the first DKIM-Signature of ``message`` verifies.

    ``records`` maps a TXT record's name (``selector._domainkey.domain``, without a final dot) to its
    text.  RFC 6376 section 6.1.
    """

    def look_up(name: bytes, timeout: float = 5) -> bytes | None:
        text = records.get(name.decode("ascii").rstrip("."))
        return text.encode("ascii") if text is not None else None

    try:
        return bool(dkim.DKIM(message).verify(dnsfunc=look_up))
    except dkim.DKIMException:
        return False
