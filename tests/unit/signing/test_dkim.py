"""Signatures: good to an independent verifier, and proof against what may be added later."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from dkim.util import parse_tag_value
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.signing.dkim import (
    KeyRefused,
    PrivateKey,
    SigningError,
    SigningKey,
    SimpleBodyHash,
    check_key,
    load_private_key,
    public_record,
)
from relay.submission.headers import Field, HeaderBlock, parse_headers
from tests.support.dkim_verifier import verifies
from tests.support.signing import sign

_AT = 1_700_000_000
_HEADER = (
    b"Received: by gw.example with ESMTPSA id 1; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    b"From: Owner <news@owner.example>\r\n"
    b"To: a@b.example,\r\n\t c@d.example\r\n"
    b"Subject:\r\n  A  subject\t with \r\n odd   folds \r\n"
    b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    b"MESSAGE-ID:<1@owner.example>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain;\r\n charset=utf-8\r\n"
    b"List-Unsubscribe: <https://owner.example/u>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"Feedback-ID: a:b:c:d\r\n"
    b"X-Other: x\r\n"
)

_BODY = b"Hello\r\n\r\n  two  blanks \r\n.\r\n\r\n\r\n"


def _records(*keys: SigningKey) -> dict[str, str]:
    return {f"{key.selector}._domainkey.{key.domain}": public_record(key.private_key) for key in keys}


def _digest(body: bytes) -> bytes:
    hashed = SimpleBodyHash()
    hashed.update(body)
    return hashed.digest()


def _signed(header: bytes, body: bytes, *keys: SigningKey) -> bytes:
    signatures = sign(parse_headers(header), _digest(body), keys, _AT)
    return b"".join(signatures) + header + b"\r\n" + body


def _tags(signature: bytes) -> dict[bytes, bytes]:
    return dict(parse_tag_value(signature.split(b":", 1)[1]))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_BODY, id="blank-lines-at-the-end"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\r\n", id="one-blank-line"),
        pytest.param(b"no line end", id="no-line-end"),
        pytest.param("ümläut\r\n".encode() * 1000, id="eight-bit"),
    ],
)
def test_r24_rsa_and_ed25519_verify(rsa_key: SigningKey, ed25519_key: SigningKey, body: bytes) -> None:
    message = _signed(_HEADER, body, rsa_key, ed25519_key)
    records = _records(rsa_key, ed25519_key)
    assert verifies(message, records, 0)
    assert verifies(message, records, 1)
    assert message.count(b"DKIM-Signature:") == 2


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"From: a@owner.example\r\n", id="from-only"),
        pytest.param(b"from:a@owner.example\r\nSUBJECT:\r\n x\r\n", id="odd-case"),
        pytest.param(b"From: a@owner.example\r\nSubject:\r\nCc: \t\r\n", id="empty-fields"),
        pytest.param(b"From: a@owner.example\r\nSubject: b=AAAA; d=x; b=\r\n", id="tags-in-subject"),
        pytest.param(
            b"From: a@owner.example\r\nReferences: " + b"<x@y>\r\n " * 100 + b"<z@y>\r\n", id="long"
        ),
    ],
)
def test_odd_headers_verify(rsa_key: SigningKey, header: bytes) -> None:
    assert verifies(_signed(header, _BODY, rsa_key), _records(rsa_key))


def test_repeated_fields_are_signed_from_the_bottom_up(rsa_key: SigningKey) -> None:
    header = HeaderBlock(
        (
            Field("from", b"From: a@owner.example\r\n"),
            Field("to", b"To: first@b.example\r\n"),
            Field("list-unsubscribe", b"List-Unsubscribe: <mailto:1@x.example>\r\n"),
            Field("to", b"To: second@b.example\r\n"),
            Field("list-unsubscribe", b"List-Unsubscribe: <mailto:2@x.example>\r\n"),
        )
    )
    (signature,) = sign(header, _digest(_BODY), [rsa_key], _AT)
    message = signature + bytes(header) + b"\r\n" + _BODY
    assert verifies(message, _records(rsa_key))
    swapped = message.replace(b"first", b"xxxx").replace(b"second", b"first").replace(b"xxxx", b"second")
    assert not verifies(swapped, _records(rsa_key))


def _with_field(message: bytes, line: bytes) -> bytes:
    """The message with a field on top of the author's, below the signature."""
    return message.replace(b"Received:", line + b"Received:", 1)


