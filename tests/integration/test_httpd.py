"""The HTTP listener on loopback sockets: what routes see, what is answered, and every limit."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from relay import httpd, metrics
from relay.app.certificate import self_signed
from relay.httpd import HTTPListener, Request, Response, Route, plain
from relay.submission.principal import parse_network
from tests.support.proxy import addresses, v2

LIMIT = 100
PROXY = "127.0.0.9"


class Site:
    """A listener with a few routes; what they saw and what was logged."""

    def __init__(self, directory: Path) -> None:
        certificate, key = self_signed("relay.example")
        (directory / "crt").write_bytes(certificate)
        (directory / "key").write_bytes(key)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(directory / "crt", directory / "key")
        self.seen: list[Request] = []
        self.logged: list[dict[str, Any]] = []
        self.go_on = asyncio.Event()
        both = frozenset({"GET", "POST"})
        self.listener = HTTPListener(
            [
                Route("/echo/{name}", both, self.echo, most_body_bytes=LIMIT),
                Route("/broken", frozenset({"GET"}), self.broken),
                Route("/slow", frozenset({"GET"}), self.slow),
            ],
            self.tls,
            (parse_network(PROXY),),
            lambda event, **fields: self.logged.append({"event": event, **fields}),
        )

    async def echo(self, request: Request) -> Response:
        self.seen.append(request)
        return plain(200, request.body.decode())

    async def broken(self, request: Request) -> Response:
        raise RuntimeError("the secret is 42")

    async def slow(self, request: Request) -> Response:
        self.seen.append(request)
        await self.go_on.wait()
        return plain(200, "at last")

    async def start(self) -> None:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.port, self.tls_port = (one.getsockname()[1] for one in sockets)
        await self.listener.start(zip(sockets, (False, True), strict=True))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    one = Site(tmp_path)
    await one.start()
    yield one
    one.go_on.set()
    await one.listener.drain(1)


async def talk(
    site: Site, octets: bytes, *, then: bytes = b"", seconds: float = 10, peer: str = "127.0.0.1"
) -> bytes:
    """Everything that comes back until the server closes; ``then`` is sent a moment later."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, local_addr=(peer, 0))
    writer.write(octets)
    if then:
        await asyncio.sleep(0.1)
        writer.write(then)
    try:
        return await asyncio.wait_for(reader.read(), seconds)
    except ConnectionResetError:
        return b""  # cut off
    finally:
        writer.close()


def get(path: str, *fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: relay", "Connection: close", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: bytes, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: relay", "Connection: close", *fields]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_route_sees_the_request_as_it_came(site):
    answer = await talk(site, post("/echo/%C3%A9?x=1&x=2&y=%C3%A9", b"n=v&m=", "X-Field: Value"))
    assert (status(answer), answer.endswith(b"\r\n\r\nn=v&m=\n")) == (200, True)
    [seen] = site.seen
    assert (seen.method, seen.raw_path, seen.query) == ("POST", b"/echo/%C3%A9", "x=1&x=2&y=%C3%A9")
    assert seen.parameters == {"name": "é"}
    assert seen.query_fields() == {"x": "1", "y": "é"}
    assert seen.form_fields() == {"n": "v", "m": ""}
    assert (seen.header("x-field"), seen.client, seen.is_local, seen.is_tls) == (
        "Value",
        "127.0.0.1",
        True,
        False,
    )


async def test_every_answer_says_what_a_browser_must_not_do(site):
    for path in ("/echo/x", "/broken", "/nowhere"):
        answer = (await talk(site, get(path))).lower()
        for field in (b"x-content-type-options: nosniff", b"default-src 'none'", b"cache-control: no-store"):
            assert field in answer
        assert b"server:" not in answer


@pytest.mark.parametrize(
    ("fields", "client", "is_local"),
    [
        ((), "127.0.0.1", True),
        (("X-Forwarded-For: 198.51.100.7, 203.0.113.9",), "203.0.113.9", False),
        (("X-Forwarded-For: nonsense",), "127.0.0.1", False),
        (("Forwarded: for=203.0.113.9",), "127.0.0.1", False),
        (("X-Forwarded-For: ::ffff:203.0.113.9",), "203.0.113.9", False),
    ],
    ids=["direct", "the last is whom the proxy saw", "nonsense", "Forwarded", "IPv4 within IPv6"],
)
async def test_client_behind_a_proxy_of_this_machine(site, fields, client, is_local):
    await talk(site, get("/echo/x", *fields))
    assert (site.seen[0].client, site.seen[0].is_local) == (client, is_local)


async def test_client_is_whom_a_named_load_balancer_says(site):
    header = v2(0x21, 0x11, addresses("198.51.100.7", "127.0.0.1"))
    octets = header + get("/echo/x", "X-Forwarded-For: 203.0.113.9")
    assert status(await talk(site, octets, peer=PROXY)) == 200
    assert (site.seen[0].client, site.seen[0].is_local) == ("198.51.100.7", False)


async def test_load_balancer_that_speaks_for_itself_is_the_client(site):
    """HAProxy's look whether we are ready."""
    assert status(await talk(site, v2(0x20, 0x00, b"") + get("/echo/x"), peer=PROXY)) == 200
    assert site.seen[0].client == PROXY


