"""A next hop that is overloaded gets fewer connections, and all of them again when it is not."""

from __future__ import annotations

import asyncio

import pytest

from relay import metrics
from relay.delivery.concurrency import FIRST, State
from relay.delivery.transport import TimeLimits
from relay.outcome.outcome import Deferred, Delivered
from tests.integration.delivery.test_lanes import crowded, delivering, until
from tests.support.scripted_peer import CLOSE, STALL, ScriptedPeer

BUSY = "451 4.3.2 busy"


@pytest.fixture
def no_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.delivery.concurrency.HOLD_SECONDS", 0.0)
    monkeypatch.setattr("relay.delivery.concurrency.DOWN_FIRST_SECONDS", 0.0)


async def test_destination_begins_with_few_connections():
    async with ScriptedPeer(replies={"DOT": STALL}).running() as peer:
        limits = TimeLimits(connect=2, command=2, data=2, dot=0.5)
        async with delivering(peer.port, connections=20, limits=limits) as hop:
            for _ in range(40):
                hop.offer()
            await until(lambda: len(peer.messages) == FIRST)
            await asyncio.sleep(0.05)
            assert peer.sessions == FIRST


async def test_destination_that_takes_mail_gets_all_connections():
    async with ScriptedPeer().running() as peer, delivering(peer.port, connections=8) as hop:
        for _ in range(100):
            hop.offer()
        await hop.settled(100)
        assert hop.line.concurrency.limit == 8
        assert hop.log.count("destination throttled") == 0


@pytest.mark.usefixtures("no_hold")
@pytest.mark.parametrize(
    "replies",
    [
        {"MAIL": [BUSY, "250 Ok"]},
        {"DATA": [BUSY, "354 Go"]},
        {"RCPT": [BUSY, "250 Ok"]},
        {"RCPT": ["421 4.7.0 slow down", "250 Ok"]},
        {"DOT": ["452 4.3.1 full", "250 Ok"]},
        {"DOT": [CLOSE, "250 Ok"]},
    ],
    ids=str,
)
async def test_throttled_destination_is_told_of_once_and_recovers(replies: dict[str, list[str]]):
    before = metrics.DESTINATIONS_THROTTLED.value
    async with ScriptedPeer(replies=replies).running() as peer, delivering(peer.port, connections=4) as hop:
        hop.offer()
        await hop.settled(1)
        assert (hop.line.concurrency.state, hop.line.concurrency.limit) == (State.THROTTLED, 2)
        assert metrics.DESTINATIONS_THROTTLED.value == before + 1
        for _ in range(30):
            hop.offer()
        await hop.settled(31)
        assert hop.line.concurrency.state is State.OPEN
        assert metrics.DESTINATIONS_THROTTLED.value == before
        assert hop.kinds() == {Deferred: 1, Delivered: 30}
        [(_, told)] = [event for event in hop.log.events if event[0] == "destination throttled"]
        assert told["connections"] == 2
        assert told["destination"] == f"127.0.0.1:{peer.port}"
        assert hop.log.count("destination recovered") == 1


@pytest.mark.parametrize(
    "replies",
    [{"RCPT": "450 4.2.0 greylisted"}, {"RCPT": "550 5.1.1 no"}, {"MAIL": "550 5.7.1 no"}],
    ids=str,
)
async def test_refusal_of_mail_throttles_nobody(replies: dict[str, str]):
    async with ScriptedPeer(replies=replies).running() as peer, delivering(peer.port) as hop:
        for _ in range(20):
            hop.offer()
        await hop.settled(20)
        assert hop.line.concurrency.state is State.OPEN
        assert hop.log.count("destination throttled") == 0


async def test_destination_that_refuses_all_is_asked_no_more_for_a_while():
    """What waits is deferred with its answer."""
    async with (
        ScriptedPeer(replies={"MAIL": BUSY}).running() as peer,
        delivering(peer.port, connections=4) as hop,
    ):
        for _ in range(100):
            hop.offer()
        await hop.settled(100)
        assert hop.line.concurrency.state is State.DOWN
        assert hop.kinds() == {Deferred: 100}
        assert {str(one.attempt.answer) for one in hop.queue.settled} == {BUSY}
        assert sum(command.startswith("MAIL") for command in peer.commands) < 20
        assert hop.log.count("destination throttled") == 1


@pytest.mark.usefixtures("no_hold")
async def test_destination_that_was_down_takes_mail_again():
    replies = {"MAIL": [*[BUSY] * 12, "250 Ok"]}
    async with ScriptedPeer(replies=replies).running() as peer, delivering(peer.port, connections=4) as hop:
        for count in range(1, 41):
            hop.offer()
            await hop.settled(count)
        assert hop.line.concurrency.state is State.OPEN
        assert hop.kinds()[Delivered] == 28
        assert hop.log.count("destination recovered") == 1


async def test_next_hop_that_bears_two_connections_has_two():
    async with crowded(most=2) as (port, seen), delivering(port, connections=10) as hop:
        for _ in range(60):
            hop.offer()
        await hop.settled(60)
        assert hop.line.concurrency.limit <= 2
        assert seen["turned away"] <= FIRST
        assert hop.log.count("destination throttled") == 1


async def test_throttled_destination_that_is_forgotten_is_counted_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.delivery.concurrency._REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr("relay.delivery.concurrency.HOLD_SECONDS", 0.0)
    monkeypatch.setattr("relay.delivery.line._IDLE_SECONDS", 0.01)
    monkeypatch.setattr("relay.delivery.worker._POLL_SECONDS", 0.01)
    before = metrics.DESTINATIONS_THROTTLED.value
    async with ScriptedPeer(replies={"MAIL": BUSY}).running() as peer, delivering(peer.port) as hop:
        claiming = asyncio.ensure_future(hop.worker.run())
        hop.offer()
        await hop.settled(1)
        await until(lambda: not hop.worker.lines)
        assert metrics.DESTINATIONS_THROTTLED.value == before
        claiming.cancel()
