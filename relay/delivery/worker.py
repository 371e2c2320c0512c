"""The delivery of one worker process: claim, route, hand to the line of each way, settle.

Recipients of a message that go the same way stay together.  Lines and accounts share what the process may
hold, by one rule: nobody takes more room than a multiple of what is still free (dynamic thresholds, Choudhury
and Hahne 1998).  So a next hop that is slow or dead leaves room for all others, and so does an account that
sends more than goes out; what is past that stays in the store, or goes back there and is due a little later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from relay import metrics
from relay.delivery.dialer import Dialer
from relay.delivery.dialogue import Ended
from relay.delivery.holdings import Holdings, keys_of
from relay.delivery.line import Line, ReuseLimits, Tried
from relay.delivery.policies import Policies
from relay.delivery.route import ByMX, Routes, Way, way_of
from relay.delivery.settling import RETRY_SECONDS, Settling
from relay.delivery.transport import Connection, NoConnection, TimeLimits
from relay.delivery.turns import Flow, Turns, flow_of
from relay.maillog import Log
from relay.outcome.schedule import RetryPolicy
from relay.outcome.simulator import answer_of, box_of
from relay.queue.values import (
    Claimed,
    Consignment,
    QueuedMessage,
    QueuedRecipient,
    Settled,
    StoreUnavailable,
)
from relay.queue.workers import SILENT_SECONDS
from relay.resolver import DNS

_CLAIM_RECIPIENTS = 100
_POLL_SECONDS = 1.0
# What waits in memory: so many messages; new ones leave some room for what comes back from the store.
_MOST_WAITING = 2_000
_MOST_NEW = 1_500
# Bodies are let go past so many octets of messages.  What is more than twice that is headers.
_MOST_WAITING_BYTES = 32 * 1024 * 1024
# An account takes at most so many times the room that it leaves: three quarters, if it is alone.
_ACCOUNT_SHARE = 3
# Of an account's mail from the store so much waits before a line that takes all; at half of it there is more.
_CLAIM_AGAIN = _CLAIM_RECIPIENTS // 2
# What finds its line full is due again after this, or up to twice as long.
_POSTPONE_SECONDS = 30.0
_POSTPONE_MOVING_SECONDS = 2.0


class QueuePort(Protocol):
    """What delivery asks of the queue."""

    def settle(self, settled: Sequence[Settled]) -> asyncio.Future[None]: ...
    async def claim(self, limit: int, but: Collection[str]) -> Claimed: ...
    async def release(self, consignments: Sequence[Consignment]) -> None: ...
    async def postpone(self, consignments: Sequence[Consignment], seconds: float) -> None: ...
    async def leased(self) -> dict[tuple[int, int], int]: ...
    async def give_back(self, keys: Collection[tuple[int, int]]) -> None: ...
    def body(self, of: QueuedMessage) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """What the operator fixed for delivering; ``lanes`` bounds the connections to all next hops."""

    hostname: str
    routes: Routes
    retry: RetryPolicy
    reuse: ReuseLimits = field(default_factory=ReuseLimits)
    lanes: int = 500
    limits: TimeLimits = field(default_factory=TimeLimits)
    simulator_domain: str = ""  # recipients there never reach a line: ``_simulate``


class DeliveryWorker:
    """Delivers for one worker process.  ``jitter`` gives numbers in [0, 1); without ``policies`` MTA-STS is
    off."""

    def __init__(
        self,
        settings: DeliverySettings,
        queue: QueuePort,
        dns: DNS,
        log: Log,
        jitter: Callable[[], float],
        policies: Policies | None = None,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self.log = log
        self._jitter = jitter
        self._dialer = Dialer(dns, settings.hostname, settings.limits, jitter, policies)
        self.lines: dict[Way, Line] = {}
        self._starved: Turns[Flow, Line] = Turns()
        self._lanes = 0
        self._waiting = 0
        self._waiting_bytes = 0
        self._waiting_of: dict[Flow, int] = {}
        self._can_claim = asyncio.Event()
        self._postponing: set[asyncio.Task[None]] = set()
        self._holdings = Holdings()
        self._settling = Settling(queue.settle, settings.retry, self._holdings, self._postpone, jitter, log)
        self._renewed_at = time.monotonic()
        self._renewed = asyncio.Event()
        self.is_draining = False

    # ------------------------------------------------------------ what the others call

    def has_room(self, account_id: str) -> bool:
        """Whether a new message of that account may be born claimed; else it waits in the store."""
        if self.is_draining or self._waiting_bytes >= 2 * _MOST_WAITING_BYTES:
            return False
        waiting = self._waiting_of.get((account_id, False), 0)
        return waiting < _ACCOUNT_SHARE * (_MOST_NEW - self._waiting)

    def offer(self, consignment: Consignment) -> None:
        """Take a message that is leased to us; its body is let go if too many wait in memory."""
        self._holdings.take(keys_of(consignment))
        if any(one.domain == self._settings.simulator_domain for one in consignment.recipients):
            consignment = self._simulate(consignment)
            if not consignment.recipients:
                return
        message = consignment.message
        if self._waiting_bytes + _octets(message) > _MOST_WAITING_BYTES and message.chunks and message.body:
            consignment = replace(consignment, message=message.without_body())
        for way, part in self._by_way(consignment):
            self._queue_up(way, part)

    def renewed(self, at: float) -> None:
        """What we hold is ours still, as of ``at`` on the steady clock: the store says so."""
        self._renewed_at = at
        self._renewed.set()

    async def run(self) -> None:
        """Claim what is due, again and again, until cancelled."""
        while not self.is_draining:
            self._can_claim.clear()
            if not await self._claim():
                self._forget_lines()
                with suppress(TimeoutError):
                    seconds = _POLL_SECONDS * (0.5 + self._jitter())
                    await asyncio.wait_for(self._can_claim.wait(), seconds)

    async def drain(self, seconds: float) -> None:
        """Begin nothing more, finish what runs, give back the rest."""
        self.is_draining = True
        self._renewed.set()
        await self._give_back()
        for line in self.lines.values():
            line.dismiss_all_idle()
        try:
            async with asyncio.timeout(seconds):
                while running := self._running():
                    await asyncio.wait(running)
                while self._settling.count:
                    await self._settling.change()
        except TimeoutError:
            self.log("drain incomplete", level="warning", lanes=self._lanes, unsettled=self._settling.count)
        for task in self._running():
            task.cancel()

    def _running(self) -> list[asyncio.Task[None]]:
        return [*self._postponing, *(lane for line in self.lines.values() for lane in line.lanes)]

    async def _give_back(self) -> None:
        waiting = [one for line in self.lines.values() for one in line.waiting]
        for line in self.lines.values():
            line.waiting.clear()
        self._waiting = self._waiting_bytes = 0
        self._waiting_of.clear()
        await self.release(waiting)

    async def return_strays(self) -> None:
        """Give back what the store says is ours and is not in our hands: the connection to the store was
        lost in a commit, and we did not hear that a claim, or a message of our own, is in.
        """
        strays = self._holdings.strays(await self._queue.leased())
        if strays:
            await self._queue.give_back(strays)
            self.log("strays returned", level="warning", recipients=len(strays))

    async def release(self, consignments: Sequence[Consignment]) -> None:
        """Give back what was not begun."""
        try:
            await self._queue.release(consignments)
        except StoreUnavailable:
            pass  # our lease ends with us, and somebody takes them then
        for consignment in consignments:
            self._holdings.let_go(keys_of(consignment))

    async def _claim(self) -> bool:
        """Whether there may be more to claim at once."""
        room = _MOST_WAITING - _CLAIM_RECIPIENTS - self._waiting
        if room <= 0 or self.is_draining or self._waiting_bytes >= 2 * _MOST_WAITING_BYTES:
            return False
        try:
            claimed = await self._queue.claim(_CLAIM_RECIPIENTS, self._provided(room))
        except StoreUnavailable:
            return False
        if self.is_draining:
            for consignment in claimed.consignments:
                self._holdings.take(keys_of(consignment))
            await self.release(claimed.consignments)
            return False
        for consignment in claimed.consignments:
            self.offer(consignment)
        return claimed.is_more

    def _provided(self, room: int) -> list[str]:
        """The accounts of which enough from the store waits already.

        Where all mail goes one way, more of it in memory makes nothing faster.
        """
        most = _CLAIM_RECIPIENTS if self._settings.routes.only else _ACCOUNT_SHARE * room
        return [
            account
            for (account, is_stored), waiting in self._waiting_of.items()
            if is_stored and waiting >= most
        ]

    def _simulate(self, consignment: Consignment) -> Consignment:
        """Answer for the mailbox simulator, to all its recipients at once; gives back the others."""
        domain = self._settings.simulator_domain
        part = [one for one in consignment.recipients if one.domain == domain]
        answers = [answer_of(box_of(one.address)) for one in part]
        ended = [Ended(reply, phase) for phase, reply in answers]
        self._settling.tried(
            Tried(consignment, part, ended, time.time_ns() // 1000, domain, None, is_simulated=True)
        )
        return replace(
            consignment, recipients=tuple(one for one in consignment.recipients if one.domain != domain)
        )

    # ------------------------------------------------------------ lines

    def _by_way(self, consignment: Consignment) -> Iterator[tuple[Way, Consignment]]:
        """The consignment in parts that go the same way."""
        routes, message = self._settings.routes, consignment.message
        if routes.only is not None:
            yield routes.only.requiring_tls() if message.require_tls else routes.only, consignment
            return
        parts: dict[Way, list[QueuedRecipient]] = {}
        for recipient in consignment.recipients:
            way = way_of(routes, message.account_id, recipient.domain, message.require_tls)
            parts.setdefault(way, []).append(recipient)
        for way, recipients in parts.items():
            yield way, replace(consignment, recipients=tuple(recipients))

    def _queue_up(self, way: Way, consignment: Consignment) -> None:
        line = self.lines.get(way)
        if line is None:
            line = self.lines[way] = Line(way, self._settings.reuse, self)
        flow = flow_of(consignment.message)
        if self._is_too_long(line, flow):
            wait = _POSTPONE_MOVING_SECONDS if line.is_moving else _POSTPONE_SECONDS
            self._postpone(consignment, wait * (1 + self._jitter()))
            return
        self.put_back(flow, consignment)
        line.add(flow, consignment)

    def _is_too_long(self, line: Line, flow: Flow) -> bool:
        """Past half of what is still free, of which each in the line has its part; so many slow lines
        together still leave room for another, and so do many in one line."""
        if self._settings.routes.only is not None:
            return False
        free = _MOST_WAITING - self._waiting
        return len(line.waiting.of(flow)) > free // 2 // max(line.waiting.keys, 1)

    def _postpone(self, consignment: Consignment, seconds: float) -> None:
        """Back to the store, due in ``seconds``; in our hands until it is there."""
        task = asyncio.ensure_future(self._put_off(consignment, seconds))
        self._postponing.add(task)
        task.add_done_callback(self._postponing.discard)

    async def _put_off(self, consignment: Consignment, seconds: float) -> None:
        while True:
            try:
                await self._queue.postpone([consignment], seconds)
                self._holdings.let_go(keys_of(consignment))
                return
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)  # nobody else may take what we hold

    def _forget_lines(self) -> None:
        for line in [line for line in self.lines.values() if line.is_over]:
            del self.lines[line.way]
            if line.is_throttled:
                metrics.DESTINATIONS_THROTTLED.dec()

    # ------------------------------------------------------------ what lines ask

    async def dial(self, way: Way) -> Connection:
        return await self._dialer.open(way)

    def body(self, of: QueuedMessage) -> AsyncIterator[bytes]:
        return self._queue.body(of)

    def taken(self, consignment: Consignment) -> None:
        """It no longer waits."""
        self._waiting -= 1
        self._waiting_bytes -= _octets(consignment.message)
        flow = flow_of(consignment.message)
        left = self._waiting_of[flow] - 1
        if left:
            self._waiting_of[flow] = left
        else:
            del self._waiting_of[flow]
        if left == _CLAIM_AGAIN and flow[1]:
            self._can_claim.set()

    def put_back(self, flow: Flow, consignment: Consignment) -> None:
        """It waits, or does so again."""
        self._waiting += 1
        self._waiting_bytes += _octets(consignment.message)
        self._waiting_of[flow] = self._waiting_of.get(flow, 0) + 1

    @property
    def is_short(self) -> bool:
        """Whether lines wait for a lane."""
        return bool(self._starved)

    def may_begin(self, line: Line, flow: Flow) -> bool:
        """Whether ``line`` may have one lane more, for mail of ``flow``; if not, it is told when it may."""
        if self._lanes < self._settings.lanes:
            self._lanes += 1
            return True
        if not line.lanes and line not in self._starved.of(flow):
            self._starved.append(flow, line)
            any(other.dismiss_idle() for other in self.lines.values())
        return False

    def lane_ended(self, line: Line) -> None:
        self._lanes -= 1
        while self._starved and self._lanes < self._settings.lanes and not self.is_draining:
            starved = self._starved.popleft()
            if starved.waiting:
                starved.wake()

    def throttled(self, line: Line, why: NoConnection) -> None:
        """Its next hop bears less than the settings allow."""
        metrics.DESTINATIONS_THROTTLED.inc()
        self.log(
            "destination throttled",
            level="warning",
            destination=_name(line.way),
            host=why.host,
            phase=why.phase.value,
            reply=str(why.answer),
            connections=line.concurrency.limit,
        )

    def recovered(self, line: Line) -> None:
        """It has all the connections again that the settings allow."""
        metrics.DESTINATIONS_THROTTLED.dec()
        self.log("destination recovered", destination=_name(line.way), connections=line.concurrency.limit)

    async def leased(self) -> bool:
        """Wait while what we hold may be somebody else's: we were stopped, or cut off from the store.

        False if we end before that is known.
        """
        while time.monotonic() - self._renewed_at >= SILENT_SECONDS:
            if self.is_draining:
                return False
            self._renewed.clear()
            await self._renewed.wait()
        return True

    def tried(self, tried: Tried) -> None:
        self._settling.tried(tried)

    async def settled(self) -> None:
        await self._settling.room()


def _octets(message: QueuedMessage) -> int:
    """What a message takes in memory."""
    return len(message.header) if message.body is None else message.size_bytes


def _name(way: Way) -> str:
    return way.domain if isinstance(way, ByMX) else f"{way.host}:{way.port}"