async def test_load_balancer_without_its_header_gets_no_answer(site):
    assert await talk(site, get("/echo/x"), peer=PROXY) == b""
    assert site.seen == []
    [line] = site.logged
    assert (line["event"], line["peer"]) == ("PROXY header refused", PROXY)


async def test_header_of_a_load_balancer_from_anybody_else_is_no_request(site):
    header = v2(0x21, 0x11, addresses("198.51.100.7", "127.0.0.1"))
    assert status(await talk(site, header + get("/echo/x"))) == 400
    assert site.seen == []


async def test_connections_are_counted_until_they_end(site):
    before = metrics.HTTP_CONNECTIONS.own
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    await until(lambda: metrics.HTTP_CONNECTIONS.own == before + 1)
    writer.close()
    await until(lambda: metrics.HTTP_CONNECTIONS.own == before)
    await talk(site, get("/echo/x"), peer=PROXY)
    await until(lambda: metrics.HTTP_CONNECTIONS.own == before)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def test_tls_listener_says_so(site):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", site.tls_port, ssl=context)
    writer.write(get("/echo/x"))
    assert status(await asyncio.wait_for(reader.read(), 10)) == 200
    assert site.seen[0].is_tls
    writer.close()


async def test_what_a_route_raises_is_logged_and_answered_without_telling(site):
    answer = await talk(site, get("/broken"))
    assert status(answer) == 500
    assert b"secret" not in answer
    [line] = site.logged
    assert (line["event"], line["path"]) == ("request failed", "/broken")
    assert "the secret is 42" in line["traceback"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (post("/echo/x", b"x" * LIMIT), 200),
        (post("/echo/x", b"x" * (LIMIT + 1)), 413),
        (post("/echo/x", b"", "Content-Length: 99999999"), 400),
        (b"POST /echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413),
        (
            b"POST /echo/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"40\r\n"
            + b"x" * 64
            + b"\r\n"
            b"40\r\n" + b"x" * 64 + b"\r\n",
            413,
        ),
        (get("/nowhere"), 404),
        (b"DELETE /echo/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        (b"EHLO relay.example\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000, 400),
    ],
    ids=[
        "body of the limit",
        "one octet more",
        "two lengths",
        "length announced",
        "chunks past the limit",
        "no such path",
        "method",
        "another protocol",
        "head too long",
    ],
)
async def test_limits_and_refusals(site, request_, expected):
    assert status(await talk(site, request_)) == expected


async def test_head_is_answered_without_a_body(site):
    answer = await talk(site, get("/echo/x").replace(b"GET", b"HEAD", 1))
    assert status(answer) == 200
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("octets", "then"),
    [
        (b"", b""),
        (b"GET /echo/x HT", b""),
        (b"GET /echo/x HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n"),
        (b"GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n", b"G"),
    ],
    ids=["nothing", "half a line", "half a head", "half a second request"],
)
async def test_request_that_does_not_come_is_not_waited_for(site, monkeypatch, octets, then):
    monkeypatch.setattr(httpd, "_HEAD_SECONDS", 0.5)
    await talk(site, octets, then=then, seconds=5)


async def test_body_that_comes_too_slowly_is_answered_408(site, monkeypatch):
    monkeypatch.setattr(httpd, "_BODY_SECONDS", 0.3)
    assert status(await talk(site, post("/echo/x", b"x" * 50)[:-10], then=b"x")) == 408
    assert site.seen == []


async def test_request_that_takes_too_long_is_answered_503(site, monkeypatch):
    monkeypatch.setattr(httpd, "_REQUEST_SECONDS", 0.3)
    assert status(await talk(site, get("/slow"))) == 503


async def test_connections_past_the_limit_are_cut_off(site, monkeypatch):
    monkeypatch.setattr(httpd, "_MOST_CONNECTIONS", 3)
    held = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert await talk(site, get("/echo/x"), seconds=5) == b""
    for _, writer in held:
        writer.close()
    await asyncio.sleep(0.1)
    assert status(await talk(site, get("/echo/x"))) == 200


async def test_drain_answers_what_runs_and_takes_nothing_more(site):
    running = asyncio.ensure_future(talk(site, get("/slow")))
    while not site.seen:
        await asyncio.sleep(0.01)
    draining = asyncio.ensure_future(site.listener.drain(5))
    await asyncio.sleep(0.3)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", site.port)
    site.go_on.set()
    assert (await running).endswith(b"at last\n")
    await asyncio.wait_for(draining, 5)


async def test_client_that_has_only_just_come_is_still_answered(site):
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    await asyncio.sleep(0.1)  # taken by the listener
    draining = asyncio.ensure_future(site.listener.drain(5))
    await asyncio.sleep(0.3)
    writer.write(get("/echo/x"))
    assert status(await asyncio.wait_for(reader.read(), 5)) == 200
    writer.close()
    await asyncio.wait_for(draining, 5)


async def test_drain_does_not_wait_longer_than_told(site):
    running = asyncio.ensure_future(talk(site, get("/slow")))
    while not site.seen:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(site.listener.drain(1), 3)
    await running
