"""The lanes of a delivery worker: what they share, what an outage does to them, and how they stop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from relay.delivery.line import Line, ReuseLimits
from relay.delivery.route import Destination, Route, Routes, TLSMode
from relay.delivery.transport import TimeLimits
from relay.delivery.worker import DeliverySettings, DeliveryWorker
from relay.outcome.outcome import Deferred, Delivered, Phase
from relay.outcome.schedule import RetryPolicy
from relay.queue.values import (
    Claimed,
    Consignment,
    Lease,
    QueuedMessage,
    QueuedRecipient,
    Settled,
    StoreUnavailable,
)
from relay.queue.workers import SILENT_SECONDS
from relay.resolver import Resolver
from tests.support.mail import queued_message
from tests.support.scripted_peer import STALL, ScriptedPeer

LEASE = Lease(1, 1)
LIMITS = TimeLimits(connect=2, command=2, data=2, dot=2)
SECONDS = 10.0


@dataclass
class Queue:
    """Remembers what it is told; ``failures`` are the answers to the first settlements."""

    failures: list[Exception] = field(default_factory=list)
    claims: list[list[Consignment] | Exception] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    released: list[Consignment] = field(default_factory=list)
    postponed: list[Consignment] = field(default_factory=list)
    stored: dict[tuple[int, int], int] = field(default_factory=dict)  # what the store says is ours
    given_back: set[tuple[int, int]] = field(default_factory=set)

    def settle(self, settled: Sequence[Settled]) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().create_future()
        if self.failures:
            done.set_exception(self.failures.pop(0))
        else:
            self.settled += settled
            done.set_result(None)
        return done

    async def claim(self, limit: int, but: Collection[str]) -> Claimed:
        found = self.claims.pop(0) if self.claims else []
        if isinstance(found, Exception):
            raise found
        return Claimed(tuple(found))

    async def release(self, consignments: Sequence[Consignment]) -> None:
        self.released += consignments

    async def postpone(self, consignments: Sequence[Consignment], seconds: float) -> None:
        self.postponed += consignments

    async def leased(self) -> dict[tuple[int, int], int]:
        return dict(self.stored)

    async def give_back(self, keys: Collection[tuple[int, int]]) -> None:
        self.given_back.update(keys)

    async def body(self, of: QueuedMessage) -> AsyncIterator[bytes]:
        for part in of.body or (b"from the store\r\n",):
            yield part


@dataclass
class Lines:
    """What was logged."""

    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        self.events.append((event, {"level": level, **fields}))

    def count(self, event: str) -> int:
        return Counter(name for name, _ in self.events)[event]


@dataclass
class Hop:
    worker: DeliveryWorker
    queue: Queue
    log: Lines

    def offer(self, *addresses: str, **message: object) -> Consignment:
        one = consignment(*addresses, **message)
        self.worker.offer(one)
        return one

    async def settled(self, count: int) -> list[Settled]:
        await until(lambda: len(self.queue.settled) >= count)
        return self.queue.settled

    @property
    def line(self) -> Line:
        [line] = self.worker.lines.values()
        return line

    def kinds(self) -> Counter[type]:
        return Counter(type(one.outcome) for one in self.queue.settled)


def consignment(*addresses: str, **message: object) -> Consignment:
    recipients = tuple(
        QueuedRecipient(number, address, address.rpartition("@")[2])
        for number, address in enumerate(addresses or ("a@x.example",))
    )
    return Consignment(queued_message(**message), recipients, LEASE)


@asynccontextmanager
async def delivering(port: int, queue: Queue | None = None, **settings: object) -> AsyncIterator[Hop]:
    where = Destination("127.0.0.1", port, TLSMode.NONE)
    shared = [name for name in ("connections", "messages", "seconds") if name in settings]
    reuse = ReuseLimits(**{name: settings.pop(name) for name in shared})  # type: ignore[arg-type]
    routes = Routes(Route(where))
    fixed = DeliverySettings("relay.example", routes, RetryPolicy(), reuse, **{"limits": LIMITS, **settings})  # type: ignore[arg-type]
    queue, log = queue or Queue(), Lines()
    hop = Hop(DeliveryWorker(fixed, queue, Resolver(["127.0.0.1:9"]), log, lambda: 0.5), queue, log)
    yield hop
    await hop.worker.drain(2)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds():
            await asyncio.sleep(0.005)


# ---------------------------------------------------------------- one connection, many messages


async def test_many_recipients_go_in_transactions_of_a_hundred_on_one_connection():
    """RFC 5321 section 4.5.3.1.8: more than a hundred need not be taken."""
    addresses = [f"r{number}@x.example" for number in range(230)]
    async with ScriptedPeer().running() as peer, delivering(peer.port) as hop:
        hop.offer(*addresses)
        settled = await hop.settled(230)
        assert sorted(one.recipient.number for one in settled) == list(range(230))
        assert [sum(c.startswith("RCPT") for c in part) for part in _transactions(peer.commands)] == [
            100,
            100,
            30,
        ]
        assert peer.sessions == 1


def _transactions(commands: Sequence[str]) -> Iterator[list[str]]:
    starts = [at for at, command in enumerate(commands) if command.startswith("MAIL")]
    for start, end in zip(starts, [*starts[1:], len(commands)], strict=True):
        yield list(commands[start:end])


async def test_connection_is_given_up_after_so_many_messages():
    async with ScriptedPeer().running() as peer:
        async with delivering(peer.port, connections=1, messages=2) as hop:
            for _ in range(5):
                hop.offer()
            await hop.settled(5)
        assert peer.sessions == 3
        await until(lambda: peer.commands.count("QUIT") == 3)


async def test_no_more_connections_than_allowed_are_opened():
    async with ScriptedPeer(replies={"DOT": STALL}).running() as peer:
        limits = TimeLimits(connect=2, command=2, data=2, dot=0.3)
        async with delivering(peer.port, connections=3, limits=limits) as hop:
            for _ in range(10):
                hop.offer()
            await until(lambda: len(peer.messages) == 3)
            assert peer.sessions == 3


# ---------------------------------------------------------------- memory


async def test_bodies_beyond_the_bound_are_let_go_and_read_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.delivery.worker._MOST_WAITING_BYTES", 1_000)
    body = (b"x" * 600 + b"\r\n",)
    async with ScriptedPeer().running() as peer, delivering(peer.port, connections=1) as hop:
        for _ in range(3):
            hop.offer(body=body, size_bytes=602)
        await hop.settled(3)
        bodies = [message.partition(b"\r\n\r\n")[2] for message in peer.messages]
        assert bodies == [body[0], b"from the store\r\n", b"from the store\r\n"]


async def test_settlement_holds_no_body():
    async with ScriptedPeer().running() as peer, delivering(peer.port) as hop:
        hop.offer()
        [one] = await hop.settled(1)
        assert one.message.body is None


# ---------------------------------------------------------------- an outage


@asynccontextmanager
async def crowded(most: int) -> AsyncIterator[tuple[int, Counter[str]]]:
    """A next hop that takes so many connections from one client and greets every other with 421."""
    seen: Counter[str] = Counter()

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if seen["open"] >= most:
                seen["turned away"] += 1
                writer.write(b"421 4.7.0 too many connections\r\n")
                return
            seen["open"] += 1
            writer.write(b"220 peer\r\n")
            in_data = False
            while line := await reader.readline():
                if in_data and line != b".\r\n":
                    continue
                in_data = line == b"DATA\r\n"
                await asyncio.sleep(0)  # let the other lanes have a go
                writer.write(b"354 Go\r\n" if in_data else b"250 Ok\r\n")
        finally:
            writer.close()

    server = await asyncio.start_server(session, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


async def test_lane_that_is_turned_away_leaves_the_mail_to_those_that_are_not():
    """The next hop can be reached: only one more connection to it cannot be had."""
    async with crowded(most=1) as (port, seen), delivering(port, connections=4) as hop:
        hop.offer()
        await hop.settled(1)
        for _ in range(40):
            hop.offer()
        await hop.settled(41)
        # What the lanes that were turned away had in hand may wait; the rest goes where there is a way.
        assert hop.kinds()[Delivered] >= 41 - seen["turned away"] - 3, hop.kinds()


@dataclass
class OneAtATime:
    """A next hop that takes one connection; what it says to the final dot, and to a second, waits."""

    may_take: asyncio.Event = field(default_factory=asyncio.Event)
    may_refuse: asyncio.Event = field(default_factory=asyncio.Event)
    has_message: asyncio.Event = field(default_factory=asyncio.Event)
    has_second: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        try:
            if self.sessions > 1:
                self.has_second.set()
                await self.may_refuse.wait()
                writer.write(b"421 4.7.0 one connection is enough\r\n")
                return
            writer.write(b"220 peer\r\n")
            in_data = False
            while line := await reader.readline():
                if in_data and line != b".\r\n":
                    continue
                if in_data:
                    self.has_message.set()
                    await self.may_take.wait()
                in_data = line == b"DATA\r\n"
                writer.write(b"354 Go\r\n" if in_data else b"250 Ok\r\n")
        finally:
            writer.close()


async def test_connection_with_its_first_message_under_way_is_a_connection():
    """Who is turned away while it is in use is turned away by a next hop that can be reached."""
    peer = OneAtATime()
    async with peer.running() as port, delivering(port, connections=2) as hop:
        hop.offer("a@x.example")
        await asyncio.wait_for(peer.has_message.wait(), SECONDS)
        hop.offer("b@x.example")
        await asyncio.wait_for(peer.has_second.wait(), SECONDS)
        peer.may_refuse.set()
        await until(lambda: len(hop.line.lanes) == 1 or bool(hop.queue.settled))
        peer.may_take.set()
        await hop.settled(2)
        assert hop.kinds() == {Delivered: 2}


async def test_what_a_lane_is_turned_away_with_while_we_stop_is_given_back():
    peer = OneAtATime()
    async with peer.running() as port, delivering(port, connections=2) as hop:
        peer.may_take.set()
        hop.offer("a@x.example")
        await hop.settled(1)
        peer.may_take.clear()
        peer.has_message.clear()
        hop.offer("b@x.example")
        await asyncio.wait_for(peer.has_message.wait(), SECONDS)
        hop.offer("c@x.example")
        await asyncio.wait_for(peer.has_second.wait(), SECONDS)
        draining = asyncio.ensure_future(hop.worker.drain(SECONDS))
        await until(lambda: not hop.worker.has_room("222222222222"))
        peer.may_refuse.set()
        await until(lambda: len(hop.line.lanes) == 1)
        peer.may_take.set()
        await draining
        assert hop.kinds() == {Delivered: 2}
        assert [one.recipients[0].address for one in hop.queue.released] == ["c@x.example"]


async def test_next_hop_that_is_down_is_dialled_once_for_all_that_waits():
    down = ScriptedPeer(replies={"BANNER": "554 go away"})
    async with down.running() as peer, delivering(peer.port, connections=1) as hop:
        for _ in range(20):
            hop.offer()
        await hop.settled(20)
        assert hop.kinds() == {Deferred: 20}
        assert peer.sessions == 1


async def test_next_hop_that_is_back_is_used_at_once_when_it_is_dialled_again(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("relay.delivery.concurrency.DOWN_FIRST_SECONDS", 0.0)
    replies = {"BANNER": ["421 busy", "220 peer"]}
    async with ScriptedPeer(replies=replies).running() as peer, delivering(peer.port) as hop:
        hop.offer()
        await hop.settled(1)
        hop.offer()
        await hop.settled(2)
        assert [type(one.outcome) for one in hop.queue.settled] == [Deferred, Delivered]


async def test_one_outage_seen_by_many_lanes_is_one_outage():
    """Each further failure to dial doubles the wait; that ten lanes dialled at once is no further one."""
    down = ScriptedPeer(replies={"BANNER": "421 busy"})
    async with down.running() as peer, delivering(peer.port, connections=10) as hop:
        for _ in range(10):
            hop.offer()
        await hop.settled(10)
        assert hop.line.concurrency.seconds == 1.0


async def test_answer_that_is_given_again_and_again_holds_no_message():
    down = ScriptedPeer(replies={"BANNER": "421 busy"})
    async with down.running() as peer, delivering(peer.port, connections=1) as hop:
        for _ in range(100):
            hop.offer()
        await hop.settled(100)
        error = hop.line._answer
        frames, trace = 0, error.__traceback__ if error else None
        while trace is not None:
            frames, trace = frames + 1, trace.tb_next
        assert frames < 10


# ---------------------------------------------------------------- the store is away


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.delivery.settling.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("relay.delivery.worker.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("relay.delivery.worker._POLL_SECONDS", 0.01)


@pytest.mark.usefixtures("soon")
async def test_outcome_is_handed_over_until_the_store_takes_it():
    queue = Queue(failures=[StoreUnavailable("away")] * 3)
    async with ScriptedPeer().running() as peer, delivering(peer.port, queue) as hop:
        hop.offer()
        [one] = await hop.settled(1)
        assert isinstance(one.outcome, Delivered)
        await until(lambda: hop.log.count("delivered") == 1)
        assert len(peer.messages) == 1


@pytest.mark.usefixtures("soon")
async def test_drain_waits_for_outcomes_that_the_store_has_not_taken():
    queue = Queue(failures=[StoreUnavailable("away")] * 5)
    async with ScriptedPeer().running() as peer, delivering(peer.port, queue) as hop:
        hop.offer()
        await until(lambda: len(peer.messages) == 1)
        await hop.worker.drain(SECONDS)
        assert len(queue.settled) == 1
        assert hop.log.count("drain incomplete") == 0


@pytest.mark.usefixtures("soon")
async def test_drain_that_takes_too_long_says_so():
    queue = Queue(failures=[StoreUnavailable("away")] * 10_000)
    async with ScriptedPeer().running() as peer, delivering(peer.port, queue) as hop:
        hop.offer()
        await until(lambda: len(peer.messages) == 1)
        await hop.worker.drain(0.2)
        assert hop.log.count("drain incomplete") == 1
        queue.failures.clear()
        await hop.settled(1)


async def test_settlement_that_breaks_is_told_and_stops_nobody():
    queue = Queue(failures=[ValueError("broken")])
    async with ScriptedPeer().running() as peer, delivering(peer.port, queue) as hop:
        hop.offer()
        await until(lambda: hop.log.count("settlement failed") == 1)
        hop.offer()
        await hop.settled(2)
        assert (hop.log.count("deferred"), hop.log.count("delivered")) == (1, 1)


async def test_settlement_that_breaks_twice_gives_its_recipient_back():
    queue = Queue(failures=[ValueError("broken"), ValueError("broken")])
    async with ScriptedPeer().running() as peer, delivering(peer.port, queue) as hop:
        hop.offer()
        await until(lambda: len(queue.postponed) == 1)
        assert queue.settled == []


@pytest.mark.usefixtures("soon")
async def test_claiming_goes_on_after_the_store_was_away():
    queue = Queue(claims=[StoreUnavailable("away"), [], [consignment()]])
    async with ScriptedPeer().running() as peer, delivering(peer.port, queue) as hop:
        claiming = asyncio.ensure_future(hop.worker.run())
        await hop.settled(1)
        claiming.cancel()


# ---------------------------------------------------------------- the end


async def test_what_is_claimed_while_we_stop_is_given_back():
    class Slow(Queue):
        async def claim(self, limit: int, but: Collection[str]) -> Claimed:
            asked.set()
            await answer.wait()
            return Claimed((consignment(),))

    asked, answer, queue = asyncio.Event(), asyncio.Event(), Slow()
    async with ScriptedPeer().running() as peer, delivering(peer.port, queue) as hop:
        claiming = asyncio.ensure_future(hop.worker.run())
        await asyncio.wait_for(asked.wait(), SECONDS)
        await hop.worker.drain(SECONDS)
        answer.set()
        await asyncio.wait_for(claiming, SECONDS)
        assert len(queue.released) == 1
        assert peer.messages == []


async def test_store_that_is_away_does_not_hold_up_the_end():
    class Away(Queue):
        async def release(self, consignments: Sequence[Consignment]) -> None:
            raise StoreUnavailable("away")

    async with ScriptedPeer(replies={"DOT": STALL}).running() as peer:
        limits = TimeLimits(connect=2, command=2, data=2, dot=0.2)
        async with delivering(peer.port, Away(), connections=1, limits=limits) as hop:
            hop.offer()
            hop.offer()
            await until(lambda: len(peer.messages) == 1)
            await hop.worker.drain(SECONDS)
            assert [one.attempt.phase for one in hop.queue.settled] == [Phase.DOT]


async def test_lane_that_is_idle_ends_with_quit():
    async with ScriptedPeer().running() as peer:
        async with delivering(peer.port) as hop:
            hop.offer()
            await hop.settled(1)
        await until(lambda: "QUIT" in peer.commands)


async def test_lane_that_was_woken_for_nothing_keeps_its_connection():
    """More lanes are woken than there is mail for: a busy one comes first."""
    async with ScriptedPeer().running() as peer, delivering(peer.port) as hop:
        hop.offer()
        hop.offer()
        hop.offer()
        await hop.settled(3)
        sessions = peer.sessions
        for _ in range(3):
            hop.line.wake()
            await asyncio.sleep(0.05)
        hop.offer()
        await hop.settled(4)
        assert peer.sessions == sessions
        assert "QUIT" not in peer.commands


# ---------------------------------------------------------------- leases


async def test_nothing_is_sent_on_a_lease_that_may_have_run_out():
    async with ScriptedPeer().running() as peer, delivering(peer.port) as hop:
        hop.worker.renewed(time.monotonic() - SILENT_SECONDS)
        hop.offer()
        await asyncio.sleep(0.1)
        assert peer.sessions == 0
        hop.worker.renewed(time.monotonic())
        await hop.settled(1)


async def test_who_ends_on_a_lease_that_may_have_run_out_sends_nothing():
    async with ScriptedPeer().running() as peer, delivering(peer.port) as hop:
        hop.worker.renewed(time.monotonic() - SILENT_SECONDS)
        one = hop.offer()
        await until(lambda: not hop.line.waiting)
        await hop.worker.drain(2)
        assert hop.queue.released == [one]
        assert peer.sessions == 0
        assert hop.log.count("drain incomplete") == 0


async def test_what_is_ours_by_the_store_alone_is_given_back():
    """The commit of its claim was not heard of."""
    async with ScriptedPeer(replies={"DOT": STALL}).running() as peer, delivering(peer.port) as hop:
        held = hop.offer()
        hop.queue.stored = {(held.message.id, 0): 0, (4711, 2): 0}
        await hop.worker.return_strays()
        assert hop.queue.given_back == set()  # it may be on its way to us
        await hop.worker.return_strays()
        assert hop.queue.given_back == {(4711, 2)}
        assert hop.log.count("strays returned") == 1


async def test_what_is_settled_is_in_our_hands_no_more():
    async with ScriptedPeer().running() as peer, delivering(peer.port) as hop:
        done = hop.offer()
        await hop.settled(1)
        hop.queue.stored = {(done.message.id, 0): 0}
        await hop.worker.return_strays()
        await hop.worker.return_strays()
        assert hop.queue.given_back == hop.queue.stored.keys()
