"""A store that works and does not take an outcome: the recipient comes back to the queue, on both engines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select, text

from relay.delivery.line import ReuseLimits
from relay.delivery.route import Destination, Route, Routes, TLSMode
from relay.delivery.worker import DeliverySettings, DeliveryWorker
from relay.outcome.schedule import RetryPolicy
from relay.queue import workers
from relay.queue.claims import Claims
from relay.queue.settlement import Settlement
from relay.queue.spool import Spool
from relay.queue.values import Consignment
from relay.queue.writer import GroupWriter
from relay.resolver import Resolver
from relay.store.engine import Store
from relay.store.tables import attempt, recipient
from tests.support.mail import new_message
from tests.support.scripted_peer import ScriptedPeer

SECONDS = 10.0
RETRY = RetryPolicy(first_seconds=60, max_seconds=600)

# The database refuses attempts that a test has spoiled, as a broken constraint would.
SPOILED = {
    "sqlite": [
        "CREATE TRIGGER spoiled BEFORE INSERT ON attempt WHEN {when}"
        " BEGIN SELECT RAISE(ABORT, 'spoiled'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION spoiled() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'spoiled'; END $$",
        "CREATE TRIGGER spoiled BEFORE INSERT ON attempt FOR EACH ROW WHEN ({when})"
        " EXECUTE FUNCTION spoiled()",
    ],
}


def spoil(store: Store, when: str) -> None:
    with store.write() as connection:
        for statement in SPOILED[connection.dialect.name]:
            connection.execute(text(statement.format(when=when)))


class Bench:
    """A delivery worker on a real queue, and a next hop."""

    def __init__(self, store: Store, peer: ScriptedPeer) -> None:
        self.store, self.peer = store, peer
        self.writer = GroupWriter(store)
        self.writer.start()
        with store.write() as connection:
            self.lease = workers.register(connection, "here")
        ids = itertools.count(7_000_000)
        self.spool = Spool(store, self.writer, lambda: next(ids))
        claims = Claims(store, self.writer, self.lease)
        settlement = Settlement(self.writer, lambda: next(ids))
        queue = SimpleNamespace(
            settle=settlement.settle,
            claim=claims.claim,
            release=claims.release,
            postpone=claims.postpone,
            body=self.spool.body,
        )
        where = Destination("127.0.0.1", peer.port, TLSMode.NONE)
        settings = DeliverySettings("relay.example", Routes(Route(where)), RETRY, ReuseLimits(connections=1))
        self.logged: list[tuple[str, dict[str, object]]] = []
        self.worker = DeliveryWorker(
            settings,
            queue,
            Resolver(["127.0.0.1:9"]),
            lambda event, **more: self.logged.append((event, more)),
            lambda: 0.5,
        )

    async def send(self, *addresses: str) -> None:
        new = new_message(*addresses, lease=self.lease)
        await self.spool.enqueue(new)
        self.worker.offer(Consignment(new.message, new.recipients, self.lease))

    def rows(self) -> dict[str, tuple[str, int]]:
        columns = recipient.c.address, recipient.c.state, recipient.c.attempts
        with self.store.read() as connection:
            return {row.address: (row.state, row.attempts) for row in connection.execute(select(*columns))}

    async def until(self, expected: dict[str, tuple[str, int]]) -> None:
        async with asyncio.timeout(SECONDS):
            while self.rows() != expected:
                await asyncio.sleep(0.02)

    async def due_in(self) -> float:
        """Seconds until the next recipient is due."""
        with self.store.read() as connection:
            due_at = connection.execute(select(func.min(recipient.c.due_at))).scalar_one()
            return (due_at - workers.now(connection)) / 1_000_000


@pytest.fixture
async def bench(store: Store) -> AsyncIterator[Bench]:
    async with ScriptedPeer().running() as peer:
        one = Bench(store, peer)
        yield one
        await one.worker.drain(5)
        await one.writer.stop()


async def test_outcome_that_is_not_taken_becomes_a_deferral(bench):
    spoil(bench.store, "NEW.outcome = 'delivered'")
    await bench.send("a@x.example")
    await bench.until({"a@x.example": ("queued", 1)})
    assert 30 < await bench.due_in() <= 60
    with bench.store.read() as connection:
        [tried] = connection.execute(select(attempt.c.outcome, attempt.c.reply)).all()
    assert tuple(tried) == ("deferred", "the outcome could not be recorded")
    async with asyncio.timeout(SECONDS):
        while len(bench.logged) < 2:  # what is durable is told a moment later
            await asyncio.sleep(0.02)
    assert [event for event, _ in bench.logged] == ["settlement failed", "deferred"]


async def test_outcome_that_is_not_taken_spoils_none_of_the_same_message(bench):
    spoil(bench.store, "NEW.number = 1 AND NEW.outcome = 'delivered'")
    await bench.send("a@x.example", "b@x.example", "c@x.example")
    await bench.until(
        {"a@x.example": ("delivered", 1), "b@x.example": ("queued", 1), "c@x.example": ("delivered", 1)}
    )


async def test_recipient_goes_back_even_if_no_attempt_can_be_recorded(bench):
    spoil(bench.store, "NEW.number = 0")
    await bench.send("a@x.example")
    await bench.until({"a@x.example": ("queued", 0)})
    assert 500 < await bench.due_in() <= 600


async def test_next_try_delivers_once_the_store_takes_it(bench):
    spoil(bench.store, "NEW.attempt = 1 AND NEW.outcome = 'delivered'")
    await bench.send("a@x.example")
    await bench.until({"a@x.example": ("queued", 1)})
    with bench.store.write() as connection:
        connection.execute(recipient.update().values(due_at=1))
    running = asyncio.ensure_future(bench.worker.run())
    try:
        await bench.until({"a@x.example": ("delivered", 2)})
    finally:
        running.cancel()
    assert len(bench.peer.messages) == 2, "a duplicate, as documented for a failed outcome commit"
