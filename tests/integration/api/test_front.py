"""Whatever a signed request says, it is answered, and never with 500; on both engines.

Requests are made from the models and then damaged.  Sending ends where the accept path begins: what comes
behind it has tests of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import OperationModel
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from relay.api import models
from relay.api.front import APISettings, Front
from relay.api.operations import OPERATIONS
from relay.authorization.decision import Rules
from relay.control import accounts, credentials, identities, users
from relay.control.authentication import KeyHolders
from relay.control.credentials import NewCredential
from relay.control.ground import Ground, StoreUnavailable
from relay.httpd import Request, Response, plain
from relay.store.directory import Directory
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.submission.answer import Reason, Refused
from tests.support.aws import EVERYTHING
from tests.support.gateway import OWNER, REGION
from tests.support.shapes import sample

ROUNDS = 15  # of each operation
JUNK: list[Any] = [None, True, -1, 1e300, "", "x" * 5_000, "\0", "ü", [], {}, [[]], {"a": {}}, "2026-13-99"]


class NoMail:
    """An accept path that takes nothing at present."""

    def next_id(self) -> int:
        return 1

    def refusing(self) -> Refused:
        return Refused(Reason.UNAVAILABLE, "Temporary service failure")


@dataclass(frozen=True)
class Site:
    """A front with somebody who may do everything."""

    front: Front
    key: NewCredential
    log: list[Any]

    def signed(self, method: str, path: str, query: str, body: bytes, service: str, of: str) -> Request:
        url = f"http://relay.example{path}" + (f"?{query}" if query else "")
        request = AWSRequest(method, url, {"content-type": of}, body)
        who = Credentials(self.key.access_key_id, self.key.secret_access_key)
        SigV4Auth(who, service, REGION).add_auth(request)
        headers = tuple((name.lower(), str(value)) for name, value in request.headers.items())
        host = ("host", "relay.example")
        return Request(method, path, path.encode(), query, (host, *headers), body, "127.0.0.1", True, False)

    async def answer(self, request: Request) -> Response:
        return await self.front.respond(request)


@pytest.fixture
async def site(store: Store, secrets: Secrets) -> Site:
    ground = Ground(store, secrets, REGION, "test")
    accounts.create(ground, "owner", OWNER, production=True)
    identities.create(ground, "owner.example", OWNER, verified=True)
    users.create(ground, "admin", OWNER)
    users.put_policy(ground, "admin", OWNER, "More", json.dumps(EVERYTHING))
    key = credentials.create_for_user(ground, OWNER, "admin")
    directory = Directory(store, secrets, Rules(REGION))
    await directory.poll()
    log: list[Any] = []

    async def unsigned(_: Request) -> Response:
        return plain(400, "not here")

    settings = APISettings(REGION, 1 << 20, calls_per_second=0)
    holders = KeyHolders(directory)
    write = lambda event, **fields: log.append((event, fields))  # noqa: E731
    front = Front(settings, holders, ground, NoMail(), unsigned, StoreUnavailable, write)  # type: ignore[arg-type]
    return Site(front, key, log)


def damaged(value: Any, random: Random) -> Any:
    """Somewhere in it stands something else."""
    if random.random() < 0.15:
        return random.choice(JUNK)
    if isinstance(value, dict):
        kept = {name: damaged(one, random) for name, one in value.items() if random.random() < 0.95}
        return kept | ({"Unknown": random.choice(JUNK)} if random.random() < 0.1 else {})
    return [damaged(one, random) for one in value] if isinstance(value, list) else value


def json_request(site: Site, operation: OperationModel, random: Random) -> Request:
    """As botocore sends it, with a damaged body."""
    sent = create_serializer("rest-json", include_validation=False).serialize_to_request(
        sample(operation.input_shape, random), operation
    )
    body = sent["body"] if isinstance(sent["body"], bytes) else b""
    if body:
        body = json.dumps(damaged(json.loads(body), random)).encode()
    query = urlencode(sent["query_string"], doseq=True)
    return site.signed(sent["method"], sent["url_path"], query, body, "ses", "application/json")


def form_request(site: Site, service: str, operation: OperationModel, random: Random) -> Request:
    given: dict[str, Any] = {}
    version = operation.service_model.api_version
    if operation.input_shape is not None:
        sent = create_serializer("query", include_validation=False).serialize_to_request(
            sample(operation.input_shape, random), operation
        )
        given = sent["body"]
    form = {name: value for name, value in given.items() if random.random() < 0.95}
    for name in list(form):
        if random.random() < 0.15 and name not in ("Action", "Version"):
            form[name] = str(random.choice(JUNK))
    form |= {"Action": operation.name, "Version": version}
    of = "application/x-www-form-urlencoded"
    return site.signed("POST", "/", "", urlencode(form).encode(), models.SIGNING_NAMES[service], of)


async def test_generated_requests_are_answered(site: Site) -> None:
    random, statuses = Random(20261125), set()
    for service, name in OPERATIONS:
        operation = models.operation(service, name)
        assert operation is not None
        for _ in range(ROUNDS):
            if service == models.SESV2:
                request = json_request(site, operation, random)
            else:
                request = form_request(site, service, operation, random)
            response = await site.answer(request)
            assert response.status != 500, (name, request.query, request.body, site.log)
            statuses.add(response.status)
    assert {200, 400, 404} <= statuses  # some got through, some did not


@pytest.mark.parametrize(
    ("method", "path", "body", "of", "status", "code"),
    [
        ("POST", "/v2/email/identities", b"[" * 100_000, "application/json", 400, b"Serialization"),
        (
            "POST",
            "/v2/email/identities",
            b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
            "application/json",
            400,
            b"",
        ),
        ("POST", "/v2/email/identities", b"\xff\xfe", "application/json", 400, b"Serialization"),
        ("POST", "/v2/email/identities", b"<x/>", "text/xml", 400, b"Serialization"),
        ("POST", "/v2/email/identities", b"EmailIdentity=x", "application/x-www-form-urlencoded", 400, b""),
        ("POST", "/v2/email/identities", b'{"EmailIdentity": 1}', "application/json", 400, b"Serialization"),
        ("POST", "/v2/email/identities", b'{"EmailIdentity": null}', "application/json", 400, b"BadRequest"),
        ("POST", "/v2/email/nothing", b"{}", "application/json", 404, b"UnknownOperation"),
        ("DELETE", "/v2/email/account", b"", "application/json", 404, b"UnknownOperation"),
        ("GET", "/v2/email/dedicated-ips", b"", "application/json", 404, b"UnknownOperation"),
        ("POST", "/", b"", "application/x-www-form-urlencoded", 400, b"MissingAction"),
        ("POST", "/", b"Action=Nothing", "application/x-www-form-urlencoded", 400, b"InvalidAction"),
        ("POST", "/", b"Action=SendBounce", "application/x-www-form-urlencoded", 400, b"InvalidAction"),
        ("POST", "/", b"Action=ListIdentities&Version=1999-01-01", "text/plain", 400, b"InvalidAction"),
        ("POST", "/", b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>', "text/xml", 400, b""),
        ("POST", "/", b"&".join(b"x%d=1" % n for n in range(6_000)), "text/plain", 400, b"MalformedInput"),
        (
            "POST",
            "/",
            b"Action=GetIdentityDkimAttributes&"
            + b"&".join(b"Identities.member.%d=x%d.example" % (n, n) for n in range(4_000)),
            "application/x-www-form-urlencoded",
            400,
            b"ValidationError",
        ),
        ("POST", "/", b"Action=ListIdentities&" + b"a." * 40 + b"b=1", "text/plain", 400, b"MalformedInput"),
        ("POST", "/", b"Action=ListIdentities&MaxItems=" + b"9" * 5_000, "text/plain", 400, b""),
        ("POST", "/", b"Action=ListIdentities&MaxItems=%zz", "text/plain", 400, b"MalformedInput"),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_bad_input_gets_the_services_error(
    site: Site, method: str, path: str, body: bytes, of: str, status: int, code: bytes
) -> None:
    response = await site.answer(site.signed(method, path, "", body, "ses", of))
    assert response.status == status, response
    told = response.headers.get("x-amzn-ErrorType", "").encode() + response.body
    assert code in told
    assert response.media_type == ("application/json" if path != "/" else "text/xml")


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"authorization": None}, 403),
        ({"authorization": "Basic YTpi"}, 400),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=x"}, 400),
        ({"x-amz-date": "20200101T000000Z"}, 403),
        ({"host": "other.example"}, 403),
        ({"x-amz-security-token": "x"}, 403),
    ],
    ids=str,
)
async def test_request_that_is_not_signed_right_is_refused(
    site: Site, changed: dict[str, str | None], status: int
) -> None:
    request = site.signed("GET", "/v2/email/account", "", b"", "ses", "application/json")
    headers = dict(request.headers) | changed
    kept = tuple((name, value) for name, value in headers.items() if value is not None)
    tampered = Request("GET", request.path, request.raw_path, "", kept, b"", "127.0.0.1", True, False)
    assert (await site.answer(request)).status == 200
    assert (await site.answer(tampered)).status == status


async def test_signature_for_another_service_is_refused(site: Site) -> None:
    response = await site.answer(site.signed("GET", "/v2/email/account", "", b"", "sns", "application/json"))
    assert response.status == 403


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=200))
def test_anything_without_a_signature_is_refused(path: bytes, query: bytes, body: bytes) -> None:
    """Before anything else of it is read."""
    import asyncio

    async def unsigned(_: Request) -> Response:
        return plain(400, "not here")

    front = Front(
        APISettings(REGION, 1 << 20, 0),
        None,
        None,
        None,
        unsigned,
        StoreUnavailable,
        lambda *_, **__: None,  # type: ignore[arg-type]
    )
    raw = b"/v2/email/" + path
    request = Request("POST", "/", raw, query.decode("latin-1"), (), body, "127.0.0.1", True, False)
    assert asyncio.run(front.respond(request)).status in (400, 403)
