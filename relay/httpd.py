"""The HTTP listener: sockets in, requests out, an answer for each, and limits on everything.

A package that is reached by HTTP gives ``Route`` values; ``app`` puts those of all packages together and
serves them on sockets that somebody else bound.  uvicorn and starlette stay in here.  Every state of a
connection has its deadline, heads and bodies have their size, and the outermost loop of a request is here:
what a route raises is logged and answered 500.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from starlette import requests, responses, routing
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relay import metrics
from relay.accept.acceptor import Acceptor
from relay.accept.origin import Origin, is_loopback, plain_address
from relay.maillog import Log
from relay.submission.principal import Network

# From connecting, or from the first octet of a further request, to the end of its head.
_HEAD_SECONDS = 10.0
_BODY_SECONDS = 30.0
_REQUEST_SECONDS = 60.0
_IDLE_SECONDS = 15
# When the above have done nothing: the client does not read, or does not close.
_GRACE_SECONDS = 5.0
_SETTLE_SECONDS = 0.5
_MOST_HEAD_BYTES = 32 * 1024
_MOST_CONNECTIONS = 500
_SMALL_BODY_BYTES = 16 * 1024
# Of bodies above this only so many are in memory at once.
_LARGE_BODY_BYTES = 1024 * 1024
_MOST_LARGE_BODIES = 2
_MOST_FIELDS = 50

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_NONE: Mapping[str, str] = {}
_CLOSE = {"connection": "close"}

# It has lines of its own for what any client may do; ours are written here.
logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)


# ---------------------------------------------------------------- what routes see


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole.

    ``raw_path`` and ``query`` are as they came, ``path`` is decoded, ``parameters`` are the parts of it
    that the route names.  ``client`` is the address of the peer, or whom it speaks for: a load balancer of
    the settings, or a proxy on this machine.  ``is_local``: it came from this machine and through no proxy.
    """

    method: str
    path: str
    raw_path: bytes
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | bytearray
    client: str
    is_local: bool
    is_tls: bool
    parameters: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        """The first field of that name, in lower case."""
        return next((value for one, value in self.headers if one == name), None)

    def query_fields(self) -> dict[str, str]:
        return _fields(self.query)

    def form_fields(self) -> dict[str, str]:
        """The body of a form sent by POST."""
        return _fields(self.body.decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; ``headers`` come before those that every answer has."""

    status: int
    body: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


def plain(status: int, text: str, headers: Mapping[str, str] = _NONE) -> Response:
    """A line of plain text."""
    return Response(status, f"{text}\n".encode(), "text/plain; charset=utf-8", headers)


# How a route says that a body cannot be taken: the status, why, the path.
Refuse = Callable[[int, str, bytes], Response]


def _plainly(status: int, text: str, raw_path: bytes) -> Response:
    return plain(status, text)


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers requests for a path (``/topics/{name}``).  HEAD comes with GET, without the body."""

    path: str
    methods: frozenset[str]
    respond: Callable[[Request], Awaitable[Response]]
    most_body_bytes: int = _SMALL_BODY_BYTES
    refuse: Refuse = _plainly


def _fields(encoded: str) -> dict[str, str]:
    """The fields of a query or form; the first of a name counts, and too many are none."""
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return {}
    return dict(reversed(pairs))


# ---------------------------------------------------------------- from the wire to routes and back


class _Application:
    """The outermost loop of a request: finds the route, bounds its time, answers whatever happens."""

    def __init__(self, routes: Iterable[Route], log: Log) -> None:
        self._log = log
        large = asyncio.Semaphore(_MOST_LARGE_BODIES)
        served = [
            routing.Route(one.path, _endpoint(one, large), methods=sorted(one.methods), name=one.path)
            for one in routes
        ]
        self._router = routing.Router(served, redirect_slashes=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        has_begun = False

        async def sending(message: Any) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                _complete(message)
            await send(message)

        failure: Response | None = None
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self._router(scope, receive, sending)
        except TimeoutError:
            failure = plain(503, "The request took too long. Try again later.", _CLOSE)
        except Exception:
            self._log(
                "request failed",
                level="error",
                method=scope["method"],
                path=scope["path"],
                traceback=traceback.format_exc(),
            )
            failure = plain(500, "Something went wrong here; the log says what.", _CLOSE)
        if failure is not None and not has_begun:
            await _starlettes(failure)(scope, receive, sending)


def _complete(message: Any) -> None:
    """Add the headers that every answer has, and count it."""
    given = {name for name, _ in message["headers"]}
    message["headers"] += [
        (name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in given
    ]
    metrics.HTTP_REQUESTS.labels(f"{message['status'] // 100}xx").inc()


def _endpoint(route: Route, large: asyncio.Semaphore) -> Callable[[requests.Request], Awaitable[Any]]:
    async def respond(incoming: requests.Request) -> responses.Response:
        announced = incoming.headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > route.most_body_bytes:
            return too_long(incoming)
        # A large body waits on the wire until few enough others are in memory; one of unknown length may be.
        may_be_large = int(announced) > _LARGE_BODY_BYTES or "transfer-encoding" in incoming.headers
        if not may_be_large or route.most_body_bytes <= _LARGE_BODY_BYTES:
            return await read(incoming)
        async with large:
            return await read(incoming)

    async def read(incoming: requests.Request) -> responses.Response:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _read_body(incoming, route.most_body_bytes)
        except TimeoutError:
            return refused(incoming, 408, "The body came too slowly.")
        except requests.ClientDisconnect:
            return refused(incoming, 400, "The body is not whole.")
        if body is None:
            return too_long(incoming)
        return _starlettes(await route.respond(_request(incoming, body)))

    def too_long(incoming: requests.Request) -> responses.Response:
        return refused(incoming, 413, f"The body is longer than {route.most_body_bytes} octets.")

    def refused(incoming: requests.Request, status: int, text: str) -> responses.Response:
        answer = route.refuse(status, text, incoming.scope["raw_path"])
        return _starlettes(replace(answer, headers={**answer.headers, **_CLOSE}))

    return respond


async def _read_body(incoming: requests.Request, most: int) -> bytes | bytearray | None:
    """The body; None as soon as it is too long."""
    body = bytearray()
    async for piece in incoming.stream():
        body += piece
        if len(body) > most:
            return None
    # To copy a large one would take a while, and its memory twice.
    return body if len(body) > _LARGE_BODY_BYTES else bytes(body)


def _request(incoming: requests.Request, body: bytes | bytearray) -> Request:
    scope = incoming.scope
    origin: Origin = scope["state"]["origin"]
    ours = scope["server"][0] if scope["server"] else ""
    forwarded_for = incoming.headers.get("x-forwarded-for", "")
    is_local = origin.is_local and _is_loopback(ours)
    return Request(
        method=incoming.method,
        path=scope["path"],
        raw_path=scope["raw_path"],
        query=scope["query_string"].decode("latin-1"),
        headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
        body=body,
        client=_client(origin.ip, forwarded_for) if is_local else origin.ip,
        is_local=is_local and not forwarded_for and "forwarded" not in incoming.headers,
        is_tls=scope["scheme"] == "https",
        parameters=dict(incoming.path_params),
    )


def _client(peer: str, forwarded_for: str) -> str:
    """Whom a proxy on this machine speaks for: the last address is the one that it saw itself."""
    try:
        return plain_address(forwarded_for.rpartition(",")[2].strip())
    except ValueError:
        return peer


def _is_loopback(address: str) -> bool:
    try:
        return is_loopback(plain_address(address))
    except ValueError:  # the connection is lost already
        return False


def _starlettes(response: Response) -> responses.Response:
    headers = {"content-type": response.media_type, **response.headers}
    return responses.Response(response.body, response.status, headers)


# ---------------------------------------------------------------- connections


class _Connection(HttpToolsProtocol):
    """uvicorn's, with a deadline for every state it may be in and a limit on heads.

    uvicorn itself waits for ever for the first request, and for the rest of one that began.
    """

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
            return
        self._within(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        metrics.HTTP_CONNECTIONS.dec()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > _MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        if self.cycle is None or self.cycle.response_complete:
            self._within(_HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        self._is_in_head, self._head_bytes = False, 0
        super().on_headers_complete()
        self._within(_REQUEST_SECONDS + _GRACE_SECONDS)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        is_pipelined = not self.cycle.response_complete
        self._within((_REQUEST_SECONDS if is_pipelined else _IDLE_SECONDS) + _GRACE_SECONDS)

    def shutdown(self) -> None:
        """Begin to end; a client that has only just come gets its answer, so that a reload refuses nobody."""
        if self.cycle is None:
            self.loop.call_later(_SETTLE_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def _within(self, seconds: float) -> None:
        """Cut the connection unless something else happens before."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)


class _Server(uvicorn.Server):
    """Speaks on connections that somebody else accepted, and leaves the signals to the worker."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.servers = []
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.started = True
        self.is_up.set()

    def protocol(self, origin: Origin) -> _Connection:
        return _Connection(self.config, self.server_state, {"origin": origin})

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HTTPListener:
    """Serves routes on sockets that somebody else bound.

    ``proxies`` are load balancers whose connections begin with a PROXY header.
    """

    def __init__(
        self, routes: Iterable[Route], tls_context: ssl.SSLContext, proxies: Sequence[Network], log: Log
    ) -> None:
        self._tls_context = tls_context
        self._acceptor = Acceptor(self._begin, metrics.HTTP_CONNECTIONS, _MOST_CONNECTIONS, proxies, log)
        self._server = _Server(_config(_Application(routes, log)))
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, sockets: Iterable[tuple[socket.socket, bool]]) -> None:
        """Serve on each socket, under TLS if True is beside it; ``tasks`` run until ``drain``."""
        given = list(sockets)
        if not given:
            return
        task = asyncio.ensure_future(self._server.serve())
        task.set_name("http")
        self.tasks.append(task)
        await self._server.is_up.wait()
        self._acceptor.start(given)

    async def _begin(self, connection: socket.socket, origin: Origin, with_tls: bool) -> bool:
        tls_context = self._tls_context if with_tls else None
        return await self._acceptor.connect(
            lambda: self._server.protocol(origin), connection, origin, tls_context
        )

    async def drain(self, seconds: float) -> None:
        """Take no more connections, answer what runs, end."""
        self._acceptor.stop()
        await self._acceptor.settle()
        self._server.config.timeout_graceful_shutdown = int(seconds)
        self._server.should_exit = True
        if self.tasks:
            await asyncio.wait(self.tasks)


def _config(application: _Application) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=_Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
    )
