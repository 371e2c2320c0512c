"""Signature Version 4: who signed a request, and whether nothing of it was changed since.  Pure.

botocore builds the canonical request and the signature; what is decided here is stricter than a client
needs: exactly the headers that are named as signed are signed, ``host`` and the date among them, the
body's hash is computed and never believed, the scope names our region and service, and the date is at
most five minutes off.  So a request that was overheard can be sent again for five minutes and no longer.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from relay.api.values import APIError

_ALGORITHM = "AWS4-HMAC-SHA256"
_SKEW = timedelta(minutes=5)
_LONGEST_PRESIGNED = timedelta(days=7)
_is_date = re.compile(r"[0-9]{8}T[0-9]{6}Z").fullmatch


@dataclass(frozen=True, slots=True)
class Request:
    """What of an HTTP request is signed.

    ``path`` and ``query`` are as sent, not decoded; ``headers`` are in lower case, repeated ones joined by
    commas.  ``body_hash`` is the body's SHA-256 in hexadecimal; ``at`` (microseconds UTC) is when it came.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body_hash: str
    at: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says about its signature; nothing of it is proven before ``check``.

    ``query`` is what of the query string was signed.  ``expires`` is set where the signature is in it.
    """

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    query: str
    expires: timedelta | None = None


def claim_of(request: Request) -> Claim:
    """The claim in the Authorization header or the query string; APIError if none can be read."""
    header = request.headers.get("authorization", "")
    is_presigned = "X-Amz-Signature=" in request.query
    if header and is_presigned:
        raise _incomplete("A request is signed once, in a header or in the query.")
    if is_presigned:
        return _from_query(request)
    if not header:
        raise APIError("MissingAuthenticationToken", "Request is missing Authentication Token")
    return _from_header(header, request)


def _from_header(header: str, request: Request) -> Claim:
    if "x-amz-security-token" in request.headers:
        raise unknown_token()
    algorithm, _, rest = header.partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
    if algorithm != _ALGORITHM or not {"Credential", "SignedHeaders", "Signature"} <= set(parts):
        raise _incomplete(
            "Authorization needs AWS4-HMAC-SHA256 with Credential, SignedHeaders and Signature."
        )
    timestamp = request.headers.get("x-amz-date", "")
    return _claim(parts["Credential"], parts["SignedHeaders"], parts["Signature"], timestamp, request.query)


def _from_query(request: Request) -> Claim:
    pairs = parse_qsl(request.query, keep_blank_values=True)
    given = dict(pairs)
    if "X-Amz-Security-Token" in given:
        raise unknown_token()
    needed = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders")
    if len(given) != len(pairs) or any(name not in given for name in needed):
        raise _incomplete(f"A signed query needs {', '.join(needed)}, each once.")
    if given["X-Amz-Algorithm"] != _ALGORITHM or not re.fullmatch(r"[0-9]{1,6}", given["X-Amz-Expires"]):
        raise _incomplete("X-Amz-Algorithm or X-Amz-Expires cannot be used.")
    signed = urlencode([pair for pair in pairs if pair[0] != "X-Amz-Signature"])
    return _claim(
        given["X-Amz-Credential"],
        given["X-Amz-SignedHeaders"],
        given["X-Amz-Signature"],
        given["X-Amz-Date"],
        signed,
        min(timedelta(seconds=int(given["X-Amz-Expires"])), _LONGEST_PRESIGNED),
    )


def _claim(
    credential: str,
    headers: str,
    signature: str,
    timestamp: str,
    query: str,
    expires: timedelta | None = None,
) -> Claim:
    scope = credential.split("/")
    if len(scope) != 5 or scope[4] != "aws4_request":
        raise _incomplete("Credential has the form KEY/DATE/REGION/SERVICE/aws4_request.")
    if not _is_date(timestamp):
        raise _incomplete("The request needs X-Amz-Date in the form 20261125T120000Z.")
    names = tuple(headers.lower().split(";"))
    key, date, region, service, _ = scope
    return Claim(key, date, region, service, names, signature, timestamp, query, expires)


def check(claim: Claim, request: Request, secret: str, region: str) -> None:
    """APIError unless the request is signed with the secret, for our region, and just now.

    Which service it is signed for is left to whoever knows what it asks for.
    """
    if claim.region != region:
        raise wrong_scope(region, claim.service)
    if claim.date != claim.timestamp[:8]:
        raise _mismatch("The date in the Credential scope does not match the date of the request.")
    dates = {"x-amz-date"} if claim.expires is None else set()
    if missing := ({"host"} | dates) - set(claim.signed_headers):
        raise _mismatch(f"These headers must be signed: {', '.join(sorted(missing))}.")
    if any(name not in request.headers for name in claim.signed_headers):
        raise _mismatch("A header that is named as signed is not there.")
    _check_time(claim, request)
    if not hmac.compare_digest(
        _signature(claim, request, secret), claim.signature.encode("utf-8", "replace")
    ):
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS"
            " Secret Access Key and signing method."
        )


def _check_time(claim: Claim, request: Request) -> None:
    now = datetime.fromtimestamp(request.at / 1_000_000, UTC)
    try:
        signed_at = datetime.strptime(claim.timestamp, SIGV4_TIMESTAMP).replace(tzinfo=UTC)
    except ValueError:
        raise _incomplete("X-Amz-Date is no date.") from None
    last = signed_at + (_SKEW if claim.expires is None else claim.expires)
    if now > last or signed_at > now + _SKEW:
        raise _mismatch(
            f"Signature expired: {claim.timestamp} is more than 5 minutes from {now:{SIGV4_TIMESTAMP}};"
            " set the clock of the client."
        )


class _Verifier(SigV4Auth):
    """botocore's signer, told what was signed instead of choosing it."""

    def __init__(self, claim: Claim, secret: str, body_hash: str) -> None:
        super().__init__(Credentials(claim.access_key_id, secret), claim.service, claim.region)
        self._signed = claim.signed_headers
        self._body_hash = body_hash

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        headers = HTTPHeaders()
        for name in self._signed:
            headers[name] = request.headers[name]
        return headers

    def payload(self, request: AWSRequest) -> str:
        return self._body_hash


def _signature(claim: Claim, request: Request, secret: str) -> bytes:
    body_hash = request.body_hash
    query = f"?{claim.query}" if claim.query else ""
    canonical = AWSRequest(request.method, f"https://host{request.path}{query}", dict(request.headers))
    # botocore believes this header; what is signed is the hash of the body that came.
    if "x-amz-content-sha256" in request.headers:
        canonical.headers.replace_header("x-amz-content-sha256", body_hash)
    canonical.context["timestamp"] = claim.timestamp
    signer = _Verifier(claim, secret, body_hash)
    text = signer.string_to_sign(canonical, signer.canonical_request(canonical))
    return str(signer.signature(text, canonical)).encode()


def wrong_scope(region: str, service: str) -> APIError:
    return _mismatch(f"Credential should be scoped to region '{region}' and service '{service}'.")


def unknown_token() -> APIError:
    """The access key is not ours, or the request bears a session token, which nobody here was given."""
    return APIError("InvalidClientTokenId", "The security token included in the request is invalid.")


def _incomplete(message: str) -> APIError:
    return APIError("IncompleteSignature", message)


def _mismatch(message: str) -> APIError:
    return APIError("SignatureDoesNotMatch", message)
