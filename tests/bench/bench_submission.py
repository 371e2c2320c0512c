"""Microseconds per message of the pure stages: header parse, originators, rewrite, signatures.

Run: ``.venv/bin/python -m tests.bench.bench_submission``.  Figures are the best of several rounds.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from relay.signing.dkim import SigningKey, SimpleBodyHash, load_private_key
from relay.signing.return_path import decode, encode
from relay.signing.rewrite import TraceFacts, is_loop, rewrite
from relay.submission.address import parse_mailbox
from relay.submission.envelope import parse_mail, parse_rcpt
from relay.submission.headers import LineCheck, parse_headers
from relay.submission.identifiers import compose_id, reference, ses_message_id
from relay.submission.originator import read_control_fields, read_originators
from tests.support.signing import sign

_HEADER = b"""\
From: =?utf-8?q?J=C3=B6rg?= News <news@owner.example>
To: someone@recipient.example
Subject: Your order 1234567 has shipped
Date: Thu, 01 Jan 2026 00:00:00 +0000
Message-ID: <20260101000000.1234@app.example>
MIME-Version: 1.0
Content-Type: multipart/alternative;
 boundary="=_0123456789abcdef"
Content-Transfer-Encoding: 7bit
X-SES-SOURCE-ARN: arn:aws:ses:us-east-1:111111111111:identity/owner.example
X-SES-CONFIGURATION-SET: default
X-Mailer: app 1.0
Reply-To: help@owner.example
""".replace(b"\n", b"\r\n")
_MEGABYTE = (b"x" * 76 + b"\r\n") * 13_443
_AT = 1_764_000_000

Case = tuple[str, Callable[[], object]]


def main() -> None:
    for name, call in (*_submission(), *_signing(), *_per_megabyte()):
        print(f"{name:<48}{_microseconds(call):>10.2f} us")


def _microseconds(call: Callable[[], object]) -> float:
    timer = timeit.Timer(call)
    number, taken = timer.autorange()
    return min(taken, *timer.repeat(repeat=4, number=number)) / number * 1e6


def _submission() -> Iterator[Case]:
    headers = parse_headers(_HEADER)
    id_ = compose_id(_AT * 1000, 3, 7)
    yield "mailbox", lambda: parse_mailbox("someone@recipient.example")
    yield "MAIL", lambda: parse_mail(b"FROM:<a@owner.example> SIZE=4096 BODY=8BITMIME", max_size=41_943_040)
    yield "RCPT", lambda: parse_rcpt(b"TO:<someone@recipient.example>")
    yield f"header parse, {len(headers.fields)} fields", lambda: parse_headers(_HEADER)
    yield "originators", lambda: read_originators(headers)
    yield "control fields", lambda: read_control_fields(headers)
    yield "message id", lambda: ses_message_id(id_)
    yield "reference", lambda: reference(id_)


def _signing() -> Iterator[Case]:
    facts = _facts()
    submitted = parse_headers(_HEADER)
    headers = rewrite(submitted, facts, signing_domain="owner.example").headers
    digest = SimpleBodyHash().digest()
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    by_rsa = SigningKey("owner.example", "r1", "rsa-sha256", private_key)
    by_ed25519 = SigningKey("owner.example", "e1", "ed25519-sha256", ed25519.Ed25519PrivateKey.generate())
    prehashed = Prehashed(SHA256())
    yield "loop check", lambda: is_loop(submitted, "gw.relay.example")
    yield "rewrite", lambda: rewrite(submitted, facts, signing_domain="owner.example")
    yield "header to bytes", lambda: bytes(headers)
    yield "the RSA operation alone", lambda: private_key.sign(digest, PKCS1v15(), prehashed)
    yield "sign, RSA", lambda: sign(headers, digest, [by_rsa], _AT)
    yield "sign, Ed25519", lambda: sign(headers, digest, [by_ed25519], _AT)
    yield "sign, both", lambda: sign(headers, digest, [by_rsa, by_ed25519], _AT)
    yield from _keys_and_tokens(private_key)


def _keys_and_tokens(private_key: rsa.RSAPrivateKey) -> Iterator[Case]:
    pem = private_key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    address = encode(1 << 60, 20_000, 1, b"k" * 32, "bounces.relay.example")
    yield "load a trusted key", lambda: load_private_key(pem, trusted=True)
    yield "load a key and check it", lambda: load_private_key(pem, trusted=False)
    yield "return path, there", lambda: encode(1 << 60, 20_000, 1, b"k" * 32, "bounces.relay.example")
    yield "return path, back", lambda: decode(address, {1: b"k" * 32}, 20_000)


def _per_megabyte() -> Iterator[Case]:
    yield "body lines checked, per MB", lambda: LineCheck().feed(_MEGABYTE)
    yield "body hashed, per MB", lambda: SimpleBodyHash().update(_MEGABYTE)


def _facts() -> TraceFacts:
    return TraceFacts(
        hostname="gw.relay.example",
        helo="app.example",
        protocol="ESMTPSA",
        tls_version="TLSv1.3",
        message_id=ses_message_id(compose_id(_AT * 1000, 3, 7)),
        at=_AT,
        region="us-east-1",
    )


if __name__ == "__main__":
    main()