@pytest.mark.parametrize(
    "name",
    [
        *("From", "To", "Cc", "Subject", "Date", "Reply-To", "Message-ID", "In-Reply-To", "References"),
        *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    ],
)
def test_r24_no_field_that_counts_can_be_added(rsa_key: SigningKey, name: str) -> None:
    message = _signed(_HEADER, _BODY, rsa_key)
    assert not verifies(_with_field(message, f"{name}: x\r\n".encode()), _records(rsa_key))


@pytest.mark.parametrize(
    ("old", "new", "is_good"),
    [
        pytest.param(b"news@", b"fake@", False, id="from-changed"),
        pytest.param(b"a:b:c:d", b"a:b:c:e", False, id="feedback-id-changed"),
        pytest.param(b"One-Click", b"One-Clack", False, id="list-unsubscribe-post-changed"),
        pytest.param(b"Hello", b"Hallo", False, id="body-changed"),
        pytest.param(b"owner.example/u>", b"other.example/u>", False, id="list-unsubscribe-changed"),
        pytest.param(b"X-Other: x", b"X-Other: y", True, id="unsigned-field-changed"),
        pytest.param(b"A  subject", b"A subject", True, id="white-space-of-the-header"),
        pytest.param(b"two  blanks", b"two blanks", False, id="white-space-of-the-body"),
    ],
)
def test_changes_are_noticed_where_they_matter(
    rsa_key: SigningKey, ed25519_key: SigningKey, old: bytes, new: bytes, is_good: bool
) -> None:
    message = _signed(_HEADER, _BODY, rsa_key, ed25519_key).replace(old, new, 1)
    records = _records(rsa_key, ed25519_key)
    assert [verifies(message, records, index) for index in (0, 1)] == [is_good, is_good]


def test_r23_the_tags_are_those_of_ses(rsa_key: SigningKey) -> None:
    (signature,) = sign(parse_headers(_HEADER), _digest(_BODY), [rsa_key], _AT)
    tags = _tags(signature)
    assert set(tags) == {b"v", b"a", b"c", b"d", b"s", b"t", b"h", b"bh", b"b"}
    assert (tags[b"a"], tags[b"c"], tags[b"t"]) == (b"rsa-sha256", b"relaxed/simple", b"1700000000")
    assert (tags[b"d"], tags[b"s"]) == (b"owner.example", b"r1")


def test_fields_that_are_not_signed_are_not_listed(rsa_key: SigningKey) -> None:
    (signature,) = sign(parse_headers(_HEADER), _digest(_BODY), [rsa_key], _AT)
    listed = re.split(rb"\s*:\s*", _tags(signature)[b"h"])
    assert not set(listed) & {b"received", b"x-other", b"sender", b"list-id"}
    assert listed.count(b"from") == 2
    assert listed.count(b"cc") == 1
    assert listed.count(b"feedback-id") == 1


def test_expiry_is_told_if_wanted(rsa_key: SigningKey) -> None:
    (signature,) = sign(parse_headers(_HEADER), _digest(_BODY), [rsa_key], _AT, expires_after_seconds=60)
    assert _tags(signature)[b"x"] == b"1700000060"


def test_a_domain_longer_than_a_line_is_not_broken(rsa_key: SigningKey) -> None:
    domain = ".".join(["d" * 63] * 3) + ".example"
    key = SigningKey(domain, "s" * 63, "rsa-sha256", rsa_key.private_key)
    message = _signed(_HEADER, _BODY, key)
    assert verifies(message, _records(key))
    assert all(len(line) <= 998 for line in message.split(b"\r\n"))


def test_a_message_without_from_cannot_be_signed(rsa_key: SigningKey) -> None:
    with pytest.raises(SigningError):
        sign(parse_headers(b"To: a@b.example\r\n"), _digest(b""), [rsa_key], _AT)


