"""A next hop that does what a test tells it to, the wrong things included."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

# Said instead of a reply: close the connection, or say nothing more.
CLOSE, STALL = "close", "stall"


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

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedPeer]:
        context = self.context if self.implicit_tls else None
        server = await asyncio.start_server(self._serve, self.address, self.port, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    def _reply(self, verb: str) -> str:
        scripted = self.replies.get(verb, _USUAL.get(verb, "250 Ok"))
        if isinstance(scripted, str):
            return scripted
        number = self._said.get(verb, 0)
        self._said[verb] = number + 1
        return scripted[min(number, len(scripted) - 1)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        try:
            await self._say(writer, self._reply("BANNER"))
            while line := await reader.readline():
                await self._command(line.decode("latin-1").strip(), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, reply: str) -> None:
        if reply == CLOSE:
            raise ConnectionAbortedError
        if reply == STALL:
            await asyncio.Event().wait()
        writer.write(reply.replace("\n", "\r\n").encode("latin-1") + b"\r\n")
        await writer.drain()

    async def _command(self, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.commands.append(line)
        verb = line.partition(" ")[0].upper()
        if verb == "EHLO" and "EHLO" not in self.replies:
            await self._ehlo(writer)
        elif verb == "STARTTLS" and "STARTTLS" not in self.replies:
            writer.write(b"220 Go\r\n" + self.after_starttls)
            await writer.drain()
            await writer.start_tls(self.context)  # type: ignore[arg-type]
        else:
            reply = self._reply(verb)
            await self._say(writer, reply)
            if verb == "DATA" and reply.startswith("354"):
                await self._data(reader, writer)

    async def _ehlo(self, writer: asyncio.StreamWriter) -> None:
        offers = list(self.offers)
        if self.context is not None and not self.implicit_tls:
            offers.append("STARTTLS")
        await self._say(writer, "\n".join([*(f"250-{text}" for text in ["peer", *offers]), "250 HELP"]))

    async def _data(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = []
        while (line := await reader.readline()) != b".\r\n":
            if not line:
                raise ConnectionAbortedError
            lines.append(line)
        self.messages.append(b"".join(lines))
        await self._say(writer, self._reply("DOT"))


_USUAL = {"BANNER": "220 peer ESMTP", "DATA": "354 Go ahead", "QUIT": "221 Bye", "AUTH": "235 Ok"}
