"""Delivery against a next hop that does the right and the wrong things."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace

import pytest
import trustme

from relay.delivery import transport
from relay.delivery.line import Line, ReuseLimits
from relay.delivery.route import Destination, Route, Routes, TLSMode
from relay.delivery.transport import TimeLimits
from relay.delivery.worker import DeliverySettings, DeliveryWorker
from relay.outcome.outcome import Bounced, Deferred, Delivered, Failure, Phase, Reply
from relay.outcome.schedule import RetryPolicy
from relay.queue.values import Claimed, Consignment, Lease, QueuedMessage, QueuedRecipient, Settled
from relay.resolver import Resolver
from tests.support.mail import queued_message
from tests.support.scripted_peer import CLOSE, STALL, ScriptedPeer

LEASE = Lease(1, 1)
SECONDS = 10.0


class Queue:
    """Remembers outcomes; has nothing of its own to claim."""

    def __init__(self) -> None:
        self.settled: list[Settled] = []
        self.released: list[Consignment] = []
        self._arrived = asyncio.Event()

    def settle(self, settled: Sequence[Settled]) -> asyncio.Future[None]:
        self.settled += settled
        self._arrived.set()
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def claim(self, limit: int, but: Collection[str]) -> Claimed:
        return Claimed()

    async def release(self, consignments: Sequence[Consignment]) -> None:
        self.released += consignments

    async def postpone(self, consignments: Sequence[Consignment], seconds: float) -> None:
        raise AssertionError("one line has room for all")

    async def body(self, of: QueuedMessage) -> AsyncIterator[bytes]:
        for part in of.body or (b"from the ", b"store\r\n"):
            yield part

    async def outcomes(self, count: int) -> list[Settled]:
        async with asyncio.timeout(SECONDS):
            while len(self.settled) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return sorted(self.settled, key=lambda one: (one.message.id, one.recipient.number))


class Hop:
    """A worker, its queue and the next hop it delivers to."""

    def __init__(self, peer: ScriptedPeer, tls: TLSMode, **destination: str) -> None:
        self.peer = peer
        self.queue = Queue()
        port = peer.port
        where = Destination(destination.pop("host", "127.0.0.1"), port, tls, **destination)
        limits = TimeLimits(connect=2, command=0.5, data=0.5, dot=0.5)
        settings = DeliverySettings(
            "relay.example", Routes(Route(where)), RetryPolicy(), ReuseLimits(connections=2), limits=limits
        )
        nowhere = Resolver(["127.0.0.1:9"])
        self.worker = DeliveryWorker(settings, self.queue, nowhere, lambda *_, **__: None, lambda: 0.5)

    async def send(self, *addresses: str, **message: object) -> list[Settled]:
        recipients = tuple(
            QueuedRecipient(number, address, address.rpartition("@")[2])
            for number, address in enumerate(addresses or ("a@x.example",))
        )
        before = len(self.queue.settled)
        self.worker.offer(Consignment(queued_message(**message), recipients, LEASE))
        return (await self.queue.outcomes(before + len(recipients)))[before:]


@pytest.fixture
async def hops() -> AsyncIterator[object]:
    """Makes hops that are drained when the test ends."""
    made: list[tuple[Hop, object]] = []

    async def make(
        tls: TLSMode = TLSMode.NONE, destination: dict[str, str] | None = None, **peer: object
    ) -> Hop:
        running = ScriptedPeer(**peer).running()  # type: ignore[arg-type]
        hop = Hop(await running.__aenter__(), tls, **(destination or {}))
        made.append((hop, running))
        return hop

    yield make
    for hop, running in made:
        await hop.worker.drain(2)
        await running.__aexit__(None, None, None)  # type: ignore[attr-defined]


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that the client trusts."""
    ca = trustme.CA()
    trusted = ssl.create_default_context()
    ca.configure_trust(trusted)
    real = transport._context
    monkeypatch.setattr(
        transport, "_context", lambda tls, ca: trusted if tls is TLSMode.VERIFY else real(tls, ca)
    )
    return ca


