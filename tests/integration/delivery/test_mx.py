"""Mail that finds its own way: real sockets, DNS from a zone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme

from relay.delivery.line import ReuseLimits
from relay.delivery.route import Destination, Route, Routes, TLSMode
from relay.delivery.transport import TimeLimits
from relay.delivery.worker import DeliverySettings, DeliveryWorker
from relay.outcome.outcome import Bounced, Deferred, Delivered, Phase
from relay.outcome.schedule import RetryPolicy
from relay.resolver import Unavailable
from tests.integration.delivery.test_lanes import Hop, Lines, Queue, until
from tests.integration.delivery.test_lanes import delivering as to_smart_host
from tests.support.gateway import free_ports
from tests.support.scripted_peer import CLOSE, STALL, ScriptedPeer
from tests.support.zone import Zone

LIMITS = TimeLimits(connect=5, command=5, data=5, dot=5)


class Hosts:
    """Mail hosts on one port, each on a loopback address of its own, and the zone that names them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.zone = Zone()
        (self.port,) = free_ports(1)
        self._stack = stack
        self._count = 1

    async def add(self, name: str, **peer: object) -> ScriptedPeer:
        """A host that runs."""
        one = ScriptedPeer(address=self.name(name), port=self.port, **peer)  # type: ignore[arg-type]
        return await self._stack.enter_async_context(one.running())

    def name(self, name: str) -> str:
        """A host in DNS; nothing listens at its address."""
        self._count += 1
        address = f"127.0.0.{self._count}"
        self.zone.hosts[name] = [address]
        return address


@pytest.fixture
async def hosts() -> AsyncIterator[Hosts]:
    async with AsyncExitStack() as stack:
        yield Hosts(stack)


@asynccontextmanager
async def delivering(
    hosts: Hosts,
    tls: TLSMode = TLSMode.OPPORTUNISTIC,
    routes: tuple[Route, ...] = (),
    ca_file: str = "",
    limits: TimeLimits = LIMITS,
    reuse: ReuseLimits | None = None,
    lanes: int = 500,
) -> AsyncIterator[Hop]:
    settings = DeliverySettings(
        "relay.example",
        Routes(Route(None, tls), routes, hosts.port, ca_file),
        RetryPolicy(),
        reuse or ReuseLimits(),
        lanes,
        limits,
    )
    queue, log = Queue(), Lines()
    hop = Hop(DeliveryWorker(settings, queue, hosts.zone, log, lambda: 0.5), queue, log)
    try:
        yield hop
    finally:
        await hop.worker.drain(5)


def answers(hop: Hop) -> dict[str, type]:
    return {one.recipient.address: type(one.outcome) for one in hop.queue.settled}


# ---------------------------------------------------------------- which host


async def test_mail_goes_to_the_best_exchanger_in_one_transaction_a_domain(hosts: Hosts):
    first, second = await hosts.add("mx1.x.example"), await hosts.add("mx2.x.example")
    other = await hosts.add("y.example")
    hosts.zone.mail["x.example"] = [(20, "mx2.x.example"), (10, "mx1.x.example")]
    async with delivering(hosts) as hop:
        hop.offer("a@x.example", "b@y.example", "c@x.example")
        await hop.settled(3)
    assert set(answers(hop).values()) == {Delivered}
    assert [c for c in first.commands if c.startswith("RCPT")] == [
        "RCPT TO:<a@x.example>",
        "RCPT TO:<c@x.example>",
    ]
    assert (len(first.messages), len(other.messages), second.sessions) == (1, 1, 0)


@pytest.mark.parametrize(
    "replies", [{"BANNER": "421 busy"}, {"BANNER": "554 no"}, {"BANNER": CLOSE}, {"EHLO": "451 later"}]
)
async def test_next_exchanger_is_tried_when_the_first_does_not_open(hosts: Hosts, replies: dict[str, str]):
    await hosts.add("mx1.x.example", replies=replies)
    second = await hosts.add("mx2.x.example")
    hosts.zone.mail["x.example"] = [(10, "mx1.x.example"), (20, "mx2.x.example")]
    async with delivering(hosts) as hop:
        hop.offer("a@x.example")
        await hop.settled(1)
    assert answers(hop) == {"a@x.example": Delivered}
    assert len(second.messages) == 1


