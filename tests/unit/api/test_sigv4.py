"""Signatures that botocore makes are taken, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from relay.api.sigv4 import Request, check, claim_of
from relay.api.values import APIError

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def now() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000_000)


def signed(
    method: str = "POST",
    path: str = "/v2/email/outbound-emails",
    query: str = "",
    body: bytes = b"{}",
    headers: dict[str, str] | None = None,
    signer: type[SigV4Auth] = SigV4Auth,
    token: str | None = None,
) -> Request:
    """A request as boto3 sends it."""
    url = f"https://relay.example:8443{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers or {}, body)
    signer(Credentials(KEY, SECRET, token), "ses", "us-east-1").add_auth(request)
    prepared = request.prepare()
    path_sent, _, query_sent = prepared.url.removeprefix("https://relay.example:8443").partition("?")
    sent = {name.lower(): _text(value) for name, value in prepared.headers.items()}
    return Request(method, path_sent, query_sent, {"host": "relay.example:8443", **sent}, hashed(body), now())


def hashed(body: bytes) -> str:
    return sha256(body).hexdigest()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def verify(request: Request, secret: str = SECRET, region: str = "us-east-1") -> None:
    claim = claim_of(request)
    assert claim.access_key_id == KEY
    check(claim, request, secret, region)


def refused(request: Request, **how: str) -> str:
    with pytest.raises(APIError) as caught:
        verify(request, **how)
    return caught.value.code


def test_request_of_botocore_is_taken() -> None:
    verify(signed())


def test_empty_body_and_query_string_are_taken() -> None:
    verify(signed("GET", "/v2/email/suppression/addresses", "Reason=BOUNCE&PageSize=10&A=b%20c", b""))


def test_signed_query_is_taken_within_its_time() -> None:
    request = signed("GET", "/", "Action=GetSendQuota&Version=2010-12-01", b"", signer=SigV4QueryAuth)
    verify(request)
    assert refused(replace(request, at=request.at + 3_700_000_000)) == "SignatureDoesNotMatch"


@given(st.text("abz09-._~@+% /", max_size=20))
def test_path_with_any_letters_is_taken(name: str) -> None:
    from urllib.parse import quote

    verify(signed("GET", f"/v2/email/identities/{quote(name, safe='-._~')}x", "", b""))


@pytest.mark.parametrize(
    "change",
    [
        {"body_hash": hashed(b"{ }")},
        {"path": "/v2/email/identities"},
        {"query": "a=b"},
        {"method": "PUT"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_request_is_refused(change: dict[str, object]) -> None:
    assert refused(replace(signed(), **change)) == "SignatureDoesNotMatch"  # type: ignore[arg-type]


def test_changed_header_that_was_signed_is_refused() -> None:
    request = signed(headers={"X-Extra": "1"})
    changed = {**request.headers, "x-extra": "2"}
    assert refused(replace(request, headers=changed)) == "SignatureDoesNotMatch"


def test_stated_hash_of_another_body_is_refused() -> None:
    """Many verifiers believe X-Amz-Content-SHA256 and never hash the body."""
    other = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    request = signed(body=b"{}", headers={"X-Amz-Content-SHA256": other})
    verify(request)
    assert refused(replace(request, body_hash=hashed(b"[]"))) == "SignatureDoesNotMatch"


def test_wrong_secret_and_region_are_refused() -> None:
    assert refused(signed(), secret="another") == "SignatureDoesNotMatch"
    assert refused(signed(), region="eu-west-1") == "SignatureDoesNotMatch"


@pytest.mark.parametrize("minutes", [-6, 6])
def test_clock_off_by_more_than_five_minutes_is_refused(minutes: int) -> None:
    request = signed()
    assert refused(replace(request, at=request.at + minutes * 60_000_000)) == "SignatureDoesNotMatch"
    verify(replace(request, at=request.at + minutes * 40_000_000))


def test_host_and_date_must_be_signed() -> None:
    request = signed()
    header = request.headers["authorization"].replace("SignedHeaders=host;", "SignedHeaders=")
    assert refused(replace(request, headers={**request.headers, "authorization": header})) == (
        "SignatureDoesNotMatch"
    )


def test_session_token_is_refused_as_one_of_nobody() -> None:
    assert refused(signed(token="FwoGZXIvYXdzE")) == "InvalidClientTokenId"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "MissingAuthenticationToken"),
        ("Basic dXNlcjpwYXNz", "IncompleteSignature"),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0", "IncompleteSignature"),
        ("AWS4-HMAC-SHA256 Credential=", "IncompleteSignature"),
    ],
)
def test_unreadable_claim_is_refused(header: str, code: str) -> None:
    request = signed()
    assert refused(replace(request, headers={**request.headers, "authorization": header})) == code


@given(st.text(max_size=200))
def test_any_authorization_header_gives_an_answer(text: str) -> None:
    request = signed()
    with pytest.raises(APIError):
        verify(replace(request, headers={**request.headers, "authorization": text}))
