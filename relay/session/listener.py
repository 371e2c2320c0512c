"""The listeners of one worker process: sockets in, sessions out, an orderly end.

Connections are accepted here and not by the loop's own server, for what lies between a connection and its
session: whose it is (a load balancer's header comes before TLS), and whether it may stay.

All workers accept from the same sockets.  One that has more connections than another leaves a new one to the
others for some milliseconds, and takes it if none does.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from relay import metrics
from relay.session.origin import Arrival, Origin, origin_of
from relay.session.proxy_protocol import ProxyError
from relay.session.stream import HANDSHAKE_SECONDS, Host, SMTPStream

Handler = TypeVar("Handler", bound=Host)
# What its sessions share, TLS, the sessions that run, and a connection, to a session.
Session = Callable[[Handler, ssl.SSLContext, set[SMTPStream], Arrival], SMTPStream]

_MOST_AT_ONCE = 32
_PAUSE_SECONDS = 1.0
_ARRIVAL_GRACE_SECONDS = 2.0
# How long a connection is left to workers that have fewer: so many looks, each after so long.  It is as much
# as a busy machine lets a process wait, and not so much that one that hangs holds up the others' clients.
_LOOKS = 25
_LOOK_SECONDS = 0.001

# aiosmtpd logs every command, logins included, on this logger.
logging.getLogger("mail.log").setLevel(logging.WARNING)


class Listener(Generic[Handler]):
    """Accepts connections on sockets that somebody else bound."""

    def __init__(self, handler: Handler, session: Session[Handler], tls_context: ssl.SSLContext) -> None:
        self._handler = handler
        self._session = session
        self._tls_context = tls_context
        self._sockets: dict[socket.socket, bool] = {}
        self._arriving: set[asyncio.Task[bool]] = set()
        self._sessions: set[SMTPStream] = set()

    def start(self, sockets: Iterable[tuple[socket.socket, bool]]) -> None:
        """Serve on each socket; True beside it means that TLS begins at once."""
        self._sockets = dict(sockets)
        for sock in self._sockets:
            self._accept_from(sock)

    # ------------------------------------------------------------ connections

    def _accept_from(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(_MOST_AT_ONCE):
            if _has_more_than_another():
                asyncio.get_running_loop().remove_reader(sock)
                self._leave_to_others(sock, _LOOKS)
                return
            if not self._take(sock):
                return

    def _leave_to_others(self, sock: socket.socket, looks: int) -> None:
        if sock not in self._sockets:
            return
        if looks and _has_more_than_another():
            loop = asyncio.get_running_loop()
            loop.call_later(_LOOK_SECONDS, self._leave_to_others, sock, looks - 1)
            return
        self._accept_from(sock)
        if not looks:
            self._take(sock)

    def _take(self, sock: socket.socket) -> bool:
        """Accept the next connection; False if there is none, and if that cannot be for a while."""
        try:
            connection, address = sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:  # no more files, or memory
            self._pause(sock, error)
            return False
        self._arrive(connection, str(address[0]), self._sockets[sock])
        return True

    def _pause(self, sock: socket.socket, error: OSError) -> None:
        self._handler.log("cannot accept connections", level="error", error=str(error))
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.call_later(_PAUSE_SECONDS, self._accept_from, sock)

    def _arrive(self, connection: socket.socket, peer: str, implicit_tls: bool) -> None:
        if len(self._arriving) >= self._handler.settings.max_connections:
            connection.close()
            return
        connection.setblocking(False)
        metrics.CONNECTIONS.inc()
        task = asyncio.get_running_loop().create_task(self._receive(connection, peer, implicit_tls))
        self._arriving.add(task)
        task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[bool]) -> None:
        """A session counts its connection out itself."""
        self._arriving.discard(task)
        if task.cancelled() or task.exception() is not None or not task.result():
            metrics.CONNECTIONS.dec()

    async def _receive(self, connection: socket.socket, peer: str, implicit_tls: bool) -> bool:
        """From a connection to a session, or to its end; whether a session runs."""
        try:
            origin = await origin_of(connection, peer, self._handler.settings.proxies)
        except ProxyError as error:
            self._handler.log_sparingly("PROXY header refused", peer=peer, reason=str(error))
            connection.close()
        except OSError:  # it went away
            connection.close()
        else:
            return await self._begin(connection, origin, implicit_tls)
        return False

    async def _begin(self, connection: socket.socket, origin: Origin, implicit_tls: bool) -> bool:
        is_admitted = self._handler.connections.admit(origin.network)
        if not is_admitted:
            self._handler.log_sparingly("too many connections", client=origin.ip)
        arrival = Arrival(origin, implicit_tls, is_admitted)
        if implicit_tls and not is_admitted:  # what a handshake costs is what a flood would be after
            self._handler.connections.leave(origin.network)
            connection.close()
            return False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._session(self._handler, self._tls_context, self._sessions, arrival),
                connection,
                ssl=self._tls_context if implicit_tls else None,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if implicit_tls else None,
            )
        except OSError as error:  # the handshake failed; the session was never told of a connection
            self._handler.connections.leave(origin.network)
            if isinstance(error, ssl.SSLError):
                self._handler.log_sparingly("TLS failed", level="info", client=origin.ip, error=str(error))
            return False
        return True

    # ------------------------------------------------------------ the end

    def stop_accepting(self) -> None:
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets = {}

    async def drain(self, seconds: float) -> None:
        """Let transactions end; what still runs after ``seconds`` is cut off without an answer."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + seconds
        told: set[SMTPStream] = set()
        self._tell(told)
        await self._end_arrivals()
        while self._sessions and loop.time() < give_up_at:
            self._tell(told)
            running = [session.conversation() for session in self._sessions]
            await asyncio.wait(running, timeout=give_up_at - loop.time())
            await asyncio.sleep(0)  # connections are lost a moment after their conversation ended
        if self._sessions:
            self._handler.log("sessions cut off", level="warning", count=len(self._sessions))
        for session in list(self._sessions):
            session.abort()

    def _tell(self, told: set[SMTPStream]) -> None:
        for session in self._sessions - told:
            session.drain()
        told |= self._sessions

    async def _end_arrivals(self) -> None:
        """Whoever has only just come may still become a session."""
        if not self._arriving:
            return
        _, late = await asyncio.wait(self._arriving, timeout=_ARRIVAL_GRACE_SECONDS)
        for task in late:
            task.cancel()


def _has_more_than_another() -> bool:
    """Whether some other worker that accepts has fewer connections of SMTP clients than this one."""
    own = metrics.CONNECTIONS.own
    if not own:
        return False
    counts = zip(metrics.CONNECTIONS.rows, metrics.WORKERS.rows, strict=True)
    return any(is_accepting and count < own for count, is_accepting in counts)