async def test_host_that_is_down_or_nowhere_is_passed_over_and_tried_last_for_a_while(hosts: Hosts):
    hosts.name("mx1.x.example")
    second = await hosts.add("mx3.x.example")
    hosts.zone.mail["x.example"] = [(10, "mx1.x.example"), (20, "mx2.x.example"), (30, "mx3.x.example")]
    async with delivering(hosts, reuse=ReuseLimits(messages=1)) as hop:
        for count in range(1, 4):
            hop.offer("a@x.example")
            settled = await hop.settled(count)
    assert {type(one.outcome) for one in settled} == {Delivered}
    assert second.sessions == 3


async def test_refused_recipient_is_not_asked_for_elsewhere(hosts: Hosts):
    await hosts.add("mx1.x.example", replies={"RCPT": "550 5.1.1 no such user"})
    second = await hosts.add("mx2.x.example")
    hosts.zone.mail["x.example"] = [(10, "mx1.x.example"), (20, "mx2.x.example")]
    async with delivering(hosts) as hop:
        hop.offer("a@x.example")
        [one] = await hop.settled(1)
    assert one.outcome == Bounced("5.1.1")
    assert second.sessions == 0


async def test_domain_without_a_way_bounces_and_dns_that_is_away_defers(hosts: Hosts):
    hosts.zone.mail |= {
        "null.example": [(0, "")],
        "loop.example": [(10, "relay.example")],
        "away.example": Unavailable("no answer for MX of away.example in time"),
        "nowhere.example": [(10, "gone.example")],
    }
    domains = ("null.example", "loop.example", "away.example", "nowhere.example", "none.example")
    async with delivering(hosts) as hop:
        hop.offer(*(f"a@{domain}" for domain in domains))
        settled = {one.recipient.domain: one for one in await hop.settled(5)}
    assert settled["null.example"].outcome == Bounced("5.1.10")
    assert settled["loop.example"].outcome == Bounced("5.4.6")
    assert settled["none.example"].outcome == Bounced("5.1.2")
    assert isinstance(settled["away.example"].outcome, Deferred)
    assert isinstance(settled["nowhere.example"].outcome, Deferred)
    assert {one.attempt.phase for one in settled.values()} == {Phase.ROUTE}


async def test_route_takes_its_mail_to_its_smart_host(hosts: Hosts):
    direct, hub = await hosts.add("x.example"), await hosts.add("hub.example")
    [address] = hosts.zone.hosts["hub.example"]  # type: ignore[misc]
    route = Route(Destination(str(address), hosts.port), domain=".lab.example")
    async with delivering(hosts, routes=(route,)) as hop:
        hop.offer("a@x.example", "b@one.lab.example", "c@two.lab.example")
        await hop.settled(3)
    assert len(direct.messages) == len(hub.messages) == 1
    assert sum(command.startswith("RCPT") for command in hub.commands) == 2


# ---------------------------------------------------------------- TLS


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_tls_is_taken_where_offered_and_plaintext_where_not(hosts: Hosts):
    authority = trustme.CA()
    await hosts.add("mx.x.example", context=server_context(authority, "other.example"))
    await hosts.add("y.example")
    hosts.zone.mail["x.example"] = [(10, "mx.x.example")]
    async with delivering(hosts) as hop:
        hop.offer("a@x.example", "b@y.example")
        settled = {one.recipient.domain: one for one in await hop.settled(2)}
    assert settled["x.example"].attempt.tls == "TLSv1.3"
    assert settled["y.example"].attempt.tls is None


async def test_starttls_that_fails_is_done_without_on_a_new_connection(hosts: Hosts):
    peer = await hosts.add("x.example", offers=("STARTTLS",), replies={"STARTTLS": "454 TLS not available"})
    async with delivering(hosts) as hop:
        hop.offer("a@x.example")
        [one] = await hop.settled(1)
    assert (type(one.outcome), one.attempt.tls, peer.sessions) == (Delivered, None, 2)


@pytest.mark.parametrize("tls", [TLSMode.REQUIRE, TLSMode.VERIFY])
async def test_required_tls_is_never_done_without(hosts: Hosts, tls: TLSMode):
    peer = await hosts.add("x.example")
    async with delivering(hosts, tls) as hop:
        hop.offer("a@x.example")
        [one] = await hop.settled(1)
    assert (type(one.outcome), one.attempt.phase) == (Deferred, Phase.TLS)
    assert "STARTTLS is required and not offered" in str(one.attempt.answer)
    assert not peer.messages


