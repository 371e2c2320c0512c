"""One connection to a next hop: dial, TLS, AUTH, then transactions one after another.

aiosmtplib opens the session; then the transport gets a protocol of our own, because aiosmtplib sends one
command at a time and does not give the final reply.  Every wait has its time limit (RFC 5321 section
4.5.3.2 gives the least of them).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiosmtplib

from relay.delivery.dialogue import (
    Next,
    NotSMTP,
    Offer,
    ReplyReader,
    Transaction,
    UncleanMessage,
    make_reply,
    printable,
    stuff,
)
from relay.delivery.route import Destination, TLSMode
from relay.outcome.outcome import Failure, Phase, Reply

# How much of a large body may wait in the transport before we wait for it.
_HIGH_WATER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds for each step."""

    connect: float = 30.0
    command: float = 300.0  # RFC 5321 section 4.5.3.2.2 to .3
    data: float = 180.0  # each block of data, section 4.5.3.2.5
    dot: float = 600.0  # section 4.5.3.2.6


class NoConnection(Exception):
    """The session could not be opened; ``answer`` and ``phase`` say how far it came."""

    def __init__(self, answer: Reply | Failure, phase: Phase, host: str) -> None:
        super().__init__(f"{host}: {phase}: {answer}")
        self.answer = answer
        self.phase = phase
        self.host = host


