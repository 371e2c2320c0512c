"""An HTTP receiver of notifications: says what a test tells it to, and verifies signatures by SNS's rules.

They are the public ones ("Verifying the signatures of Amazon SNS messages"), written down here a second time,
so that ours are checked by something else than themselves.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def answer(status: str, body: bytes = b"", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass(frozen=True)
class Got:
    """A request; names of headers in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    def message(self) -> dict[str, Any]:
        return json.loads(self.json()["Message"])


Say = Callable[[Got, asyncio.StreamWriter], Any]


async def hang(_: Got, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def trickle(_: Got, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


async def gigabyte(_: Got, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    for _ in range(16_384):
        writer.write(b"x" * 65_536)
        await writer.drain()


def saying(octets: bytes) -> Say:
    async def say(_: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(octets)
        await writer.drain()

    return say


@dataclass
class Receiver:
    """Listens on loopback.  ``got`` are the requests; ``connections`` how many it had."""

    say: Say = field(default_factory=lambda: saying(OK))
    context: SSLContext | None = None
    host: str = "127.0.0.1"
    port: int = 0
    got: list[Got] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://{self.host}:{self.port}/hook?a=b"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Receiver]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        self._open: set[asyncio.StreamWriter] = set()
        try:
            yield self
        finally:
            server.close()
            for writer in self._open:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *fields = head.split("\r\n")[:-2]
                headers = {k.lower(): v for k, _, v in (one.partition(": ") for one in fields)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                one = Got(line, headers, body)
                self.got.append(one)
                await self.say(one, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def wait(self, count: int, seconds: float = 10) -> list[Got]:
        """The requests once there are so many."""
        async with asyncio.timeout(seconds):
            while len(self.got) < count:
                await asyncio.sleep(0.01)
        return self.got


_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_HANDSHAKE = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


def verify_sns(document: dict[str, Any], certificate_pem: str) -> None:
    """InvalidSignature unless the certificate's key signed the document."""
    names = _NOTIFICATION if document["Type"] == "Notification" else _HANDSHAKE
    text = "".join(f"{name}\n{document[name]}\n" for name in names if name in document)
    digest = {"1": SHA1(), "2": SHA256()}[document["SignatureVersion"]]
    key = x509.load_pem_x509_certificate(certificate_pem.encode()).public_key()
    assert isinstance(key, RSAPublicKey)
    key.verify(base64.b64decode(document["Signature"]), text.encode(), PKCS1v15(), digest)
