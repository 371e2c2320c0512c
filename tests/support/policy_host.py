"""The web server of ``mta-sts.DOMAIN``: one file, over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trustme


def policy(*mx: str, mode: str = "enforce", max_age: int = 86_400) -> str:
    named = "".join(f"mx: {one}\r\n" for one in mx)
    return f"version: STSv1\r\nmode: {mode}\r\n{named}max_age: {max_age}\r\n"


@dataclass
class PolicyHost:
    """Says ``status`` and ``text`` to every request; ``requests`` are the heads it got."""

    context: ssl.SSLContext
    text: str = ""
    status: str = "200 OK"
    content_type: str = "text/plain"
    more: str = ""
    address: str = "127.0.0.1"
    port: int = 0
    requests: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PolicyHost]:
        server = await asyncio.start_server(self._serve, self.address, self.port, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            octets = self.text.encode()
            head = (
                f"HTTP/1.1 {self.status}\r\nContent-Type: {self.content_type}\r\n{self.more}"
                f"Content-Length: {len(octets)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + octets)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()


def host_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context
