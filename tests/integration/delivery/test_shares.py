"""What one account's mail may take of a worker's memory and lanes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from relay.delivery.route import ByMX
from relay.delivery.transport import TimeLimits
from relay.outcome.outcome import Delivered
from relay.queue.values import Claimed, Consignment
from tests.integration.delivery.test_lanes import LIMITS, Queue, consignment, delivering, until
from tests.integration.delivery.test_mx import Hosts, hosts  # noqa: F401
from tests.integration.delivery.test_mx import delivering as delivering_by_mx
from tests.support.scripted_peer import STALL, ScriptedPeer

SHORT = TimeLimits(connect=0.5, dot=0.2)
BULK, SMALL, THIRD = "444444444444", "555555555555", "666666666666"


def sent_in_order(peer: ScriptedPeer) -> list[str]:
    rcpts = [command for command in peer.commands if command.startswith("RCPT")]
    return [command.partition("<")[2].partition("@")[0] for command in rcpts]


async def test_mail_of_an_account_overtakes_the_backlog_of_another():
    async with ScriptedPeer().running() as peer, delivering(peer.port, connections=1) as hop:
        for number in range(50):
            hop.offer(f"bulk{number}@x.example", account_id=BULK)
        hop.offer("small@x.example", account_id=SMALL)
        await hop.settled(51)
    assert sent_in_order(peer).index("small") <= 1


async def test_new_mail_and_mail_from_the_store_take_turns():
    async with ScriptedPeer().running() as peer, delivering(peer.port, connections=1) as hop:
        for number in range(50):
            hop.offer(f"new{number}@x.example")
        hop.offer("stored@x.example", body=None)
        await hop.settled(51)
    assert sent_in_order(peer).index("stored") <= 1


async def test_account_may_hold_as_much_as_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.delivery.worker._MOST_NEW", 80)
    async with (
        ScriptedPeer(replies={"BANNER": STALL}).running() as peer,
        delivering(peer.port, limits=TimeLimits(connect=0.5)) as hop,
    ):

        def taken(account: str) -> int:
            count = 0
            while hop.worker.has_room(account):
                hop.offer(account_id=account)
                count += 1
            return count

        # Each three times what it leaves free; the lane has one of the first in its hands.
        assert taken(BULK) == 60
        await until(lambda: len(hop.line.waiting) == 59)
        assert taken(SMALL) == 16
        assert taken(THIRD) == 4
        assert hop.worker.has_room("777777777777")


async def test_headers_that_fill_the_memory_leave_no_room(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.delivery.worker._MOST_WAITING_BYTES", 10_000)
    async with (
        ScriptedPeer(replies={"DOT": STALL}).running() as peer,
        delivering(peer.port, limits=TimeLimits(dot=0.2), connections=1) as hop,
    ):
        for _ in range(5):
            hop.offer(header=b"X: " + b"x" * 6_000 + b"\r\n", size_bytes=6_014)
        assert not hop.worker.has_room(SMALL)
        await hop.settled(3)
        assert hop.worker.has_room(SMALL)


@dataclass
class Backlog(Queue):
    """Has as much of an account as is asked for, and remembers which accounts were not wanted."""

    left: int = 400
    but: list[Collection[str]] = field(default_factory=list)

    async def claim(self, limit: int, but: Collection[str]) -> Claimed:
        self.but.append(list(but))
        if BULK in but or not self.left:
            return Claimed()
        self.left -= limit
        found: list[Consignment] = [consignment(account_id=BULK, body=None) for _ in range(limit)]
        return Claimed(tuple(found), is_more=True)


async def test_account_of_which_enough_waits_is_not_claimed_and_others_are():
    queue = Backlog()
    async with (
        ScriptedPeer(replies={"BANNER": STALL}).running() as peer,
        delivering(peer.port, queue, limits=TimeLimits(connect=0.5)) as hop,
    ):
        claiming = asyncio.ensure_future(hop.worker.run())
        await until(lambda: [BULK] in queue.but)
        assert 90 <= len(hop.line.waiting) <= 200
        claiming.cancel()


async def test_backlog_goes_out_without_waiting_for_the_clock(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.delivery.worker._POLL_SECONDS", 1_000)
    async with ScriptedPeer().running() as peer, delivering(peer.port, Backlog(), limits=LIMITS) as hop:
        claiming = asyncio.ensure_future(hop.worker.run())
        await hop.settled(400)
        claiming.cancel()


async def test_line_that_is_full_of_one_account_takes_the_mail_of_another(
    hosts: Hosts,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("relay.delivery.worker._MOST_WAITING", 120)
    await hosts.add("slow.example", replies={"BANNER": STALL})
    async with delivering_by_mx(hosts, limits=TimeLimits(connect=1)) as hop:
        for number in range(100):
            hop.offer(f"a{number}@slow.example", account_id=BULK)
        await until(lambda: len(hop.queue.postponed) > 50)
        before = len(hop.queue.postponed)
        hop.offer("a@slow.example", account_id=SMALL)
        assert len(hop.worker.lines[ByMX("slow.example", hosts.port)].waiting.of((SMALL, False))) == 1
        await asyncio.sleep(0)
        assert len(hop.queue.postponed) == before


async def test_lines_take_turns_by_account_when_lanes_are_short(hosts: Hosts):  # noqa: F811
    """A sender to a hundred domains has the lanes no longer than one to a single domain."""
    order: list[str] = []
    domains = [f"d{number}.example" for number in range(20)]
    for domain in [*domains, "small.example"]:
        await hosts.add(domain)
    async with delivering_by_mx(hosts, lanes=1) as hop:
        for domain in domains:
            hop.offer(f"a@{domain}", account_id=BULK)
        hop.offer("a@small.example", account_id=SMALL)
        await hop.settled(21)
        order = [one.recipient.domain for one in hop.queue.settled]
        assert hop.kinds() == {Delivered: 21}
    assert order.index("small.example") <= 2
