"""A worker with more connections than another leaves the next to it, and takes what it leaves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from relay import metrics
from relay.accept.acceptor import Acceptor
from relay.accept.origin import Origin

SECONDS = 10.0


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


async def nobody(_connection: socket.socket, _origin: Origin, _with_tls: bool) -> bool:
    raise AssertionError("nothing is to speak")


class Taken(Acceptor):
    """Keeps what it accepts."""

    def __init__(self) -> None:
        super().__init__(nobody, metrics.CONNECTIONS, 100, (), lambda event, **_: None)
        self.taken: list[socket.socket] = []

    def _arrive(self, connection: socket.socket, peer: str, with_tls: bool) -> None:
        self.taken.append(connection)

    async def count(self, wanted: int) -> None:
        async with asyncio.timeout(SECONDS):
            while len(self.taken) < wanted:
                await asyncio.sleep(0.001)

    def close(self) -> None:
        self.stop()
        for connection in self.taken:
            connection.close()


def connect(to: socket.socket) -> socket.socket:
    return socket.create_connection(to.getsockname(), SECONDS)


async def test_connection_that_nobody_else_takes_is_taken(listening, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Acceptor, "_has_more_than_another", lambda _: True)
    acceptor = Taken()
    acceptor.start([(listening.dup(), False)])
    with connect(listening), connect(listening):
        await acceptor.count(2)
    acceptor.close()


async def test_connection_that_another_takes_leaves_it_listening(listening, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Acceptor, "_has_more_than_another", lambda _: True)
    acceptor, theirs = Taken(), []
    acceptor.start([(listening.dup(), False)])
    for _ in range(3):
        with connect(listening):
            theirs.append(listening.accept()[0])  # before it had a look
            await asyncio.sleep(0.05)
        assert acceptor.taken == []
    with connect(listening):
        await asyncio.sleep(0.002)  # it has seen this one, and waits
        theirs.append(listening.accept()[0])
        await asyncio.sleep(0.05)
    assert acceptor.taken == []
    with connect(listening):
        await acceptor.count(1)
    acceptor.close()
    for connection in theirs:
        connection.close()


async def test_connection_is_taken_at_once_by_who_has_no_more(listening, monkeypatch: pytest.MonkeyPatch):
    looks: list[bool] = [True, True, True]
    monkeypatch.setattr(Acceptor, "_has_more_than_another", lambda _: bool(looks and looks.pop()))
    acceptor = Taken()
    acceptor.start([(listening.dup(), False)])
    with connect(listening):
        await acceptor.count(1)
    acceptor.close()
