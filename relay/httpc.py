"""The HTTP client: requests to hosts that others named, over connections that are used again.

Nobody who names a host may reach what only we can reach: a host is resolved once, the very address that
was looked at is dialled, and one that is not public is refused unless the operator allows it.  Redirects
are not followed, proxies of the environment not used, and every request has its limits in time and size.
The library stays in this module.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore2

from relay.resolver import DNS, Absent, Found

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

EVERYWHERE: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))

_KEEP_ALIVE_SECONDS = 30.0
# A host with many addresses is tried at so many: each may take a share of the time.
_MOST_ADDRESSES = 3
_PORTS = {"http": 80, "https": 443}

# What IPv6 means by an address of IPv4 (RFC 4291 2.5.5.2, RFC 6052 2.1, RFC 3056 2), by where it stands.
_EMBEDDING = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
# RFC 4291 section 2.4, and what IANA has given out: all that is routed globally is in there.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_TEREDO = ipaddress.IPv6Network("2001::/32")


class NotReached(Exception):
    """No answer: not dialled, not connected, no TLS, no HTTP, or not in time.  The text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said; names of ``headers`` in lower case.

    ``body`` is cut at the limit of the request, and ``is_whole`` tells whether it was.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_whole: bool

    def header(self, name: str) -> str:
        return next((value for one, value in self.headers if one == name), "")


# ---------------------------------------------------------------- where to


def is_public(address: Address) -> bool:
    """Whether it is of the Internet at large: not private, loopback, link-local, shared or multicast."""
    inner = _embedded(address)
    if inner is not None:
        return is_public(inner)
    if address.is_multicast or not address.is_global:
        return False
    return address.version == 4 or (address in _GLOBAL_UNICAST and address not in _TEREDO)


def may_dial(address: Address, allowed: Iterable[Network]) -> bool:
    """A public address, or one that the operator allows, in whichever way it is written."""
    written = [address, *filter(None, [_embedded(address)])]
    return is_public(address) or any(one in network for network in allowed for one in written)


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    for network, shift in _EMBEDDING:
        if address in network:
            return ipaddress.IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return None


@dataclass(frozen=True, slots=True)
class Target:
    """An URL taken apart."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """As the Host field has it (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(text: str) -> Target | None:
    """An absolute http or https URL in ASCII, without user and fragment; None if it is none."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc or parts.fragment or port == 0:
        return None
    path = parts.path or "/"
    return Target(
        parts.scheme, host, port or _PORTS[parts.scheme], f"{path}?{parts.query}" if parts.query else path
    )


# ---------------------------------------------------------------- how


class Client:
    """What all connections of a process share: names, addresses that may be dialled, trust.

    ``allowed`` may be dialled though it is not public; ``allowing`` tells the operator which setting says so.
    """

    def __init__(self, dns: DNS, allowed: Sequence[Network], allowing: str, ca_file: str = "") -> None:
        self._dialler = _Dialler(dns, tuple(allowed), allowing)
        self._context = ssl.create_default_context()
        if ca_file:
            self._context.load_verify_locations(ca_file)

    def connections(self, most: int) -> Connections:
        """At most so many connections at once, to one destination."""
        return Connections(
            httpcore2.AsyncConnectionPool(
                ssl_context=self._context,
                max_connections=most,
                keepalive_expiry=_KEEP_ALIVE_SECONDS,
                network_backend=self._dialler,
            )
        )


class Connections:
    """The connections to one destination; those that are idle are used again."""

    def __init__(self, pool: httpcore2.AsyncConnectionPool) -> None:
        self._pool = pool

    async def request(
        self,
        method: str,
        to: Target,
        headers: Sequence[tuple[str, str]],
        body: bytes = b"",
        *,
        seconds: float,
        most_bytes: int,
    ) -> Answer:
        """The answer, whatever its status; NotReached if there is none within ``seconds``."""
        fields = [("Host", to.authority), *headers]
        if body:
            fields.append(("Content-Length", str(len(body))))
        request = httpcore2.Request(
            method,
            httpcore2.URL(scheme=to.scheme, host=to.host, port=to.port, target=to.path),
            headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in fields],
            content=body,
            extensions={"timeout": {"connect": seconds / 2}},
        )
        try:
            async with asyncio.timeout(seconds):
                return await self._answer(request, most_bytes)
        except TimeoutError:
            raise NotReached(f"no answer within {seconds:g} s") from None
        except _TROUBLE as error:
            raise NotReached(_reason(error)) from error

    async def _answer(self, request: httpcore2.Request, most_bytes: int) -> Answer:
        response = await self._pool.handle_async_request(request)
        body = bytearray()
        try:
            async with aclosing(aiter(response.stream)) as pieces:  # type: ignore[arg-type,type-var]
                async for piece in pieces:
                    body += piece
                    if len(body) > most_bytes:
                        break
        finally:
            await response.aclose()  # with octets unread this closes the connection
        headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers
        )
        return Answer(response.status, headers, bytes(body[:most_bytes]), len(body) <= most_bytes)

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def __aenter__(self) -> Connections:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


_TROUBLE = (
    NotReached,
    OSError,  # of TLS: a certificate that is not the host's
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.ConnectionNotAvailable,
)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


class _Stream(httpcore2.AsyncNetworkStream):
    """A connection, by asyncio's streams; the time limit is that of the whole request.

    The library writes head and body by themselves; they go out together, before the answer is read.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._unsent: list[bytes] = []

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if self._unsent:
            self._writer.write(b"".join(self._unsent))
            self._unsent.clear()
            await self._writer.drain()
        return await self._reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._unsent.append(buffer)

    async def aclose(self) -> None:
        self._writer.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> _Stream:
        try:
            await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except BaseException:
            self._writer.transport.abort()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # of an idle connection: the server has closed it
            return self._reader.at_eof() or self._reader.exception() or self._writer.is_closing()
        return self._writer.get_extra_info(info)


async def _dial(address: str, port: int, seconds: float | None) -> _Stream:
    async with asyncio.timeout(seconds):
        return _Stream(*await asyncio.open_connection(address, port))


class _Dialler(httpcore2.AsyncNetworkBackend):
    """Dials an address that it has looked at; the library only ever tells it the name."""

    def __init__(self, dns: DNS, allowed: tuple[Network, ...], allowing: str) -> None:
        self._dns = dns
        self._allowed = allowed
        self._allowing = allowing

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the library's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        *others, last = (await self._addresses(host))[:_MOST_ADDRESSES]
        share = None if timeout is None else timeout / (len(others) + 1)
        for address in others:
            try:
                return await _dial(address, port, share)
            except OSError:  # TimeoutError is one
                continue
        return await _dial(last, port, share)

    async def _addresses(self, host: str) -> list[str]:
        """Those that may be dialled, at least one."""
        found = await self._resolve(host)
        fit = [one for one in found if may_dial(ipaddress.ip_address(one), self._allowed)]
        if not fit:
            shown = ", ".join(found[:_MOST_ADDRESSES])
            raise NotReached(f"{host} is {shown}: no public address ({self._allowing} allows others)")
        return fit

    async def _resolve(self, host: str) -> Sequence[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
            return ["127.0.0.1", "::1"]
        answer = await self._dns.addresses(host)
        if isinstance(answer, Found):
            return answer.records
        raise NotReached(
            f"{host} has no address" if isinstance(answer, Absent) else f"{host}: {answer.reason}"
        )

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
