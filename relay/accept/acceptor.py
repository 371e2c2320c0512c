"""The listening sockets of one worker process: connections in, each with whose it is.

Connections are accepted here and not by the loop's own servers, for what lies between a connection and who
speaks on it: a load balancer's header comes before TLS.

All workers accept from the same sockets.  One that has more connections than another leaves a new one to the
others for some milliseconds, and takes it if none does.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence

from relay import metrics
from relay.accept.origin import Origin, origin_of
from relay.accept.proxy_protocol import ProxyError
from relay.accept.sparing import Sparing
from relay.maillog import Log
from relay.submission.principal import Network

HANDSHAKE_SECONDS = 30.0
_MOST_AT_ONCE = 32
_PAUSE_SECONDS = 1.0
_ARRIVAL_GRACE_SECONDS = 2.0
# How long a connection is left to workers that have fewer: so many looks, each after so long.  It is as much
# as a busy machine lets a process wait, and not so much that one that hangs holds up the others' clients.
_LOOKS = 25
_LOOK_SECONDS = 0.001

# Takes a connection, whose it is, and whether TLS begins at once; whether anybody speaks on it now.
Begin = Callable[[socket.socket, Origin, bool], Awaitable[bool]]


class Acceptor:
    """Accepts connections on sockets that somebody else bound.

    ``begin`` has somebody speak on a connection, who counts it out of ``open_connections`` at its end.
    ``most`` are between the two at once; ``proxies`` are those whose connections begin with a PROXY header.
    """

    def __init__(
        self,
        begin: Begin,
        open_connections: metrics.LiveGauge,
        most: int,
        proxies: Sequence[Network],
        log: Log,
    ) -> None:
        self._begin = begin
        self._open = open_connections
        self._most = most
        self._proxies = proxies
        self._log = log
        self._log_sparingly = Sparing(log)
        self._sockets: dict[socket.socket, bool] = {}
        self._arriving: set[asyncio.Task[bool]] = set()

    def start(self, sockets: Iterable[tuple[socket.socket, bool]]) -> None:
        """Accept on each socket; True beside it means that TLS begins at once."""
        self._sockets = dict(sockets)
        for sock in self._sockets:
            sock.setblocking(False)
            self._accept_from(sock)

    def stop(self) -> None:
        """Accept no more; what was accepted goes on."""
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets = {}

    async def settle(self) -> None:
        """Let begin whoever has only just come, or cut them off."""
        if not self._arriving:
            return
        _, late = await asyncio.wait(self._arriving, timeout=_ARRIVAL_GRACE_SECONDS)
        for task in late:
            task.cancel()

    async def connect(
        self,
        protocol: Callable[[], asyncio.Protocol],
        connection: socket.socket,
        origin: Origin,
        tls_context: ssl.SSLContext | None,
    ) -> bool:
        """Have a protocol speak on a connection, under TLS if a context is given; False if that failed."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                connection,
                ssl=tls_context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if tls_context else None,
            )
        except OSError as error:  # of a failed handshake the protocol was never told
            if isinstance(error, ssl.SSLError):
                self._log_sparingly("TLS failed", level="info", client=origin.ip, error=str(error))
            return False
        return True

    # ------------------------------------------------------------ from socket to connection

    def _accept_from(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(_MOST_AT_ONCE):
            if self._has_more_than_another():
                asyncio.get_running_loop().remove_reader(sock)
                self._leave_to_others(sock, _LOOKS)
                return
            if not self._take(sock):
                return

    def _leave_to_others(self, sock: socket.socket, looks: int) -> None:
        if sock not in self._sockets:
            return
        if looks and self._has_more_than_another():
            loop = asyncio.get_running_loop()
            loop.call_later(_LOOK_SECONDS, self._leave_to_others, sock, looks - 1)
            return
        self._accept_from(sock)
        if not looks:
            self._take(sock)

    def _has_more_than_another(self) -> bool:
        """Whether some other worker that accepts has fewer connections of this kind than this one."""
        own = self._open.own
        if not own:
            return False
        counts = zip(self._open.rows, metrics.WORKERS.rows, strict=True)
        return any(is_accepting and count < own for count, is_accepting in counts)

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
        self._log("cannot accept connections", level="error", error=str(error))
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.call_later(_PAUSE_SECONDS, self._accept_from, sock)

    # ------------------------------------------------------------ from connection to whose it is

    def _arrive(self, connection: socket.socket, peer: str, with_tls: bool) -> None:
        if len(self._arriving) >= self._most:
            connection.close()
            return
        connection.setblocking(False)
        self._open.inc()
        task = asyncio.get_running_loop().create_task(self._receive(connection, peer, with_tls))
        self._arriving.add(task)
        task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[bool]) -> None:
        """Whoever speaks on it counts the connection out itself."""
        self._arriving.discard(task)
        if task.cancelled() or task.exception() is not None or not task.result():
            self._open.dec()

    async def _receive(self, connection: socket.socket, peer: str, with_tls: bool) -> bool:
        """From a connection to who speaks on it, or to its end; whether anybody does."""
        try:
            origin = await origin_of(connection, peer, self._proxies)
        except ProxyError as error:
            self._log_sparingly("PROXY header refused", peer=peer, reason=str(error))
            connection.close()
        except OSError:  # it went away
            connection.close()
        else:
            return await self._begin(connection, origin, with_tls)
        return False
