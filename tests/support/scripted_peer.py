"""The server's side of SMTP for tests, and a next hop that does what a test tells it to, the wrong things
included."""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

# Said instead of a reply: close the connection, say nothing more, or talk for ever.
CLOSE, STALL, ENDLESS = "close", "stall", "endless"


class Session(ABC):
    """One session: commands in, and out goes what ``answer`` says; ``take`` gets the octets of DATA."""

    offers: tuple[str, ...] = ("PIPELINING", "8BITMIME")
    context: ssl.SSLContext | None = None
    implicit_tls = False

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @abstractmethod
    async def answer(self, verb: str, line: str) -> str:
        """What is said to the command, or to ``BANNER``; "" to EHLO and STARTTLS is the usual."""

    @abstractmethod
    async def take(self, octets: bytes) -> str:
        """The message, still dot-stuffed and without its dot; gives what is said to the dot."""

    async def run(self) -> None:
        try:
            await self.say(await self.answer("BANNER", ""))
            while line := await self.reader.readline():
                await self._command(line.decode("latin-1").strip())
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, ValueError):
            pass  # a line without an end is a ValueError
        finally:
            self.writer.close()

    async def say(self, reply: str) -> None:
        if reply == CLOSE:
            raise ConnectionAbortedError
        if reply == STALL:
            await asyncio.Event().wait()
        while reply == ENDLESS:
            if self.writer.is_closing():
                raise ConnectionAbortedError
            self.writer.write(b"250-and another thing\r\n")
            await self.writer.drain()
            await asyncio.sleep(0)
        self.writer.write(reply.replace("\n", "\r\n").encode("latin-1") + b"\r\n")
        await self.writer.drain()

    async def _command(self, line: str) -> None:
        verb = line.partition(" ")[0].upper()
        reply = await self.answer(verb, line)
        if verb == "EHLO" and not reply:
            await self._ehlo()
        elif verb == "STARTTLS" and not reply:
            await self.start_tls()
        else:
            await self.say(reply)
            if verb == "DATA" and reply.startswith("354"):
                await self.say(await self.take(await self._data()))

    async def _ehlo(self) -> None:
        offers = list(self.offers)
        if self.context is not None and not self.implicit_tls:
            offers.append("STARTTLS")
        await self.say("\n".join([*(f"250-{text}" for text in ["peer", *offers]), "250 HELP"]))

    async def start_tls(self, after: bytes = b"") -> None:
        self.writer.write(b"220 Go\r\n" + after)
        await self.writer.drain()
        await self.writer.start_tls(self.context)  # type: ignore[arg-type]

    async def _data(self) -> bytes:
        lines = []
        while (line := await self.reader.readline()) != b".\r\n":
            if not line:
                raise ConnectionAbortedError
            lines.append(line)
        return b"".join(lines)


USUAL = {
    "BANNER": "220 peer ESMTP",
    "DATA": "354 Go ahead",
    "QUIT": "221 Bye",
    "AUTH": "235 Ok",
    "EHLO": "",
    "STARTTLS": "",
}


@dataclass
class ScriptedPeer:
    """``replies`` maps a verb, ``BANNER`` or ``DOT`` to what is said, in order, the last again and again."""

    replies: Mapping[str, Sequence[str] | str] = field(default_factory=dict)
    offers: tuple[str, ...] = ("PIPELINING", "8BITMIME")
    context: ssl.SSLContext | None = None
    implicit_tls: bool = False
    after_starttls: bytes = b""
    commands: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    sessions: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    _said: dict[str, int] = field(default_factory=dict)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedPeer]:
        context = self.context if self.implicit_tls else None
        server = await asyncio.start_server(self._serve, self.address, self.port, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            # One that stalls would be found by whichever test runs when it is collected.
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def reply(self, verb: str) -> str:
        scripted = self.replies.get(verb, USUAL.get(verb, "250 Ok"))
        if isinstance(scripted, str):
            return scripted
        number = self._said.get(verb, 0)
        self._said[verb] = number + 1
        return scripted[min(number, len(scripted) - 1)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await _ScriptedSession(self, reader, writer).run()
        finally:
            self._serving.discard(task)
            writer.close()


class _ScriptedSession(Session):
    def __init__(
        self, peer: ScriptedPeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(reader, writer)
        self._peer = peer
        self.offers, self.context, self.implicit_tls = peer.offers, peer.context, peer.implicit_tls

    async def answer(self, verb: str, line: str) -> str:
        if line:
            self._peer.commands.append(line)
        return self._peer.reply(verb)

    async def take(self, octets: bytes) -> str:
        self._peer.messages.append(octets)
        return self._peer.reply("DOT")

    async def start_tls(self, after: bytes = b"") -> None:
        await super().start_tls(after or self._peer.after_starttls)
