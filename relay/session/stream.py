"""The connection under a session: lines in, replies out, time limits, TLS, an orderly end.

aiosmtpd gives the stream protocol and the table of ``smtp_VERB`` methods; how commands are read is ours,
because what is checked must be what counts: a command is a line of printable ASCII that ends in CRLF.

Replies wait while another command is already there, so that a pipelining client gets them in one write.
A command that failed inside is answered 451 and the session goes on; one that lost its place in the
stream ends.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
import string
import traceback
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from aiosmtpd.smtp import SMTP

from relay import metrics
from relay.accept.acceptor import HANDSHAKE_SECONDS
from relay.accept.origin import Origin
from relay.accept.sparing import Sparing
from relay.maillog import Log
from relay.session import replies
from relay.session.limits import Connections
from relay.session.replies import Reply
from relay.submission.principal import Network

_STREAM_BYTES = 64 * 1024
# RFC 5321 section 4.5.3.1.4 has 512 and lets extensions add; RFC 4954 section 4 wants 12,288 for AUTH.
_LONGEST_COMMAND = 2048
LONGEST_AUTH_LINE = 12_288
_LEAST_BYTES_PER_SECOND = 1024
_GRACE_SECONDS = 2.0
# The rate of the data is looked at after so long, and then every so often.
_WATCH_SECONDS = 30.0
_FOREIGN_VERBS = frozenset({"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "DELETE", "TRACE", "PATCH"})
_SESSION_ALPHABET = string.ascii_letters + string.digits
_match_command = re.compile(rb"([A-Za-z]{1,16})(?: ([ -~]*))?").fullmatch
Answered = TypeVar("Answered")


class Limits(Protocol):
    """What the operator fixed for a kind of session."""

    @property
    def hostname(self) -> str: ...

    @property
    def max_message_bytes(self) -> int: ...

    @property
    def max_connections(self) -> int: ...

    @property
    def proxies(self) -> tuple[Network, ...]: ...

    @property
    def idle_seconds(self) -> float: ...

    @property
    def max_errors(self) -> int: ...

    @property
    def enhanced_status_codes(self) -> bool: ...


class Host(Protocol):
    """What all sessions of one kind share in a process."""

    @property
    def settings(self) -> Limits: ...

    @property
    def connections(self) -> Connections: ...

    @property
    def log(self) -> Log: ...

    @property
    def log_sparingly(self) -> Sparing: ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """A connection that becomes a session; one that is not admitted, to be told so."""

    origin: Origin
    implicit_tls: bool
    is_admitted: bool


class SMTPStream(SMTP):
    """Everything of a session but the commands, which are ``smtp_VERB`` methods of the subclass."""

    line_length_limit = _STREAM_BYTES  # of the stream's buffer; commands and lines have limits of their own

    def __init__(
        self,
        handler: Host,
        tls_context: ssl.SSLContext,
        sessions: set[SMTPStream],
        arrival: Arrival,
    ) -> None:
        self._handler = handler
        self._settings = handler.settings
        super().__init__(
            object(),
            hostname=self._settings.hostname,
            tls_context=tls_context,
            loop=asyncio.get_running_loop(),
        )
        self._server_context = tls_context
        self._implicit_tls = arrival.implicit_tls
        self._sessions = sessions
        self._out: list[bytes] = []
        self._origin = arrival.origin
        self._is_admitted = arrival.is_admitted
        self._closing = False
        self._draining = False
        self._is_waiting = False
        self._is_committing = False
        self._came_at = self._heard_at = 0.0
        self._messages = 0
        self._octets = 0
        self._data_began: tuple[float, int] | None = None
        self._errors = 0
        self._tls_version: str | None = None

    def _in_transaction(self) -> bool:
        raise NotImplementedError

    def _reset(self) -> None:
        raise NotImplementedError

    # ------------------------------------------------------------ the connection

    def connection_made(self, transport: Any) -> None:
        """Called once; STARTTLS keeps the session and changes its transport."""
        asyncio.StreamReaderProtocol.connection_made(self, transport)
        self.transport = transport
        self._sessions.add(self)
        if self._implicit_tls:
            self._tls_version = _tls_version(transport)
        self._came_at = self._heard_at = self.loop.time()
        self._timeout_handle = self.loop.call_later(self._watch_seconds(), self._watch)
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def connection_lost(self, error: Exception | None) -> None:
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        if self._handler_coroutine is not None and not self._is_committing:
            self._handler_coroutine.cancel()
        self.transport = None
        self._handler.connections.leave(self._origin.network)
        metrics.CONNECTIONS.dec()
        self._sessions.discard(self)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        self._octets += len(data)
        asyncio.StreamReaderProtocol.data_received(self, data)

    async def _undisturbed(self, work: Awaitable[Answered]) -> Answered:
        """The result of ``work``.  A client that goes away does not undo it; the session ends after it."""
        self._is_committing = True
        try:
            result = await work
        finally:
            self._is_committing = False
        if self.transport is None:
            raise ConnectionAbortedError
        return result

    def eof_received(self) -> bool | None:
        """A client that ends its side still gets the answers to what it sent."""
        self._reader.feed_eof()
        return self._tls_version is None

    def _watch_seconds(self) -> float:
        return min(self._settings.idle_seconds, _WATCH_SECONDS)

    def _watch(self) -> None:
        """One lazy timer: end a session that is silent, or whose data trickles."""
        now = self.loop.time()
        is_silent = now - self._heard_at >= self._settings.idle_seconds
        if self._data_began is not None:
            began, octets = self._data_began
            seconds = now - began
            is_slow = (
                seconds >= _WATCH_SECONDS and (self._octets - octets) < _LEAST_BYTES_PER_SECOND * seconds
            )
            is_silent = is_silent or is_slow
        elif not self._is_waiting:
            is_silent = False  # it waits for us
        if is_silent and self.transport is not None:
            self._writer.write(self._encoded(replies.IDLE))
            self.transport.close()
            return
        self._timeout_handle = self.loop.call_later(self._watch_seconds(), self._watch)

    def drain(self) -> None:
        """End after the transaction that runs, at once if there is none.

        A client that has only just come may send its first message: a reload turns nobody away.
        """
        self._draining = True
        grace = self._came_at + _GRACE_SECONDS - self.loop.time()
        if grace > 0 and not self._messages:
            self.loop.call_later(grace, self.drain)
        elif self._is_waiting and not self._in_transaction() and self.transport is not None:
            self._writer.write(self._encoded(replies.CLOSING))
            self.transport.close()

    def _must_part(self) -> bool:
        if not self._draining or self._in_transaction():
            return False
        return self._messages > 0 or self.loop.time() >= self._came_at + _GRACE_SECONDS

    def conversation(self) -> asyncio.Task[None]:
        """Ends with the session."""
        assert self._handler_coroutine is not None
        return self._handler_coroutine

    def abort(self) -> None:
        if self.transport is not None:
            self._writer.transport.abort()

    # ------------------------------------------------------------ lines and replies

    def _encoded(self, reply: Reply) -> bytes:
        return reply.encode(self._settings.enhanced_status_codes)

    def _say(self, reply: Reply) -> None:
        """Answer a command; the octets go out before we wait for the next one."""
        self._out.append(self._encoded(reply))
        self._errors += reply.code >= 500

    def _say_last(self, reply: Reply) -> None:
        self._say(reply)
        self._closing = True

    async def push(self, status: Any) -> None:
        """aiosmtpd's way to answer: none of its own replies may reach a client."""
        raise AssertionError(f"unexpected reply {status!r}")

    async def _flush(self) -> None:
        if self._out:
            self._writer.write(b"".join(self._out))
            self._out.clear()
            await self._writer.drain()

    @property
    def _buffered(self) -> bytearray:
        return self._reader._buffer  # type: ignore[attr-defined, no-any-return]

    async def _read_line(self) -> bytes:
        """One line with its end; ConnectionError at the end of the stream or past the buffer."""
        if b"\n" not in self._buffered:
            await self._flush()
        self._is_waiting = True
        try:
            return await self._reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            if isinstance(error, asyncio.LimitOverrunError):
                self._say(replies.LINE_TOO_LONG)
            raise ConnectionAbortedError from error
        finally:
            self._is_waiting = False

    # ------------------------------------------------------------ the loop

    async def _handle_client(self) -> None:
        try:
            await self._converse()
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            if self.transport is not None:
                raise
        finally:
            await self._part()

    async def _part(self) -> None:
        try:
            await self._flush()
        except (ConnectionError, asyncio.CancelledError):
            pass
        if self.transport is not None:
            self.transport.close()

    async def _converse(self) -> None:
        if not self._is_admitted:
            self._say(replies.TOO_MANY_CONNECTIONS)
            return
        name = "".join(secrets.choice(_SESSION_ALPHABET) for _ in range(29))
        self._say(replies.banner(self._settings.hostname, name))
        while not self._closing:
            line = await self._read_line()
            await self._command(line)
            if self._must_part() and not self._closing:
                self._say_last(replies.CLOSING)
            elif self._errors > self._settings.max_errors and not self._closing:
                self._say_last(replies.TOO_MANY_ERRORS)

    async def _command(self, line: bytes) -> None:
        """Answer one command; whatever goes wrong inside is our trouble, not the client's."""
        try:
            await self._dispatch(line)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            self._handler.log("session failed", level="error", traceback=traceback.format_exc())
            self._reset()
            self._say(replies.TRY_LATER)

    async def _dispatch(self, line: bytes) -> None:
        is_auth = line[:5].upper() == b"AUTH "
        if len(line) > (LONGEST_AUTH_LINE if is_auth else _LONGEST_COMMAND):
            self._say(replies.LINE_TOO_LONG)
            return
        # RFC 5321 section 4.1.1: receivers tolerate trailing white space.
        found = _match_command(line[:-2].rstrip(b" ")) if line.endswith(b"\r\n") else None
        if found is None:
            self._say(replies.NOT_ASCII)
            return
        verb = found[1].decode("ascii").upper()
        method = self._smtp_methods.get(verb)
        if verb in _FOREIGN_VERBS:
            self._say_last(replies.NOT_SMTP)
        elif method is None:
            self._say(replies.NOT_A_COMMAND)
        else:
            await method((found[2] or b"").decode("ascii"))

    async def _start_tls(self) -> None:
        """The handshake; ConnectionError if there is none."""
        await self._flush()
        try:
            transport = await self.loop.start_tls(
                self._writer.transport,
                self,
                self._server_context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except OSError as error:  # ssl.SSLError is one
            self._handler.log_sparingly("TLS failed", level="info", client=self._origin.ip, error=str(error))
            raise ConnectionAbortedError from error
        if transport is None:
            raise ConnectionAbortedError
        self.transport = transport
        self._writer._transport = transport  # type: ignore[attr-defined]
        self._reader._transport = transport  # type: ignore[attr-defined]
        self._tls_version = _tls_version(transport)


def _tls_version(transport: Any) -> str | None:
    version = transport.get_extra_info("ssl_object").version()
    return str(version) if version else None
