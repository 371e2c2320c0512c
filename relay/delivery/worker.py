"""The delivery of one worker process: claim, send, classify, settle.

Consignments wait in one line.  Up to ``connections`` lanes take them, each with a connection of its own
that it keeps while there is mail; a lane goes on to the next message while the last one is being settled.
When the next hop cannot be reached at all, what waits is deferred with the same answer for a while instead
of dialling for each.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from relay.delivery.dialogue import Ended, Transaction
from relay.delivery.route import Destination
from relay.delivery.transport import Connection, NoConnection, TimeLimits, dial
from relay.maillog import Log
from relay.outcome.classify import classify
from relay.outcome.outcome import Attempt, Bounced, Deferred, Failure, Phase, Reply
from relay.outcome.schedule import RetryPolicy, Tried, decide
from relay.queue.values import Consignment, QueuedMessage, QueuedRecipient, Settled, StoreUnavailable
from relay.submission.identifiers import ses_message_id

# RFC 5321 section 4.5.3.1.8: a server takes at least 100 recipients.
_MOST_RECIPIENTS = 100
_CLAIM_RECIPIENTS = 100
_IDLE_SECONDS = 5.0
_POLL_SECONDS = 1.0
_SETTLE_RETRY_SECONDS = 1.0
_MOST_UNSETTLED = 2_000
# What waits in memory: so many messages, with so many octets of bodies.
_MOST_WAITING = 2_000
_MOST_WAITING_BYTES = 32 * 1024 * 1024
_DOWN_FIRST_SECONDS = 1.0
_DOWN_MAX_SECONDS = 60.0
_CROWDED_SECONDS = 10.0


class QueuePort(Protocol):
    """What delivery asks of the queue."""

    def settle(self, settled: Sequence[Settled]) -> asyncio.Future[None]: ...
    async def claim(self, limit: int) -> list[Consignment]: ...
    async def release(self, consignments: Sequence[Consignment]) -> None: ...
    def body(self, of: QueuedMessage) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """What the operator fixed for delivering."""

    hostname: str
    destination: Destination
    retry: RetryPolicy
    connections: int = 20
    messages_per_connection: int = 1000
    limits: TimeLimits = field(default_factory=TimeLimits)


@dataclass(slots=True)
class _Down:
    """The next hop could not be reached: until when that answer holds."""

    until: float = 0.0
    seconds: float = 0.0
    answer: NoConnection | None = None
    _noted_at: float = 0.0

    def note(self, error: NoConnection, dialled_at: float) -> None:
        """Lanes that dialled before the last note saw the same outage, not another one."""
        if dialled_at < self._noted_at:
            return
        self._noted_at = time.monotonic()
        self.seconds = min(self.seconds * 2 or _DOWN_FIRST_SECONDS, _DOWN_MAX_SECONDS)
        self.until = self._noted_at + self.seconds
        self.answer = error

    def clear(self) -> None:
        self.seconds, self.answer = 0.0, None

    @property
    def is_present(self) -> bool:
        return self.answer is not None and time.monotonic() < self.until

    def check(self) -> None:
        """Raise the answer while it holds; a fresh exception, which drags no former traceback along."""
        if self.is_present and self.answer is not None:
            raise NoConnection(self.answer.answer, self.answer.phase, self.answer.host)


class _TurnedAway(Exception):
    """The next hop takes mail on other connections, and not one more; ``rest`` is what was not tried."""

    rest: Consignment


class DeliveryWorker:
    """Delivers for one worker process.  ``jitter`` gives numbers in [0, 1)."""

    def __init__(
        self, settings: DeliverySettings, queue: QueuePort, log: Log, jitter: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._log = log
        self._jitter = jitter
        self._waiting: deque[Consignment] = deque()
        self._waiting_bytes = 0
        self._idle_lanes: deque[asyncio.Future[None]] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._unsettled = 0
        self._settled = asyncio.Event()
        self._down = _Down()
        # The connections of all lanes, and until when no more than these are tried.
        self._open: set[Connection] = set()
        self._crowded_until = 0.0
        self._draining = False

    # ------------------------------------------------------------ what the others call

    def has_room(self) -> bool:
        """Whether a new message may be born claimed; else it waits in the store."""
        return len(self._waiting) < _MOST_WAITING and not self._draining

    def offer(self, consignment: Consignment) -> None:
        """Take a message that is leased to us; its body is let go if too many wait in memory."""
        message = consignment.message
        size = sum(map(len, message.body or ()))
        if self._waiting_bytes + size > _MOST_WAITING_BYTES and message.chunks:
            consignment = replace(consignment, message=replace(message, body=None))
            size = 0
        self._waiting_bytes += size
        self._waiting.append(consignment)
        self._wake_lane()

    async def run(self) -> None:
        """Claim what is due, again and again, until cancelled."""
        while not self._draining:
            if not await self._claim():
                await asyncio.sleep(_POLL_SECONDS * (0.5 + self._jitter()))

    async def drain(self, seconds: float) -> None:
        """Begin nothing more, finish what runs, give back the rest."""
        self._draining = True
        await self._give_back()
        for idle in self._idle_lanes:
            if not idle.done():
                idle.set_result(None)
        try:
            async with asyncio.timeout(seconds):
                while self._lanes:
                    await asyncio.wait(self._lanes)
                while self._unsettled:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            self._log("drain incomplete", level="warning", lanes=len(self._lanes), unsettled=self._unsettled)
        for lane in self._lanes:
            lane.cancel()

    async def _give_back(self) -> None:
        waiting, self._waiting = list(self._waiting), deque()
        self._waiting_bytes = 0
        await self._release(waiting)

    async def _release(self, consignments: Sequence[Consignment]) -> None:
        try:
            await self._queue.release(consignments)
        except StoreUnavailable:
            pass  # our lease ends with us, and somebody takes them then

    async def _claim(self) -> bool:
        """Whether there may be more to claim at once."""
        if len(self._waiting) >= _CLAIM_RECIPIENTS or self._draining:
            return False
        try:
            claimed = await self._queue.claim(_CLAIM_RECIPIENTS)
        except StoreUnavailable:
            return False
        if self._draining:
            await self._release(claimed)
            return False
        for consignment in claimed:
            self.offer(consignment)
        return sum(len(one.recipients) for one in claimed) >= _CLAIM_RECIPIENTS

    # ------------------------------------------------------------ lanes

    def _wake_lane(self) -> None:
        while self._idle_lanes:
            idle = self._idle_lanes.pop()
            if not idle.done():
                idle.set_result(None)
                return
        if len(self._lanes) < self._most_lanes() and not self._draining:
            lane = asyncio.ensure_future(self._lane())
            self._lanes.add(lane)
            lane.add_done_callback(self._lane_ended)

    def _most_lanes(self) -> int:
        """As many as the settings say; fewer for a while after the next hop turned one away."""
        return (
            self._settings.connections if time.monotonic() >= self._crowded_until else len(self._lanes) or 1
        )

    def _lane_ended(self, lane: asyncio.Task[None]) -> None:
        self._lanes.discard(lane)
        if self._waiting and not self._draining:
            self._wake_lane()

    async def _lane(self) -> None:
        """Deliver one after another on a connection of its own, until nothing comes for a while."""
        connection: Connection | None = None
        try:
            while (consignment := await self._next()) is not None:
                try:
                    connection = await self._attempt(consignment, connection)
                except _TurnedAway as error:
                    await self._put_back(error.rest)
                    return
                if self._unsettled >= _MOST_UNSETTLED:
                    self._settled.clear()
                    await self._settled.wait()
        finally:
            self._close(connection)

    def _close(self, connection: Connection | None) -> None:
        if connection is not None:
            self._open.discard(connection)
            connection.close()

    async def _put_back(self, consignment: Consignment) -> None:
        """To the head of the line, for a lane that has a connection; to the store if we stop."""
        if self._draining:
            await self._release([consignment])
            return
        self._waiting.appendleft(consignment)
        self._waiting_bytes += sum(map(len, consignment.message.body or ()))

    async def _next(self) -> Consignment | None:
        if not self._waiting and not self._draining:
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle_lanes.append(idle)
            try:
                await asyncio.wait_for(idle, _IDLE_SECONDS)
            except TimeoutError:
                pass
        if not self._waiting or self._draining:
            return None
        consignment = self._waiting.popleft()
        self._waiting_bytes -= sum(map(len, consignment.message.body or ()))
        return consignment

    async def _attempt(self, consignment: Consignment, connection: Connection | None) -> Connection | None:
        """Try every recipient once and hand over the outcomes; the connection if it is still good."""
        recipients = consignment.recipients
        for start in range(0, len(recipients), _MOST_RECIPIENTS):
            part = recipients[start : start + _MOST_RECIPIENTS]
            started = time.time_ns() // 1000
            try:
                connection = await self._ready(connection)
                ended = await self._transact(consignment.message, part, connection)
                host, tls = connection.host, connection.tls
            except _TurnedAway as error:
                error.rest = replace(consignment, recipients=recipients[start:])
                raise
            except NoConnection as error:
                connection = None
                ended, host, tls = [Ended(error.answer, error.phase)] * len(part), error.host, None
            except Exception as error:
                self._log("attempt failed", level="error", traceback=traceback.format_exc())
                failure = Failure(f"internal error: {type(error).__name__}")
                ended, host, tls = [Ended(failure, Phase.CONNECT)] * len(part), "-", None
                self._close(connection)
                connection = None
            self._settle(consignment, part, ended, started, host, tls)
        return connection

    async def _ready(self, connection: Connection | None) -> Connection:
        """The connection if it still serves, or a new one."""
        if connection is not None:
            if connection.is_usable and connection.sent < self._settings.messages_per_connection:
                return connection
            self._close(connection)
        self._down.check()
        dialled_at = time.monotonic()
        try:
            opened = await dial(self._settings.destination, self._settings.hostname, self._settings.limits)
        except NoConnection as error:
            if any(one.is_usable for one in self._open):
                self._crowded_until = time.monotonic() + _CROWDED_SECONDS
                raise _TurnedAway from error
            self._down.note(error, dialled_at)
            raise
        self._down.clear()
        self._open.add(opened)
        return opened

    async def _transact(
        self, message: QueuedMessage, part: Sequence[QueuedRecipient], connection: Connection
    ) -> list[Ended]:
        addresses = [recipient.address for recipient in part]
        transaction = Transaction(message.reverse_path, addresses, message.size_bytes, connection.offer)
        if not connection.offer.eight_bit_mime and await self._is_eight_bit(message):
            # No downgrade: the signature would break.  This next hop is the only one.
            return [Ended(_NO_8BITMIME, Phase.DATA)] * len(part)
        body = message.body if message.body is not None else self._queue.body(message)
        await connection.send(transaction, message.header + b"\r\n", body)
        return [result or _NOT_ANSWERED for result in transaction.results]

    async def _is_eight_bit(self, message: QueuedMessage) -> bool:
        async for piece in self._queue.body(message):
            if not piece.isascii():
                return True
        return False

    # ------------------------------------------------------------ settling

    def _settle(
        self,
        consignment: Consignment,
        part: Sequence[QueuedRecipient],
        ended: Sequence[Ended],
        started: int,
        host: str,
        tls: str | None,
    ) -> None:
        """Hand over the outcomes; the lane does not wait for them to be durable."""
        now = time.time_ns() // 1000
        settled = [
            self._outcome(consignment, recipient, one, started, now, host, tls)
            for recipient, one in zip(part, ended, strict=True)
        ]
        self._unsettled += len(settled)
        self._submit(settled)

    def _outcome(
        self,
        consignment: Consignment,
        recipient: QueuedRecipient,
        ended: Ended,
        started: int,
        now: int,
        host: str,
        tls: str | None,
    ) -> Settled:
        message = consignment.message
        verdict = classify(ended.answer, ended.phase)
        tried = Tried(
            recipient.attempts + 1, message.received_at, message.expires_at, recipient.delay_reported
        )
        outcome = decide(verdict, tried, now, self._settings.retry, self._jitter())
        attempt = Attempt(started, ended.phase, host, tls, ended.answer, now - started)
        # The settlement needs no body, and may wait long for a store that is away.
        return Settled(replace(message, body=None), recipient, consignment.lease, attempt, outcome)

    def _submit(self, settled: list[Settled]) -> None:
        future = self._queue.settle(settled)
        future.add_done_callback(lambda done: self._submitted(settled, done))

    def _submitted(self, settled: list[Settled], done: asyncio.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, StoreUnavailable):
            # We hold the lease as long as we live, so nobody else tries these meanwhile.
            asyncio.get_running_loop().call_later(_SETTLE_RETRY_SECONDS, self._submit, settled)
            return
        self._unsettled -= len(settled)
        self._settled.set()
        if error is not None:
            self._log("settlement failed", level="error", error=repr(error))
            return
        for one in settled:
            self._report(one)

    def _report(self, one: Settled) -> None:
        outcome, attempt = one.outcome, one.attempt
        event, level = "delivered", "info"
        due_at = status = None
        if isinstance(outcome, Deferred):
            event, due_at = "deferred", outcome.due_at
        elif isinstance(outcome, Bounced):
            event, status = "bounced", outcome.status
        self._log(
            event,
            level=level,
            id=ses_message_id(one.message.id),
            to=one.recipient.address,
            host=attempt.host,
            tls=attempt.tls,
            attempt=one.recipient.attempts + 1,
            phase=None if event == "delivered" else attempt.phase.value,
            status=status,
            reply=str(attempt.answer),
            next_s=None if due_at is None else (due_at - attempt.at) // 1_000_000,
            ms=attempt.duration_us // 1000,
        )


_NOT_ANSWERED = Ended(Failure("the transaction ended without an answer"), Phase.MAIL)
_NO_8BITMIME = Reply(554, "5.6.3", "8-bit message, and the next hop does not offer 8BITMIME (not asked)")