class Connection:
    """An open session.  After ``is_usable`` is False it takes no more transactions."""

    def __init__(self, transport: asyncio.Transport, host: str, offer: Offer, limits: TimeLimits) -> None:
        self.host = host
        self.offer = offer
        self.tls = _tls_of(transport)
        self.local = _local_of(transport)
        self.sent = 0
        self.opened_at = time.monotonic()
        self._transport = transport
        self._limits = limits
        self._must_reset = False
        self._wire = _Wire(transport)
        transport.set_protocol(self._wire)
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    @property
    def is_usable(self) -> bool:
        return not self._wire.is_lost and not self._transport.is_closing()

    async def send(
        self, transaction: Transaction, head: bytes, body: tuple[bytes, ...] | AsyncIterator[bytes]
    ) -> None:
        """Run one transaction; never raises for what the other side does.

        ``head`` is the header block with its blank line.
        """
        self.sent += 1
        try:
            await self._run(transaction, head, body)
        except TimeoutError:
            transaction.fail(Failure("timed out waiting for the next hop"))
        except NotSMTP as error:
            transaction.fail(Failure(str(error)))
        except (OSError, UncleanMessage) as error:
            transaction.fail(Failure(str(error) or type(error).__name__))
        except BaseException:
            self.close()  # half a transaction is on the wire
            raise
        self._wire.is_idle = not transaction.is_closing
        self._must_reset = transaction.must_reset
        if transaction.is_closing:
            self.close()

    async def _run(
        self, transaction: Transaction, head: bytes, body: tuple[bytes, ...] | AsyncIterator[bytes]
    ) -> None:
        self._wire.write(transaction.start(self._must_reset))
        limit = self._limits.command
        while True:
            step, octets = transaction.receive(await self._wire.reply(limit))
            if step is Next.DONE:
                return
            if step is Next.SEND_MESSAGE:
                await self._send_message(head, body)
                limit = self._limits.dot
            elif step is Next.SEND_DOT:
                self._wire.write(b".\r\n")
            elif octets:
                self._wire.write(octets)

    async def _send_message(self, head: bytes, body: tuple[bytes, ...] | AsyncIterator[bytes]) -> None:
        if isinstance(body, tuple):
            octets = stuff(b"".join((head, *body)))
            end = b".\r\n" if octets.endswith(b"\r\n") else b"\r\n.\r\n"
            self._wire.write(octets + end)
            return
        await self._stream(head, body)

    async def _stream(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        """Piece by piece; a CR at the end of a piece waits for its LF."""
        self._wire.write(stuff(head))
        ends_line, carried = True, b""
        async for piece in body:
            piece = carried + piece
            carried = piece[-1:] if piece.endswith(b"\r") else b""
            piece = piece[: len(piece) - len(carried)]
            self._wire.write(stuff(piece, ends_line))
            ends_line = piece.endswith(b"\n") if piece else ends_line
            await self._wire.drain(self._limits.data)
        if carried:
            raise UncleanMessage("a stray CR in the queue")
        self._wire.write(b".\r\n" if ends_line else b"\r\n.\r\n")

    def close(self) -> None:
        """Between transactions say QUIT and leave; in the middle of one just drop the connection.

        What is still to be written then would keep socket and message as long as the other side likes.
        """
        if not self._wire.is_idle:
            self._transport.abort()
            return
        if self.is_usable:
            self._transport.write(b"QUIT\r\n")
        self._transport.close()


class _Wire(asyncio.Protocol):
    """Replies as they come, for one reader."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._reader = ReplyReader()
        self._replies: list[Reply] = []
        self._waiter: asyncio.Future[None] | None = None
        self._fault: Exception | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_lost = False
        self.is_idle = True

    def write(self, octets: bytes) -> None:
        self.is_idle = False
        self._transport.write(octets)

    async def reply(self, seconds: float) -> Reply:
        """The next reply; TimeoutError, NotSMTP or ConnectionError if there will be none."""
        if not self._replies:
            if self._fault is not None:
                raise self._fault
            self._expect(seconds)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._replies.pop(0)

    async def drain(self, seconds: float) -> None:
        """Wait until the other side has taken most of what was written."""
        if self._fault is not None:
            raise self._fault
        async with asyncio.timeout(seconds):
            await self._can_write.wait()

    def _expect(self, seconds: float) -> None:
        """One timer for all waits of a connection: it looks whether the present one is over."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() >= self._deadline:
            self._waiter.set_exception(TimeoutError())
        else:
            self._timer = self._loop.call_at(self._deadline, self._tick)

    def _wake(self) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if self._replies:
            self._waiter.set_result(None)
        elif self._fault is not None:
            self._waiter.set_exception(self._fault)

    # ------------------------------------------------------------ asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self.is_idle:  # unasked: a 421 before closing, or nonsense; either way no more of this session
            self._fault = self._fault or NotSMTP("the next hop spoke unasked")
            self._transport.close()
            return
        try:
            for reply in self._reader.feed(data):
                self._replies.append(reply)
        except NotSMTP as error:
            self._fault = error
            self._transport.close()
        self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self._fault is None:
            self._fault = ConnectionError(str(exc) if exc else "the next hop closed the connection")
        self._can_write.set()
        self._wake()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()


# ---------------------------------------------------------------- opening


async def dial(destination: Destination, hostname: str, limits: TimeLimits) -> Connection:
    """A session with the first address of ``destination`` that answers; NoConnection if none does."""
    failed: NoConnection | None = None
    for family, address in await _addresses(destination):
        try:
            return await _open(_Peer(destination, family, address, hostname, limits))
        except NoConnection as error:
            failed = error
    assert failed is not None
    raise failed


@dataclass(frozen=True, slots=True)
class _Peer:
    """One address of the next hop, and how we present ourselves to it."""

    destination: Destination
    family: int
    address: Any
    hostname: str
    limits: TimeLimits

    @property
    def shown(self) -> str:
        return f"{self.destination.host}[{self.address[0]}]:{self.destination.port}"


async def dial_address(
    destination: Destination, address: str, hostname: str, limits: TimeLimits
) -> Connection:
    """A session with ``destination`` at this very address; NoConnection if there is none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return await _open(_Peer(destination, family, (address, destination.port), hostname, limits))


async def _addresses(destination: Destination) -> list[tuple[int, Any]]:
    """By the system's resolver: a smart host may stand in /etc/hosts."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
    except OSError as error:
        failure = Failure(f"{destination.host} cannot be resolved: {error.strerror}")
        raise NoConnection(failure, Phase.ROUTE, destination.host) from error
    return [(family, address) for family, _, _, _, address in found]


async def _open(peer: _Peer) -> Connection:
    try:
        return await _open_with(peer, peer.destination.tls)
    except NoConnection as error:
        if error.phase is not Phase.TLS or not peer.destination.may_be_plaintext:
            raise
    return await _open_with(peer, TLSMode.NONE)


async def _connected_socket(peer: _Peer) -> socket.socket:
    """A TCP connection to the very address: another of its name may be the one that is down."""
    sock = socket.socket(peer.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(peer.limits.connect):
            await asyncio.get_running_loop().sock_connect(sock, peer.address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _open_with(peer: _Peer, tls: TLSMode) -> Connection:
    destination, limits, host = peer.destination, peer.limits, peer.shown
    try:
        sock = await _connected_socket(peer)
    except OSError as error:  # TimeoutError is one
        failure = Failure(error.strerror or "timed out connecting")
        raise NoConnection(failure, Phase.CONNECT, host) from error
    client = aiosmtplib.SMTP(
        hostname=destination.host,  # the name to check, not the address we dialled
        port=None,
        sock=sock,
        local_hostname=peer.hostname,
        timeout=limits.connect,
        start_tls=False,
        use_tls=destination.implicit_tls,
        tls_context=_context(tls, destination.ca_file),
    )
    phase = Phase.TLS if destination.implicit_tls else Phase.CONNECT
    try:
        await client.connect()
        phase = Phase.EHLO
        await client.ehlo()
        if tls is not TLSMode.NONE and not destination.implicit_tls:
            phase = Phase.TLS
            await _start_tls(client, destination)
            phase = Phase.EHLO
            await client.ehlo()
        if destination.user:
            phase = Phase.AUTH
            await client.login(destination.user, destination.password)
        return _connection(client, host, limits)
    except aiosmtplib.SMTPConnectResponseError as error:
        client.close()
        raise NoConnection(_reply(error), Phase.GREETING, host) from error
    except aiosmtplib.SMTPResponseException as error:
        client.close()
        raise NoConnection(_reply(error), phase, host) from error
    except (aiosmtplib.SMTPException, OSError, ssl.SSLError, ValueError) as error:
        client.close()
        failure = Failure(printable(str(error)) or type(error).__name__)
        raise NoConnection(failure, phase, host) from error


async def _start_tls(client: aiosmtplib.SMTP, destination: Destination) -> None:
    if not client.supports_extension("starttls"):
        if destination.may_be_plaintext:
            return
        raise aiosmtplib.SMTPException("STARTTLS is required and not offered")
    await client.starttls(server_hostname=destination.host)


def _connection(client: aiosmtplib.SMTP, host: str, limits: TimeLimits) -> Connection:
    offer = Offer(
        pipelining=client.supports_extension("pipelining"),
        eight_bit_mime=client.supports_extension("8bitmime"),
        size=client.supports_extension("size"),
    )
    transport = client.transport
    assert isinstance(transport, asyncio.Transport) or hasattr(transport, "set_protocol")
    return Connection(transport, host, offer, limits)  # type: ignore[arg-type]


@lru_cache(maxsize=16)
def _context(tls: TLSMode, ca_file: str) -> ssl.SSLContext:
    """Made once: loading the system's certificates takes 18 ms."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls is not TLSMode.VERIFY:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reply(error: aiosmtplib.SMTPResponseException) -> Reply:
    return make_reply(error.code, [printable(line) for line in str(error.message).splitlines()] or [""])


def _local_of(transport: asyncio.Transport) -> str | None:
    """Our own address of the connection."""
    name = transport.get_extra_info("sockname")
    return str(name[0]) if name else None


def _tls_of(transport: asyncio.Transport) -> str | None:
    tls = transport.get_extra_info("ssl_object")
    return tls.version() if tls is not None else None
