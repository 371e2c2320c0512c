"""A worker with more connections than another leaves the next to it, and takes what it leaves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from relay.session.listener import Listener

SECONDS = 10.0


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


class Taken(Listener):  # type: ignore[type-arg]
    """Keeps what it accepts."""

    def __init__(self) -> None:
        super().__init__(None, None, None)  # type: ignore[arg-type]
        self.taken: list[socket.socket] = []

    def _arrive(self, connection: socket.socket, peer: str, implicit_tls: bool) -> None:
        self.taken.append(connection)

    async def count(self, wanted: int) -> None:
        async with asyncio.timeout(SECONDS):
            while len(self.taken) < wanted:
                await asyncio.sleep(0.001)

    def close(self) -> None:
        self.stop_accepting()
        for connection in self.taken:
            connection.close()


def connect(to: socket.socket) -> socket.socket:
    return socket.create_connection(to.getsockname(), SECONDS)


async def test_connection_that_nobody_else_takes_is_taken(listening, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.session.listener._has_more_than_another", lambda: True)
    listener = Taken()
    listener.start([(listening.dup(), False)])
    with connect(listening), connect(listening):
        await listener.count(2)
    listener.close()


async def test_connection_that_another_takes_leaves_it_listening(listening, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.session.listener._has_more_than_another", lambda: True)
    listener, theirs = Taken(), []
    listener.start([(listening.dup(), False)])
    for _ in range(3):
        with connect(listening):
            theirs.append(listening.accept()[0])  # before it had a look
            await asyncio.sleep(0.05)
        assert listener.taken == []
    with connect(listening):
        await asyncio.sleep(0.002)  # it has seen this one, and waits
        theirs.append(listening.accept()[0])
        await asyncio.sleep(0.05)
    assert listener.taken == []
    with connect(listening):
        await listener.count(1)
    listener.close()
    for connection in theirs:
        connection.close()


async def test_connection_is_taken_at_once_by_who_has_no_more(listening, monkeypatch: pytest.MonkeyPatch):
    looks: list[bool] = [True, True, True]
    monkeypatch.setattr("relay.session.listener._has_more_than_another", lambda: bool(looks and looks.pop()))
    listener = Taken()
    listener.start([(listening.dup(), False)])
    with connect(listening):
        await listener.count(1)
    listener.close()