def test_r22_a_key_of_another_kind_than_told_does_not_sign(ed25519_key: SigningKey) -> None:
    key = SigningKey("owner.example", "s", "rsa-sha256", ed25519_key.private_key)
    with pytest.raises(SigningError, match=r"s\._domainkey\.owner\.example"):
        sign(parse_headers(_HEADER), _digest(b""), [key], _AT)


def test_r39_no_secret_is_shown(rsa_key: SigningKey) -> None:
    assert repr(rsa_key) == "SigningKey(domain='owner.example', selector='r1', algorithm='rsa-sha256')"


_VALUES = st.text(st.sampled_from('aB9 \t;=:b<>@.,"?_'), max_size=40).map(str.strip)
_NAMES = st.sampled_from(["To", "Cc", "SUBJECT", "date", "X-b", "Feedback-ID", "Content-Type"])


@settings(max_examples=50)
@given(
    st.lists(st.tuples(_NAMES, _VALUES), max_size=6, unique_by=lambda field: field[0]),
    st.binary(max_size=40).map(lambda body: re.sub(rb"[\r\n]", b"\r\n", body)),
)
def test_whatever_is_signed_verifies(
    rsa_key: SigningKey, ed25519_key: SigningKey, fields: list[tuple[str, str]], body: bytes
) -> None:
    lines = [f"{name}:{value}\r\n" for name, value in [("From", "a@owner.example"), *fields]]
    message = _signed("".join(lines).encode(), body, rsa_key, ed25519_key)
    records = _records(rsa_key, ed25519_key)
    assert verifies(message, records, 0)
    assert verifies(message, records, 1)


# ---------------------------------------------------------------- keys


def _pem(key: PrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "checked"])
@pytest.mark.parametrize("crlf", [True, False], ids=["crlf", "lf"])
def test_keys_are_loaded_from_either_form(
    rsa_key: SigningKey, ed25519_key: SigningKey, trusted: bool, crlf: bool
) -> None:
    forms = serialization.PrivateFormat
    pairs = [
        (rsa_key.private_key, forms.PKCS8),
        (rsa_key.private_key, forms.TraditionalOpenSSL),
        (ed25519_key.private_key, forms.PKCS8),
    ]
    for key, form in pairs:
        pem = _pem(key, form)
        loaded = load_private_key(pem.replace(b"\n", b"\r\n") if crlf else pem, trusted=trusted)
        assert public_record(loaded) == public_record(key)


def test_what_is_no_usable_key_is_refused(rsa_key: SigningKey) -> None:
    password = serialization.BestAvailableEncryption(b"secret")
    encrypted = rsa_key.private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, password
    )
    for pem in (b"", b"junk", encrypted):
        with pytest.raises(KeyRefused, match="not an unencrypted private key"):
            load_private_key(pem, trusted=False)
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(KeyRefused, match="neither an RSA nor an Ed25519 key"):
        load_private_key(curve, trusted=False)


def test_r23_short_keys_and_wrong_kinds_are_refused(rsa_key: SigningKey, ed25519_key: SigningKey) -> None:
    check_key(rsa_key.private_key, "rsa-sha256")
    check_key(ed25519_key.private_key, "ed25519-sha256")
    with pytest.raises(KeyRefused, match="2048 bits or more, this has 1024"):
        check_key(rsa.generate_private_key(public_exponent=65537, key_size=1024), "rsa-sha256")
    with pytest.raises(KeyRefused, match="not a key for rsa-sha256"):
        check_key(ed25519.Ed25519PrivateKey.generate(), "rsa-sha256")


def test_public_records_have_the_forms_of_the_rfcs(rsa_key: SigningKey, ed25519_key: SigningKey) -> None:
    assert re.fullmatch(r"v=DKIM1; k=rsa; p=MIIBIjAN[A-Za-z0-9+/=]{384}", public_record(rsa_key.private_key))
    # RFC 8463 section 4: the 32 octets themselves, in 44 characters.
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", public_record(ed25519_key.private_key))
