"""The listeners of one worker process: sockets in, sessions out, an orderly end."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterable

from relay.session.handler import Handler
from relay.session.smtp import SMTPSession
from relay.session.stream import SMTPStream

_HANDSHAKE_SECONDS = 30.0
_SETTLE_SECONDS = 0.05

# aiosmtpd logs every command, logins included, on this logger.
logging.getLogger("mail.log").setLevel(logging.WARNING)


class Listener:
    """Accepts connections on sockets that somebody else bound."""

    def __init__(self, handler: Handler, tls_context: ssl.SSLContext) -> None:
        self._handler = handler
        self._tls_context = tls_context
        self._servers: list[asyncio.Server] = []
        self._sessions: set[SMTPStream] = set()

    async def start(self, sockets: Iterable[tuple[socket.socket, bool]]) -> None:
        """Serve on each socket; True beside it means that TLS begins at once."""
        loop = asyncio.get_running_loop()
        for sock, implicit_tls in sockets:
            server = await loop.create_server(
                self._session_factory(implicit_tls),
                sock=sock,
                ssl=self._tls_context if implicit_tls else None,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS if implicit_tls else None,
            )
            self._servers.append(server)

    def _session_factory(self, implicit_tls: bool) -> Callable[[], SMTPSession]:
        def make() -> SMTPSession:
            return SMTPSession(self._handler, self._tls_context, implicit_tls, self._sessions)

        return make

    def stop_accepting(self) -> None:
        for server in self._servers:
            server.close()

    async def drain(self, seconds: float) -> None:
        """Let transactions end; what still runs after ``seconds`` is cut off without an answer."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + seconds
        # The kernel may have handed us a connection in the moment in which we stopped accepting.
        await asyncio.sleep(_SETTLE_SECONDS)
        told: set[SMTPStream] = set()
        while self._sessions and loop.time() < give_up_at:
            for session in self._sessions - told:
                session.drain()
            told |= self._sessions
            running = [session.conversation() for session in self._sessions]
            await asyncio.wait(running, timeout=give_up_at - loop.time())
            await asyncio.sleep(0)  # connections are lost a moment after their conversation ended
        if self._sessions:
            self._handler.log("sessions cut off", level="warning", count=len(self._sessions))
        for session in list(self._sessions):
            session.abort()
