"""Where a connection comes from: its peer, or whom a named load balancer says it passes on."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from relay.accept.proxy_protocol import LONGEST, ProxyError, ProxyHeader, parse
from relay.submission.principal import Network, is_within, network_of

_HEADER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Origin:
    """The client's address, the network it counts by, and whether nothing but this machine lies between."""

    ip: str
    network: str
    is_local: bool


async def origin_of(connection: socket.socket, peer: str, proxies: Sequence[Network]) -> Origin:
    """Whose connection it is; of a named peer the PROXY header is read first, and nothing behind it.

    ProxyError if it has none, OSError if the peer goes away.
    """
    own = plain_address(peer)
    if not is_within(own, proxies):
        return Origin(own, network_of(own), is_loopback(own))
    header = await _read_header(connection)
    client = plain_address(header.client) if header.client else own
    return Origin(client, network_of(client), is_loopback(own) and is_loopback(client))


def plain_address(address: str) -> str:
    """Without a zone, and IPv4 within IPv6 as IPv4; ValueError if it is none."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


async def _read_header(connection: socket.socket) -> ProxyHeader:
    try:
        async with asyncio.timeout(_HEADER_SECONDS):
            return await _take_header(connection)
    except TimeoutError:
        raise ProxyError(f"no whole header within {_HEADER_SECONDS:.0f} s") from None


async def _take_header(connection: socket.socket) -> ProxyHeader:
    """Look before taking: what stands behind the header belongs to TLS or to the session."""
    data = b""
    while True:
        await _readable(connection)
        try:
            seen = connection.recv(LONGEST, socket.MSG_PEEK)
        except BlockingIOError:
            continue
        if not seen and data:
            raise ProxyError("the connection ended within the header")
        if not seen:
            raise ConnectionAbortedError  # a bare look whether the port is open
        header = parse(data + seen)
        taken = connection.recv(header.length - len(data) if header else len(seen))
        if header:
            return header
        data += taken


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(connection, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