async def test_message_that_requires_tls_goes_no_way_without_it(hosts: Hosts):
    """Beside mail for the same host that does not."""
    peer = await hosts.add("x.example")
    async with delivering(hosts) as hop:
        hop.offer("a@x.example", require_tls=True)
        hop.offer("b@x.example")
        await hop.settled(2)
    assert answers(hop) == {"a@x.example": Deferred, "b@x.example": Delivered}
    assert len(peer.messages) == 1


async def test_message_that_requires_tls_gets_it_from_the_smart_host_too():
    async with ScriptedPeer().running() as peer, to_smart_host(peer.port) as hop:
        hop.offer(require_tls=True)
        [one] = await hop.settled(1)
    assert (type(one.outcome), one.attempt.phase, peer.messages) == (Deferred, Phase.TLS, [])


async def test_authority_of_a_private_network_is_trusted_by_setting(hosts: Hosts, tmp_path: Path):
    authority = trustme.CA()
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    await hosts.add("mx.x.example", context=server_context(authority, "mx.x.example"))
    await hosts.add("mx.y.example", context=server_context(authority, "other.example"))
    hosts.zone.mail |= {"x.example": [(10, "mx.x.example")], "y.example": [(10, "mx.y.example")]}
    async with delivering(hosts, TLSMode.VERIFY, ca_file=str(tmp_path / "ca.pem")) as hop:
        hop.offer("a@x.example", "b@y.example")
        await hop.settled(2)
    assert answers(hop) == {"a@x.example": Delivered, "b@y.example": Deferred}


# ---------------------------------------------------------------- lines beside each other


async def test_slow_and_dead_destinations_hold_up_no_other(hosts: Hosts):
    await hosts.add("slow.example", replies={"BANNER": STALL})
    await hosts.add("good.example")
    hosts.name("dead.example")
    async with delivering(hosts) as hop:
        for number in range(50):
            hop.offer(f"a{number}@slow.example", f"a{number}@dead.example", f"a{number}@good.example")
        await until(lambda: hop.kinds()[Delivered] == 50)
        assert not any(one.recipient.domain == "slow.example" for one in hop.queue.settled)
        assert hosts.zone.asked["MX slow.example"] == 1


async def test_line_that_is_too_long_goes_back_to_the_store_and_leaves_room(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("relay.delivery.worker._MOST_WAITING", 120)
    await hosts.add("slow.example", replies={"BANNER": STALL})
    await hosts.add("good.example")
    async with delivering(hosts) as hop:
        for number in range(200):
            hop.offer(f"a{number}@slow.example")
        await until(lambda: len(hop.queue.postponed) > 100)
        hop.offer("a@good.example")
        await until(lambda: hop.kinds()[Delivered] == 1)


async def test_lines_take_turns_when_lanes_are_short(hosts: Hosts):
    domains = [f"d{number}.example" for number in range(4)]
    peers = [await hosts.add(domain) for domain in domains]
    async with delivering(hosts, lanes=1) as hop:
        for number in range(5):
            hop.offer(*(f"a{number}@{domain}" for domain in domains))
        await hop.settled(20)
    assert [len(peer.messages) for peer in peers] == [5] * 4


async def test_connection_is_given_up_at_its_age_and_dns_is_not_asked_for_each_message(hosts: Hosts):
    peer = await hosts.add("x.example")
    async with delivering(hosts, reuse=ReuseLimits(seconds=0.0)) as hop:
        for count in range(1, 4):
            hop.offer("a@x.example")
            await hop.settled(count)
    assert peer.sessions == 3
    async with delivering(hosts) as hop:
        hosts.zone.asked.clear()
        for count in range(1, 4):
            hop.offer("a@x.example")
            await hop.settled(count)
    assert peer.sessions == 4
    assert hosts.zone.asked["MX x.example"] == 1


async def test_lines_that_are_over_are_forgotten(hosts: Hosts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.delivery.line._IDLE_SECONDS", 0.01)
    monkeypatch.setattr("relay.delivery.worker._POLL_SECONDS", 0.01)
    await hosts.add("x.example")
    async with delivering(hosts) as hop:
        hop.offer("a@x.example")
        await hop.settled(1)
        running = asyncio.ensure_future(hop.worker.run())
        await until(lambda: not hop.worker.lines)
        running.cancel()
