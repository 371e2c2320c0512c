"""dkimpy's verifier, with Ed25519 done by cryptography: dkimpy itself wants PyNaCl for that."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import dkim
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from dkim.util import parse_tag_value


class _Ed25519:
    """The one method of a PyNaCl key that dkimpy calls; it remembers instead of raising."""

    def __init__(self, octets: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(octets)
        self.verified = False

    def verify(self, digest: bytes, signature: bytes) -> None:
        try:
            self._key.verify(signature, digest)
        except InvalidSignature:
            return
        self.verified = True


class Verifier(dkim.DKIM):  # type: ignore[misc]
    def verify_sig(self, sig: Any, include_headers: Any, sig_header: Any, dnsfunc: Any) -> bool:
        record = parse_tag_value(dnsfunc(sig[b"s"] + b"._domainkey." + sig[b"d"] + b"."))
        if record.get(b"k") != b"ed25519":
            return bool(super().verify_sig(sig, include_headers, sig_header, dnsfunc))
        self.pk = _Ed25519(base64.b64decode(record[b"p"]))
        self.keysize, self.ktag, self.seqtlsrpt = 256, b"ed25519", False
        return self.verify_sig_process(sig, include_headers, sig_header, dnsfunc) and self.pk.verified


def verifies(message: bytes, records: Mapping[str, str], index: int = 0) -> bool:
    """Whether the signature at ``index`` from the top is good; ``records`` maps names to TXT texts."""

    def look_up(name: bytes, timeout: float = 5) -> bytes:
        return records[name.decode("ascii").rstrip(".")].encode("ascii")

    try:
        return bool(Verifier(message).verify(idx=index, dnsfunc=look_up))
    except dkim.ValidationError:
        return False