def server_context(ca: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


def kinds(settled: list[Settled]) -> list[type]:
    return [type(one.outcome) for one in settled]


@pytest.mark.parametrize(
    "offers", [("PIPELINING", "8BITMIME"), ("8BITMIME",)], ids=["pipelined", "step by step"]
)
class TestRecipients:
    async def test_each_recipient_has_its_own_result(self, hops, offers):
        hop = await hops(
            offers=offers, replies={"RCPT": ["250 Ok", "550 5.1.1 no such user", "451 4.2.0 later"]}
        )
        settled = await hop.send("a@x.example", "b@x.example", "c@x.example")
        assert kinds(settled) == [Delivered, Bounced, Deferred]
        assert settled[1].attempt.answer == Reply(550, "5.1.1", "no such user")
        assert settled[1].outcome.status == "5.1.1"

    async def test_refused_sender_bounces_all(self, hops, offers):
        hop = await hops(
            offers=offers, replies={"MAIL": "550 5.7.1 not you", "RCPT": "503 no", "DATA": "503 no"}
        )
        settled = await hop.send("a@x.example", "b@x.example")
        assert kinds(settled) == [Bounced, Bounced]
        assert {one.attempt.phase for one in settled} == {Phase.MAIL}

    async def test_refused_data_bounces(self, hops, offers):
        hop = await hops(offers=offers, replies={"DOT": "554 5.6.0 spam"})
        [one] = await hop.send()
        assert (one.outcome, one.attempt.phase) == (Bounced("5.6.0"), Phase.DOT)

    async def test_connection_is_kept_for_the_next_message(self, hops, offers):
        hop = await hops(offers=offers)
        for _ in range(3):
            assert kinds(await hop.send()) == [Delivered]
        assert hop.peer.sessions == 1

    async def test_nobody_left_is_no_reason_to_send_the_message(self, hops, offers):
        hop = await hops(offers=offers, replies={"RCPT": "550 no"})
        assert kinds(await hop.send("a@x.example", "b@x.example")) == [Bounced, Bounced]
        assert [message for message in hop.peer.messages if message] == []
        assert kinds(await hop.send()) == [Bounced]

    async def test_dots_are_stuffed_once(self, hops, offers):
        hop = await hops(offers=offers)
        body = b".\r\n..\r\nx.\r\n.end\r\n"
        await hop.send(header=b".odd: x\r\n", body=(body,))
        assert hop.peer.messages == [b"..odd: x\r\n\r\n..\r\n...\r\nx.\r\n..end\r\n"]


class TestTrouble:
    @pytest.mark.parametrize(
        ("replies", "phase"),
        [
            ({"BANNER": "554 go away"}, Phase.GREETING),
            ({"BANNER": "421 busy"}, Phase.GREETING),
            ({"BANNER": CLOSE}, Phase.CONNECT),
            ({"EHLO": "550 no"}, Phase.EHLO),
            ({"MAIL": STALL}, Phase.MAIL),
            ({"RCPT": STALL}, Phase.RCPT),
            ({"DATA": STALL}, Phase.DATA),
            ({"DOT": STALL}, Phase.DOT),
            ({"MAIL": CLOSE}, Phase.MAIL),
            ({"DATA": CLOSE}, Phase.DATA),
            ({"DOT": CLOSE}, Phase.DOT),
            ({"MAIL": "421 4.3.2 closing"}, Phase.MAIL),
            ({"DOT": "421 4.3.2 closing"}, Phase.DOT),
            ({"MAIL": "what?"}, Phase.MAIL),
            ({"RCPT": "x" * 10_000}, Phase.RCPT),
            ({"DOT": "451 4.3.0 later"}, Phase.DOT),
            ({"DATA": "250 what"}, Phase.DATA),
        ],
        ids=lambda value: str(value)[:40],
    )
    async def test_trouble_with_the_next_hop_defers(self, hops, replies, phase):
        hop = await hops(replies=replies)
        [one] = await hop.send()
        assert isinstance(one.outcome, Deferred)
        assert one.attempt.phase is phase

    async def test_next_message_after_trouble_gets_a_new_connection(self, hops):
        hop = await hops(replies={"DOT": [CLOSE, "250 Ok"]})
        assert kinds(await hop.send()) == [Deferred]
        assert kinds(await hop.send()) == [Delivered]
        assert hop.peer.sessions == 2

    async def test_nobody_listening_defers(self, hops):
        hop = await hops()
        hop.worker._settings = replace(
            hop.worker._settings, routes=Routes(Route(Destination("127.0.0.1", 1, TLSMode.NONE)))
        )
        [one] = await hop.send()
        assert (type(one.outcome), one.attempt.phase) == (Deferred, Phase.CONNECT)
        # The answer holds for a while: the next one is not dialled for.
        [two] = await hop.send()
        assert two.attempt.answer == one.attempt.answer

    async def test_unknown_host_defers(self, hops):
        hop = await hops(destination={"host": "no-such-host.invalid"})
        [one] = await hop.send()
        assert (type(one.outcome), one.attempt.phase) == (Deferred, Phase.ROUTE)

    async def test_eight_bit_body_is_not_sent_where_it_is_not_taken(self, hops):
        hop = await hops(offers=("PIPELINING",))
        [one] = await hop.send(body=("Grüße\r\n".encode(),))
        assert isinstance(one.outcome, Bounced)
        assert one.outcome.status == "5.6.3"
        assert hop.peer.messages == []
        assert kinds(await hop.send(body=(b"plain\r\n",))) == [Delivered]

    async def test_body_that_is_only_in_the_store_is_read_from_there(self, hops):
        hop = await hops()
        assert kinds(await hop.send(body=None)) == [Delivered]
        assert hop.peer.messages == [b"From: a@owner.example\r\n\r\nfrom the store\r\n"]

    async def test_stray_line_end_in_the_queue_never_leaves(self, hops):
        hop = await hops()
        [one] = await hop.send(body=(b"x\n.\r\n",))
        assert isinstance(one.outcome, Deferred)
        assert hop.peer.messages == []


class TestTLS:
    async def test_opportunistic_takes_tls_that_is_offered(self, hops, authority):
        hop = await hops(TLSMode.OPPORTUNISTIC, context=server_context(authority))
        [one] = await hop.send()
        assert (type(one.outcome), one.attempt.tls) == (Delivered, "TLSv1.3")

    async def test_opportunistic_goes_on_without(self, hops):
        hop = await hops(TLSMode.OPPORTUNISTIC)
        [one] = await hop.send()
        assert (type(one.outcome), one.attempt.tls) == (Delivered, None)

    async def test_opportunistic_falls_back_when_the_handshake_fails(self, hops, authority):
        hop = await hops(
            TLSMode.OPPORTUNISTIC, context=server_context(authority), replies={"STARTTLS": "454 not now"}
        )
        [one] = await hop.send()
        assert (type(one.outcome), one.attempt.tls) == (Delivered, None)

    @pytest.mark.parametrize("tls", [TLSMode.REQUIRE, TLSMode.VERIFY])
    async def test_required_tls_never_falls_back(self, hops, authority, tls):
        hop = await hops(tls)
        [one] = await hop.send()
        assert (type(one.outcome), one.attempt.phase) == (Deferred, Phase.TLS)
        refusing = await hops(tls, context=server_context(authority), replies={"STARTTLS": "454 not now"})
        [one] = await refusing.send()
        assert isinstance(one.outcome, Deferred)
        assert [c for c in refusing.peer.commands if c.startswith("MAIL")] == []

    async def test_verify_wants_the_name_of_the_host(self, hops, authority):
        host = {"host": "localhost"}
        good = await hops(TLSMode.VERIFY, destination=host, context=server_context(authority))
        assert kinds(await good.send()) == [Delivered]
        bad = await hops(TLSMode.VERIFY, destination=host, context=server_context(authority, "other.example"))
        [one] = await bad.send()
        assert (type(one.outcome), one.attempt.phase) == (Deferred, Phase.TLS)

    async def test_require_takes_any_certificate(self, hops, authority):
        hop = await hops(TLSMode.REQUIRE, context=server_context(authority, "other.example"))
        assert kinds(await hop.send()) == [Delivered]

    async def test_what_comes_behind_the_220_in_plaintext_is_not_believed(self, hops, authority):
        hop = await hops(
            TLSMode.REQUIRE,
            context=server_context(authority),
            offers=(),
            after_starttls=b"250-evil\r\n250 8BITMIME\r\n",
        )
        assert kinds(await hop.send()) == [Delivered]
        assert "MAIL FROM:<bounces@owner.example>" in hop.peer.commands


class TestAuth:
    LOGIN = {"user": "relay", "password": "secret"}

    async def test_logs_in_under_tls(self, hops, authority):
        offers = ("PIPELINING", "8BITMIME", "AUTH PLAIN LOGIN")
        hop = await hops(TLSMode.REQUIRE, self.LOGIN, context=server_context(authority), offers=offers)
        assert kinds(await hop.send()) == [Delivered]
        assert any(command.startswith("AUTH") for command in hop.peer.commands)

    async def test_refused_login_defers(self, hops, authority):
        offers = ("AUTH PLAIN",)
        hop = await hops(
            TLSMode.REQUIRE,
            self.LOGIN,
            context=server_context(authority),
            offers=offers,
            replies={"AUTH": "535 5.7.8 no"},
        )
        [one] = await hop.send()
        assert (type(one.outcome), one.attempt.phase) == (Deferred, Phase.AUTH)

    async def test_password_never_goes_out_in_plaintext_by_chance(self, hops):
        hop = await hops(TLSMode.OPPORTUNISTIC, self.LOGIN, offers=("AUTH PLAIN",))
        [one] = await hop.send()
        assert isinstance(one.outcome, Deferred)
        assert all(not command.startswith("AUTH") for command in hop.peer.commands)


class TestDrain:
    async def test_what_was_not_begun_is_given_back(self, hops):
        hop = await hops(replies={"DOT": STALL})
        for _ in range(5):
            hop.worker.offer(
                Consignment(queued_message(), (QueuedRecipient(0, "a@x.example", "x.example"),), LEASE)
            )
        async with asyncio.timeout(SECONDS):
            while len(hop.peer.messages) < 2:  # both lanes are at it
                await asyncio.sleep(0.01)
        await hop.worker.drain(5)
        assert len(hop.queue.released) == 3
        assert len(hop.queue.settled) == 2
        assert not hop.worker.has_room("222222222222")

    async def test_failure_inside_an_attempt_defers_and_says_so(self, hops, monkeypatch):
        hop = await hops()
        monkeypatch.setattr(Line, "_transact", _broken)
        [one] = await hop.send()
        assert isinstance(one.outcome, Deferred)
        assert one.attempt.answer == Failure("internal error: RuntimeError")


async def _broken(*_: object) -> None:
    raise RuntimeError("a defect")
