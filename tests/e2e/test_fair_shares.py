"""One account's backlog holds up no other's mail, wherever it waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, Login
from tests.support.scripted_peer import USUAL, Session

BULK, SMALL = "444444444444", "555555555555"
BACKLOG = 3_000
CLIENTS = 10
# The next hop takes 40 messages a second: the backlog alone would take it more than a minute.
SECONDS_A_MESSAGE = 0.5
SOON_SECONDS = 15.0


@dataclass
class SlowHop:
    """A next hop that thinks about each message, and puts off ``later@…`` once."""

    address: str = ""
    arrived: list[str] = field(default_factory=list)
    put_off: set[str] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SlowHop]:
        server = await asyncio.start_server(
            lambda reader, writer: _SlowSession(self, reader, writer).run(), "127.0.0.1", 0, backlog=200
        )
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def arrival(self, recipient: str, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while recipient not in self.arrived:
                await asyncio.sleep(0.05)


class _SlowSession(Session):
    def __init__(self, hop: SlowHop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self._hop = hop
        self._recipients: list[str] = []

    async def answer(self, verb: str, line: str) -> str:
        if verb == "RCPT":
            recipient = line.partition("<")[2].rstrip(">")
            if recipient.startswith("later@") and recipient not in self._hop.put_off:
                self._hop.put_off.add(recipient)
                return "451 4.2.1 not yet"
            self._recipients.append(recipient)
        return USUAL.get(verb, "250 2.0.0 Ok")

    async def take(self, octets: bytes) -> str:
        await asyncio.sleep(SECONDS_A_MESSAGE)
        self._hop.arrived += self._recipients
        self._recipients.clear()
        return "250 2.0.0 Ok"


def served(directory: Path, hop: SlowHop) -> tuple[Gateway, Login, Login]:
    """A gateway with a bulk sender and a small one, each with a domain of its own."""
    one = Gateway(directory, hop, RELAY_DELIVERY__RETRY_FIRST_SECONDS="1")  # type: ignore[arg-type]
    one.run("init", str(directory))
    for account, domain in ((BULK, "bulk.example"), (SMALL, "small.example")):
        one.account(account)
        one.identity(domain, account)
    bulk, small = one.login("bulk", BULK), one.login("small", SMALL)
    one.start()
    return one, bulk, small


def send(gateway: Gateway, login: Login, sender: str, *recipients: str) -> None:
    """A message to each, one after another on one connection."""
    with gateway.client(login) as client:
        for recipient in recipients:
            client.sendmail(sender, [recipient], f"From: {sender}\r\nSubject: x\r\n\r\nHello.\r\n")


async def flood(gateway: Gateway, login: Login) -> None:
    async with asyncio.TaskGroup() as clients:
        for client in range(CLIENTS):
            to = [f"c{client}-{number}@customer.example" for number in range(BACKLOG // CLIENTS)]
            clients.create_task(asyncio.to_thread(send, gateway, login, "news@bulk.example", *to))


@pytest.mark.timeout(120)
async def test_bulk_sender_does_not_starve_a_small_one(tmp_path: Path):
    """One message overtakes what waits in memory; the other is put off, and so what waits in the store."""
    async with SlowHop().running() as hop:
        gateway, bulk, small = await asyncio.to_thread(served, tmp_path, hop)
        try:
            await flood(gateway, bulk)
            to = "now@customer.example", "later@customer.example"
            await asyncio.to_thread(send, gateway, small, "desk@small.example", *to)
            for recipient in to:
                await hop.arrival(recipient, SOON_SECONDS)
            assert len(hop.arrived) < BACKLOG / 2, "the next hop was too fast for a backlog"
        finally:
            gateway.kill()
