"""The next hop: it takes mail, does what the plan says is done wrong, and writes down what it took.

It also answers for DNS, so that the gateway finds it by MX, or does not find it.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import threading
import time
from collections.abc import Coroutine, Iterable
from email import message_from_bytes
from email.message import Message
from hashlib import sha256
from typing import Any, TypeVar

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trustme

from tests.support.lying_dns import Answering, LyingDNS
from tests.support.scripted_peer import USUAL, Session
from tests.torture.plan import BREAK_TLS, GONE, LATE, Plan, is_permanent
from tests.torture.values import Copy, Report

Result = TypeVar("Result")

_NAME = "mx.example"
_LATE_SECONDS = (0.5, 4.0)
# So many messages are kept whole, for another verifier to look at.
_MOST_KEPT = 2_000
_KEPT_BYTES = 64 * 1024
_RELAY_ID = re.compile(rb"(?mi)^X-Relay-ID: *([^\r\n]+)")
_SIGNATURE = re.compile(rb"(?mi)^DKIM-Signature:[^\n]*(?:\n[ \t][^\n]*)*d=owner\.example;")


class NextHop:
    """Listens from construction until ``close``.  ``plan`` may be changed at any time."""

    def __init__(self, seed: str) -> None:
        self.plan = Plan()
        self.names = Names()
        self.copies: list[Copy] = []
        self.reports: list[Report] = []
        self.refused: set[str] = set()
        self.kept: list[tuple[str, bytes]] = []
        self.misdeeds = 0
        self.sessions = 0
        self.seed = seed
        self.context = _context()
        self._dns = LyingDNS(self.names)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda *_: None)  # connections that break are its trade
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def name_server(self) -> str:
        return self._dns.address

    def close(self) -> None:
        self._call(self._end())
        self._dns.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        sessions = asyncio.all_tasks() - {asyncio.current_task()}
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        await _HopSession(self, reader, writer, random.Random(f"{self.seed}/{self.sessions}")).run()

    # ------------------------------------------------------------ what arrived

    def take(self, taken: _Taken, was_told: bool) -> None:
        """Write down a message after its answer; it was taken whether the answer was heard or not."""
        if not taken.reverse_path:
            self.reports.append(_report_of(taken))
            return
        header, _, body = taken.octets.partition(b"\r\n\r\n")
        found = _RELAY_ID.search(header)
        relay_id = found[1].decode() if found else "?"
        copy = Copy(
            relay_id=relay_id,
            recipients=taken.recipients,
            body=sha256(body).hexdigest(),
            digest=sha256(taken.octets).hexdigest(),
            is_signed=_SIGNATURE.search(header.replace(b"\r\n", b"\n")) is not None,
            was_told=was_told,
            began_at=taken.began_at,
            ended_at=time.time(),
        )
        self.copies.append(copy)
        if len(self.kept) < _MOST_KEPT and len(taken.octets) <= _KEPT_BYTES:
            self.kept.append((relay_id, taken.octets))


class _Taken:
    """One mail transaction as it goes on."""

    def __init__(self, reverse_path: str) -> None:
        self.reverse_path = reverse_path
        self.recipients: tuple[str, ...] = ()
        self.offered: list[str] = []
        self.refusal: str | None = None
        self.octets = b""
        self.began_at = time.time()


class _HopSession(Session):
    offers = ("PIPELINING", "8BITMIME", "SIZE")

    def __init__(
        self,
        hop: NextHop,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        chance: random.Random,
    ) -> None:
        super().__init__(reader, writer)
        self.context = hop.context
        self._hop = hop
        self._chance = chance
        self._mail = _Taken("")

    async def answer(self, verb: str, line: str) -> str:
        if verb == "MAIL":
            self._mail = _Taken(_path(line))
        misdeed = await self._misdeed(verb)
        if verb == "STARTTLS":
            return misdeed or ""
        if verb == "MAIL":
            return self._sender(misdeed)
        if verb == "RCPT":
            return self._recipient(_path(line), misdeed)
        if verb == "DATA":
            return self._data_begins(misdeed)
        return misdeed or USUAL.get(verb, "250 2.0.0 Ok")

    async def _misdeed(self, verb: str) -> str | None:
        """None after a while, if it is to be late."""
        is_report = not self._mail.reverse_path
        misdeed = self._hop.plan.misdeed(verb, self._chance, is_report=is_report)
        self._hop.misdeeds += misdeed is not None
        if misdeed == LATE:
            await asyncio.sleep(self._chance.uniform(*_LATE_SECONDS))
            return None
        return misdeed

    def _sender(self, misdeed: str | None) -> str:
        self._mail.refusal = misdeed
        return misdeed or "250 2.1.0 Ok"

    def _recipient(self, address: str, misdeed: str | None) -> str:
        # Pipelined behind a refused MAIL: that refusal was for this one.
        if self._mail.refusal is not None:
            self._refuse([address], self._mail.refusal)
            return "503 5.5.1 MAIL first"
        if address.startswith(GONE):
            misdeed = "550 5.1.1 no such user"
        if misdeed is not None:
            self._refuse([address], misdeed)
            return misdeed
        self._mail.recipients += (address,)
        return "250 2.1.5 Ok"

    def _data_begins(self, misdeed: str | None) -> str:
        if not self._mail.recipients:
            return "554 5.5.1 no valid recipients"
        if misdeed is not None:
            self._refuse(self._mail.recipients, misdeed)
        return misdeed or "354 Go ahead"

    def _refuse(self, addresses: Iterable[str], reply: str) -> None:
        if is_permanent(reply):
            self._hop.refused.update(addresses)

    async def take(self, octets: bytes) -> str:
        self._mail.octets = _unstuffed(octets)
        misdeed = await self._misdeed("DOT")
        if misdeed is not None and misdeed[0] in "45":
            self._refuse(self._mail.recipients, misdeed)  # refused, and not taken
        else:
            self._hop.take(self._mail, was_told=misdeed is None and not self._is_alone)
        return misdeed or "250 2.0.0 Ok: taken"

    @property
    def _is_alone(self) -> bool:
        """The other side went away while it took long."""
        return self.reader.at_eof() or self.reader.exception() is not None or self.writer.is_closing()

    async def say(self, reply: str) -> None:
        if reply == BREAK_TLS:
            self.writer.write(b"220 Go\r\n\x16\x03\x03\x00\x05nonsense")
            await self.writer.drain()
            raise ConnectionAbortedError
        await super().say(reply)


def _path(line: str) -> str:
    return line[line.find("<") + 1 : line.find(">")]


def _unstuffed(octets: bytes) -> bytes:
    octets = octets.replace(b"\r\n..", b"\r\n.")
    return octets[1:] if octets.startswith(b"..") else octets


def _report_of(taken: _Taken) -> Report:
    """RFC 3464: the second part is about the message, then about each recipient."""
    message = message_from_bytes(taken.octets)
    status = next(part for part in message.walk() if part.get_content_type() == "message/delivery-status")
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    about, *recipients = (block for block in blocks if isinstance(block, Message))
    return Report(
        id=str(message["Message-ID"]).strip("<>").partition("@")[0],
        original_id=str(about["X-Relay-ID"]),
        to=taken.recipients[0],
        recipients=tuple(str(one["Final-Recipient"]).partition("; ")[2] for one in recipients),
    )


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(_NAME).configure_cert(context)
    return context


class Names:
    """A zone in which every domain has one MX, here; ``lying`` answers instead, while it is set."""

    def __init__(self) -> None:
        self.lying: Answering | None = None

    def __call__(self, question: dns.message.Message) -> bytes | None:
        if self.lying is not None:
            return self.lying(question)
        asked = question.question[0]
        response = dns.message.make_response(question)
        response.flags |= dns.flags.AA
        name = asked.name.to_text()
        if asked.rdtype == dns.rdatatype.MX:
            response.answer.append(dns.rrset.from_text(name, 1, "IN", "MX", f"10 {_NAME}."))
        elif asked.rdtype == dns.rdatatype.A:
            response.answer.append(dns.rrset.from_text(name, 1, "IN", "A", "127.0.0.1"))
        return response.to_wire()
