"""One line of mail that goes the same way: consignments that wait, and the lanes that take them.

Lanes work on a line, each with a connection of its own that it keeps while there is mail; a lane goes on to
the next message while the last one is being settled.  How many there may be, the next hop's answers tell
(``concurrency``).  Only one lane dials as long as no connection stands, so that a next hop that is dead or
slow costs one lane.  While it is down, what waits is deferred with the same answer instead of asking it for
each.  Accounts take turns.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from relay.delivery.concurrency import Concurrency, State
from relay.delivery.dialogue import Ended, Transaction
from relay.delivery.route import Way
from relay.delivery.transport import Connection, NoConnection
from relay.delivery.turns import Flow, Turns, flow_of
from relay.maillog import Log
from relay.outcome.classify import Sign, sign_of
from relay.outcome.outcome import Failure, Phase, Reply
from relay.queue.values import Consignment, QueuedMessage, QueuedRecipient
from relay.submission.identifiers import ses_message_id

# RFC 5321 section 4.5.3.1.8: a server takes at least 100 recipients.
_MOST_RECIPIENTS = 100
_IDLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ReuseLimits:
    """How many connections one line has at most, and how long one of them serves."""

    connections: int = 20
    messages: int = 1000
    seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Tried:
    """What one transaction, or the want of a connection, did to some recipients of a message."""

    consignment: Consignment
    part: Sequence[QueuedRecipient]
    ended: Sequence[Ended]
    started: int
    host: str
    tls: str | None
    is_simulated: bool = False
    local: str | None = None


class Depot(Protocol):
    """What a line asks of the worker that it belongs to; ``is_short``: other lines wait for a lane."""

    log: Log

    async def dial(self, way: Way) -> Connection: ...
    def body(self, of: QueuedMessage) -> AsyncIterator[bytes]: ...
    def tried(self, tried: Tried) -> None: ...
    async def leased(self) -> bool: ...
    async def settled(self) -> None: ...
    async def release(self, consignments: Sequence[Consignment]) -> None: ...
    def taken(self, consignment: Consignment) -> None: ...
    def put_back(self, flow: Flow, consignment: Consignment) -> None: ...
    def may_begin(self, line: Line, flow: Flow) -> bool: ...
    def lane_ended(self, line: Line) -> None: ...
    def throttled(self, line: Line, why: NoConnection) -> None: ...
    def recovered(self, line: Line) -> None: ...
    @property
    def is_draining(self) -> bool: ...
    @property
    def is_short(self) -> bool: ...


class _TurnedAway(Exception):
    """The next hop takes mail on other connections, and not one more; ``rest`` is what was not tried."""

    rest: Consignment


# A lane that waits for mail, and until when by the loop's clock.
_Idle = tuple[asyncio.Future[bool], float]


class Line:
    """The mail of one way in one worker process."""

    def __init__(self, way: Way, limits: ReuseLimits, depot: Depot) -> None:
        self.way = way
        self.waiting: Turns[Flow, Consignment] = Turns()
        self.lanes: set[asyncio.Task[None]] = set()
        self.concurrency = Concurrency(limits.connections)
        self.is_throttled = False  # as the operator was told
        self._limits = limits
        self._depot = depot
        self._idle: deque[_Idle] = deque()  # who has waited longest is the first
        self._idle_timer: asyncio.TimerHandle | None = None
        self._open: set[Connection] = set()
        # What the next hop said when it went down; it holds as long as that.
        self._answer: NoConnection | None = None

    @property
    def is_over(self) -> bool:
        """Nothing is left to remember."""
        if self.waiting or self.lanes:
            return False
        return not self.concurrency.is_remembered(time.monotonic())

    @property
    def is_moving(self) -> bool:
        """Some connection stands."""
        return bool(self._open)

    # ------------------------------------------------------------ lanes

    def add(self, flow: Flow, consignment: Consignment) -> None:
        self.waiting.append(flow, consignment)
        self._wake(flow)

    def wake(self) -> None:
        """See to it that one lane more works on what waits, if one may."""
        if self.waiting:
            self._wake(self.waiting.next_key)

    def _wake(self, flow: Flow) -> None:
        if self._wake_idle() or self._depot.is_draining:
            return
        if len(self.lanes) < self._most_lanes() and self._depot.may_begin(self, flow):
            lane = asyncio.ensure_future(self._lane())
            self.lanes.add(lane)
            lane.add_done_callback(self._lane_ended)

    def _wake_idle(self, *, to_work: bool = True) -> bool:
        while self._idle:
            woken, _ = self._idle.pop()
            if not woken.done():
                woken.set_result(to_work)
                return True
        return False

    def dismiss_idle(self) -> bool:
        """End a lane that has nothing to do, for another line; whether there was one."""
        return not self.waiting and self._wake_idle(to_work=False)

    def dismiss_all_idle(self) -> None:
        while self._wake_idle(to_work=False):
            pass

    def _most_lanes(self) -> int:
        """As many as the next hop bears; one until a connection stands."""
        return self.concurrency.limit if self._open else 1

    def _lane_ended(self, lane: asyncio.Task[None]) -> None:
        self.lanes.discard(lane)
        self.wake()
        self._depot.lane_ended(self)

    async def _lane(self) -> None:
        """Deliver one after another on a connection of its own, until nothing comes for a while."""
        connection: Connection | None = None
        try:
            while (consignment := await self._next()) is not None:
                if not await self._depot.leased():
                    await self._depot.release([consignment])
                    return
                try:
                    connection = await self._attempt(consignment, connection)
                except _TurnedAway as error:
                    await self._put_back(error.rest)
                    return
                await self._depot.settled()
                if self._depot.is_short or len(self._open) > self.concurrency.limit:
                    return  # other lines wait for a lane, and this one queues up again; or it is throttled
        finally:
            self._close(connection)

    def _close(self, connection: Connection | None) -> None:
        if connection is not None:
            self._open.discard(connection)
            connection.close()

    async def _put_back(self, consignment: Consignment) -> None:
        """To the head of the line, for a lane that has a connection; to the store if we stop."""
        if self._depot.is_draining:
            await self._depot.release([consignment])
            return
        flow = flow_of(consignment.message)
        self._depot.put_back(flow, consignment)
        self.waiting.put_back(flow, consignment)

    async def _next(self) -> Consignment | None:
        while not self.waiting and not self._depot.is_draining:
            # Woken for nothing it waits on: a lane that was busy has come first.
            if not await self._woken():
                return None
        if self._depot.is_draining:
            return None
        consignment = self.waiting.popleft()
        self._depot.taken(consignment)
        return consignment

    async def _woken(self) -> bool:
        """Wait for mail; False if none came for a while, or the lane is wanted elsewhere."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[bool] = loop.create_future()
        self._idle.append((woken, loop.time() + _IDLE_SECONDS))
        if self._idle_timer is None:
            self._idle_timer = loop.call_later(_IDLE_SECONDS, self._dismiss_late)
        return await woken

    def _dismiss_late(self) -> None:
        """One timer for all lanes of the line: those that have waited long enough end."""
        loop = asyncio.get_running_loop()
        while self._idle and self._idle[0][1] <= loop.time():
            woken, _ = self._idle.popleft()
            if not woken.done():
                woken.set_result(False)
        next_at = self._idle[0][1] if self._idle else None
        self._idle_timer = loop.call_at(next_at, self._dismiss_late) if next_at is not None else None

    # ------------------------------------------------------------ one attempt

    async def _attempt(self, consignment: Consignment, connection: Connection | None) -> Connection | None:
        """Try every recipient once and hand over the outcomes; the connection if it is still good."""
        recipients = consignment.recipients
        for start in range(0, len(recipients), _MOST_RECIPIENTS):
            part = recipients[start : start + _MOST_RECIPIENTS]
            started = time.time_ns() // 1000
            local = None
            try:
                connection = await self._ready(connection)
                began_at = time.monotonic()
                ended = await self._transact(consignment.message, part, connection)
                host, tls, local = connection.host, connection.tls, connection.local
                self._learn(ended, host, began_at)
            except _TurnedAway as error:
                error.rest = replace(consignment, recipients=recipients[start:])
                raise
            except NoConnection as error:
                connection = None
                ended, host, tls = [Ended(error.answer, error.phase)] * len(part), error.host, None
            except Exception as error:
                self._depot.log(
                    "attempt failed",
                    level="error",
                    id=ses_message_id(consignment.message.id),
                    traceback=traceback.format_exc(),
                )
                failure = Failure(f"internal error: {type(error).__name__}")
                ended, host, tls = [Ended(failure, Phase.CONNECT)] * len(part), "-", None
                self._close(connection)
                connection = None
            self._depot.tried(Tried(consignment, part, ended, started, host, tls, local=local))
        return connection

    async def _ready(self, connection: Connection | None) -> Connection:
        """The connection if it still serves, or a new one."""
        if connection is not None:
            if connection.is_usable and not self._is_used_up(connection) and self._answer is None:
                return connection
            self._close(connection)
        self._check()
        dialled_at = time.monotonic()
        try:
            opened = await self._depot.dial(self.way)
        except NoConnection as error:
            self._not_let_in(error, dialled_at)
            raise
        self._answer = None
        self.concurrency.connected(time.monotonic())
        self._open.add(opened)
        for _ in range(min(len(self.waiting), self.concurrency.limit - len(self.lanes))):
            self.wake()  # those that waited for the first connection to stand
        return opened

    def _check(self) -> None:
        """Raise the answer while it holds; a fresh exception, which drags no former traceback along."""
        if self._answer is not None and self.concurrency.is_down(time.monotonic()):
            raise NoConnection(self._answer.answer, self._answer.phase, self._answer.host)

    def _not_let_in(self, error: NoConnection, dialled_at: float) -> None:
        """Note it; _TurnedAway if others are let in."""
        now = time.monotonic()
        standing = sum(one.is_usable for one in self._open)
        if standing:
            self.concurrency.turned_away(standing, now)
            self._stepped_down(error)
            raise _TurnedAway from error
        self.concurrency.unreachable(dialled_at, now)
        self._stepped_down(error)

    # ------------------------------------------------------------ what the next hop bears

    def _learn(self, ended: Sequence[Ended], host: str, began_at: float) -> None:
        """From the answers of one transaction."""
        is_taken = False
        for one in ended:
            sign = sign_of(one.answer, one.phase)
            if sign is Sign.OVERLOADED:
                self._refused(NoConnection(one.answer, one.phase, host), began_at)
                return
            is_taken = is_taken or sign is Sign.TAKES
        if not is_taken:
            self.concurrency.answered()
        elif self.concurrency.took(began_at):
            self._grow()

    def _grow(self) -> None:
        self.wake()
        if self.is_throttled and self.concurrency.state is State.OPEN:
            self.is_throttled = False
            self._depot.recovered(self)

    def _refused(self, error: NoConnection, began_at: float) -> None:
        self.concurrency.refused(began_at, time.monotonic())
        self._stepped_down(error)

    def _stepped_down(self, error: NoConnection) -> None:
        """Keep the answer if it is down, and say that it is throttled, once; what DNS said is the domain's
        trouble and no next hop's."""
        if self.concurrency.state is State.DOWN:
            self._answer = error
        if not self.is_throttled and sign_of(error.answer, error.phase) is Sign.OVERLOADED:
            self.is_throttled = True
            self._depot.throttled(self, error)

    def _is_used_up(self, connection: Connection) -> bool:
        age = time.monotonic() - connection.opened_at
        return connection.sent >= self._limits.messages or age >= self._limits.seconds

    async def _transact(
        self, message: QueuedMessage, part: Sequence[QueuedRecipient], connection: Connection
    ) -> list[Ended]:
        addresses = [recipient.address for recipient in part]
        transaction = Transaction(message.reverse_path, addresses, message.size_bytes, connection.offer)
        if not connection.offer.eight_bit_mime and await self._is_eight_bit(message):
            # No downgrade: the signature would break.
            return [Ended(_NO_8BITMIME, Phase.DATA)] * len(part)
        body = message.body if message.body is not None else self._depot.body(message)
        await connection.send(transaction, message.header + b"\r\n", body)
        return [result or _NOT_ANSWERED for result in transaction.results]

    async def _is_eight_bit(self, message: QueuedMessage) -> bool:
        async for piece in self._depot.body(message):
            if not piece.isascii():
                return True
        return False


_NOT_ANSWERED = Ended(Failure("the transaction ended without an answer"), Phase.MAIL)
_NO_8BITMIME = Reply(554, "5.6.3", "8-bit message, and the next hop does not offer 8BITMIME (not asked)")
