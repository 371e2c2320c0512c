"""MTA-STS against a web server, and mail under a policy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from relay.delivery.policies import Kept, Policies
from relay.delivery.route import Route, Routes
from relay.delivery.worker import DeliverySettings, DeliveryWorker
from relay.outcome.outcome import Deferred, Delivered, Phase
from relay.outcome.schedule import RetryPolicy
from relay.queue.values import StoreUnavailable
from relay.resolver import Absent, Unavailable
from tests.integration.delivery.test_lanes import Hop, Lines, Queue
from tests.integration.delivery.test_mx import LIMITS, Hosts
from tests.support.policy_host import PolicyHost, host_context, policy

NAME = "mta-sts.x.example"
DAY = 86_400 * 1_000_000


@dataclass
class Memory:
    """A shelf that is not a store."""

    kept: dict[str, Kept] = field(default_factory=dict)
    is_away: bool = False

    async def load(self, domain: str) -> Kept | None:
        if self.is_away:
            raise StoreUnavailable("away")
        return self.kept.get(domain)

    async def save(self, kept: Kept) -> None:
        if self.is_away:
            raise StoreUnavailable("away")
        self.kept[kept.domain] = kept


@dataclass
class World:
    """x.example with an MX, a policy announced and served, and what a gateway knows of it."""

    hosts: Hosts
    web: PolicyHost
    authority: trustme.CA
    ca_file: str
    shelf: Memory = field(default_factory=Memory)
    log: Lines = field(default_factory=Lines)
    at: int = 1_000_000

    def announce(self, policy_id: str) -> None:
        self.hosts.zone.texts["_mta-sts.x.example"] = [f"v=STSv1; id={policy_id};"]

    def policies(self, **changed: object) -> Policies:
        """A process that has just started."""
        values = {"ca_file": self.ca_file, "allow_private": True, "port": self.web.port, **changed}
        return Policies(self.hosts.zone, self.shelf, self.log, now=lambda: self.at, **values)  # type: ignore[arg-type]

    def told(self) -> str:
        return str([fields.get("reason") for event, fields in self.log.events if "not fetched" in event])


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("relay.delivery.policies._RETRY_SECONDS", 0.0)
    authority = trustme.CA()
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    async with AsyncExitStack() as stack:
        hosts = Hosts(stack)
        web = PolicyHost(host_context(authority, NAME), policy("mx.x.example"))
        await stack.enter_async_context(web.running())
        hosts.zone.hosts[NAME] = [web.address]
        hosts.zone.mail["x.example"] = [(10, "mx.x.example")]
        one = World(hosts, web, authority, str(tmp_path / "ca.pem"))
        one.announce("1")
        yield one


# ---------------------------------------------------------------- the policy


async def test_policy_is_fetched_once_and_again_when_its_id_changes(world: World):
    policies = world.policies()
    for _ in range(3):
        found = await policies.of("x.example")
        assert found is not None
        assert found.is_enforced
    assert len(world.web.requests) == 1
    assert world.web.requests[0].startswith("GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
    assert f"Host: {NAME}:{world.web.port}\r\n" in world.web.requests[0]
    world.announce("2")
    world.web.text = policy("other.x.example")
    found = await policies.of("x.example")
    assert found is not None
    assert found.mx == ("other.x.example",)
    assert len(world.web.requests) == 2


def _gone(world: World) -> None:
    world.hosts.zone.texts.clear()


def _dark(world: World) -> None:
    world.hosts.zone.texts["_mta-sts.x.example"] = Unavailable("no answer in time")


def _broken(world: World) -> None:
    world.announce("2")
    world.web.status = "503 Later"


def _no_web(world: World) -> None:
    world.announce("2")
    world.hosts.zone.hosts[NAME] = Absent()


@pytest.mark.parametrize("change", [_gone, _dark, _broken, _no_web])
async def test_policy_holds_until_its_age_whatever_is_suppressed(
    world: World, change: Callable[[World], None]
):
    assert await world.policies().of("x.example")
    change(world)
    restarted = world.policies()
    world.at += DAY - 2_000_000
    assert await restarted.of("x.example")
    world.at += 3_000_000
    assert await restarted.of("x.example") is None


async def test_policy_is_looked_at_anew_each_day(world: World):
    world.web.text = policy("mx.x.example", max_age=864_000)
    policies = world.policies()
    await policies.of("x.example")
    world.at += DAY
    world.web.text = policy("new.x.example")
    found = await policies.of("x.example")
    assert found is not None
    assert found.mx == ("new.x.example",)


async def test_store_that_is_away_takes_no_policy_away(world: World):
    world.shelf.is_away = True
    assert await world.policies().of("x.example")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"status": "404 No"}, "the web server answers 404"),
        (
            {"status": "301 There", "more": "Location: https://mta-sts.x.example/p\r\n"},
            "the web server answers 301",
        ),
        ({"content_type": "text/html"}, "text/html, not text/plain"),
        ({"text": "version: STSv1\n" + "x: y\n" * 20_000}, "more than 65536 octets"),
        ({"text": "hello"}, "not a line of a policy"),
    ],
)
async def test_what_is_not_a_policy_is_told_and_is_none(world: World, changed: dict[str, str], reason: str):
    for name, value in changed.items():
        setattr(world.web, name, value)
    assert await world.policies().of("x.example") is None
    assert reason in world.told()
    assert len(world.web.requests) == 1


async def test_certificate_must_be_that_of_the_policy_host(world: World):
    world.web.context = host_context(world.authority, "x.example")
    async with PolicyHost(world.web.context, world.web.text).running() as wrong:
        assert await world.policies(port=wrong.port).of("x.example") is None
    assert "certificate" in world.told()
    assert await world.policies(ca_file="").of("x.example") is None


async def test_address_that_is_not_public_is_not_asked_unless_allowed(world: World):
    assert await world.policies(allow_private=False).of("x.example") is None
    assert 'mta_sts = "private"' in world.told().replace('\\"', '"')
    assert world.web.requests == []


async def test_failed_fetch_is_not_repeated_for_each_message(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.delivery.policies._RETRY_SECONDS", 300.0)
    world.web.status = "404 No"
    policies = world.policies()
    for _ in range(3):
        await policies.of("x.example")
    assert len(world.web.requests) == 1


# ---------------------------------------------------------------- mail under it


@asynccontextmanager
async def delivering(world: World) -> AsyncIterator[Hop]:
    routes = Routes(Route(None), (), world.hosts.port, world.ca_file)
    settings = DeliverySettings("relay.example", routes, RetryPolicy(), limits=LIMITS)
    queue, log = Queue(), Lines()
    worker = DeliveryWorker(settings, queue, world.hosts.zone, log, lambda: 0.5, world.policies())
    try:
        yield Hop(worker, queue, log)
    finally:
        await worker.drain(5)


async def test_enforced_policy_is_met_by_a_host_it_names_with_a_certificate_of_that_name(world: World):
    await world.hosts.add("mx.x.example", context=host_context(world.authority, "mx.x.example"))
    async with delivering(world) as hop:
        hop.offer("a@x.example")
        [one] = await hop.settled(1)
    assert (type(one.outcome), one.attempt.tls) == (Delivered, "TLSv1.3")


@pytest.mark.parametrize("certificate", ["other.example", ""])
async def test_enforced_policy_defers_where_tls_proves_nothing(world: World, certificate: str):
    context = host_context(world.authority, certificate) if certificate else None
    peer = await world.hosts.add("mx.x.example", context=context)
    async with delivering(world) as hop:
        hop.offer("a@x.example")
        [one] = await hop.settled(1)
    assert (type(one.outcome), one.attempt.phase) == (Deferred, Phase.TLS)
    assert "the MTA-STS policy of x.example (enforce) wants verified TLS" in str(one.attempt.answer)
    assert peer.messages == []


async def test_host_that_the_policy_does_not_name_gets_nothing(world: World):
    evil = await world.hosts.add("evil.example", context=host_context(world.authority, "evil.example"))
    world.hosts.zone.mail["x.example"] = [(10, "evil.example")]
    async with delivering(world) as hop:
        hop.offer("a@x.example")
        [one] = await hop.settled(1)
    assert isinstance(one.outcome, Deferred)
    assert "names none of its MX hosts" in str(one.attempt.answer)
    assert evil.sessions == 0


@pytest.mark.parametrize("mode", ["testing", "none"])
async def test_policy_that_is_not_enforced_changes_nothing(world: World, mode: str):
    world.web.text = policy("other.example", mode=mode)
    await world.hosts.add("mx.x.example")
    async with delivering(world) as hop:
        hop.offer("a@x.example")
        [one] = await hop.settled(1)
    assert isinstance(one.outcome, Delivered)
