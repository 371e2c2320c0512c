"""The SMTP listener of one worker process: connections in, sessions out, an orderly end."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from relay import metrics
from relay.accept.acceptor import Acceptor
from relay.accept.origin import Origin
from relay.session.stream import Arrival, Host, SMTPStream

Handler = TypeVar("Handler", bound=Host)
# What its sessions share, TLS, the sessions that run, and a connection, to a session.
Session = Callable[[Handler, ssl.SSLContext, set[SMTPStream], Arrival], SMTPStream]

# aiosmtpd logs every command, logins included, on this logger.
logging.getLogger("mail.log").setLevel(logging.WARNING)


class Listener(Generic[Handler]):
    """Has a session speak on every connection."""

    def __init__(self, handler: Handler, session: Session[Handler], tls_context: ssl.SSLContext) -> None:
        self._handler = handler
        self._session = session
        self._tls_context = tls_context
        self._sessions: set[SMTPStream] = set()
        self._acceptor = Acceptor(
            self._begin,
            metrics.CONNECTIONS,
            handler.settings.max_connections,
            handler.settings.proxies,
            handler.log,
        )

    def start(self, sockets: Iterable[tuple[socket.socket, bool]]) -> None:
        """Serve on each socket; True beside it means that TLS begins at once."""
        self._acceptor.start(sockets)

    async def _begin(self, connection: socket.socket, origin: Origin, implicit_tls: bool) -> bool:
        is_admitted = self._handler.connections.admit(origin.network)
        if not is_admitted:
            self._handler.log_sparingly("too many connections", client=origin.ip)
        # What a handshake costs is what a flood would be after.
        if implicit_tls and not is_admitted:
            self._handler.connections.leave(origin.network)
            connection.close()
            return False
        arrival = Arrival(origin, implicit_tls, is_admitted)
        speaks = await self._acceptor.connect(
            lambda: self._session(self._handler, self._tls_context, self._sessions, arrival),
            connection,
            origin,
            self._tls_context if implicit_tls else None,
        )
        if not speaks:
            self._handler.connections.leave(origin.network)
        return speaks

    # ------------------------------------------------------------ the end

    def stop_accepting(self) -> None:
        self._acceptor.stop()

    async def drain(self, seconds: float) -> None:
        """Let transactions end; what still runs after ``seconds`` is cut off without an answer."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + seconds
        told: set[SMTPStream] = set()
        self._tell(told)
        await self._acceptor.settle()
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
