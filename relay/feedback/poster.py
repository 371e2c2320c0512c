"""Posts notifications: claims what is due, hands it to lanes, records what became of it.

Each subscription has a lane of its own, and what one does harms no other (``relay.feedback.lanes``).
Outcomes are recorded in batches; while the store is away they are kept.  What was posted but not recorded
when a process died is posted again, under the same id.
"""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from relay import metrics
from relay.feedback import caretaker, lanes
from relay.feedback.envelope import CONFIRMATION, UNSUBSCRIBED
from relay.feedback.lanes import LaneState, Limits
from relay.feedback.pace import Pace
from relay.feedback.posting import Lane, NotPosted, Post, Way
from relay.maillog import Log
from relay.outcome.schedule import RetryPolicy
from relay.queue.notifications import Notification, Notifications, Told, Waiting
from relay.queue.values import NewMessage, StoreUnavailable
from relay.store import topics
from relay.store.engine import Store
from relay.store.topics import Subscribed

_POLL_SECONDS = 0.5
# What one costs a worker, as measured (tests/bench/bench_notifications.py).
_POST_SECONDS = 0.0007
# So long outcomes gather, to be recorded in one statement.
_SETTLE_SECONDS = 0.02
_SETTLE_AT_ONCE = 200
_AWAY_SECONDS = 1.0
# A lane with nothing to do gives its connections back.
_IDLE_SECONDS = 60.0
_LOOK_SECONDS = 15.0
_BEHIND_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class PosterSettings:
    """``connections`` are posts to one subscription at once, ``connections_in_all`` those to all together."""

    region: str
    connections: int
    connections_in_all: int
    retry: RetryPolicy
    give_up_seconds: int
    dead_seconds: int


@dataclass(slots=True)
class _Open:
    """The lane of one subscription: what it has in hand, and how it fares."""

    way: Lane
    state: LaneState = field(default_factory=LaneState)
    waiting: deque[Post] = field(default_factory=deque)
    busy: set[asyncio.Task[None]] = field(default_factory=set)
    in_hand: int = 0
    has_more: bool = False
    used_at: float = 0.0


class Poster:
    """The poster of one worker process.  ``ways`` are the protocols by name; ``pace`` lets mail go first."""

    def __init__(
        self,
        settings: PosterSettings,
        store: Store,
        notifications: Notifications,
        ways: Mapping[str, Way],
        pace: Pace,
        log: Log,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._store = store
        self._notifications = notifications
        self._ways = ways
        self._pace = pace
        self._lag_seconds = 0.0
        self._log = log
        self._chance = chance
        self._open: dict[int, _Open] = {}
        # What waits in memory is a few times what is under way; the unproven are all under way.
        self._limits = Limits(settings.connections_in_all * 4, max(settings.connections_in_all // 2, 1))
        self._places = asyncio.Semaphore(settings.connections_in_all)
        # By id: what was handed over and is not recorded yet.  After a claim that failed there may be more.
        self._held: set[int] = set()
        self._is_unsure = False
        self._told: deque[Told] = deque()
        self._given_back: deque[Notification] = deque()
        self._claiming = asyncio.Lock()
        self._recording = asyncio.Lock()
        self._is_told = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._is_draining = False
        self._warned_at = float("-inf")

    def wake(self) -> None:
        """There is something new: do not wait for the next look."""
        self._is_wanted.set()

    async def run(self) -> None:
        """Post what is due, again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claim_all())
            group.create_task(self._record_all())
            group.create_task(self._look_after_all())

    async def drain(self, seconds: float) -> None:
        """Begin nothing more, let what is under way end, record it, give back the rest."""
        self._is_draining = True
        async with self._claiming:
            for lane in self._open.values():
                self._give_back(lane)
        busy = {task for lane in self._open.values() for task in lane.busy}
        if busy:
            await asyncio.wait(busy, timeout=seconds)
        try:
            await self._record()
        except StoreUnavailable:
            pass  # it stays ours and is reclaimed with us
        for lane in self._open.values():
            await lane.way.aclose()

    # ------------------------------------------------------------ claiming

    async def _claim_all(self) -> None:
        while True:
            self._is_wanted.clear()
            try:
                async with self._claiming:
                    count = 0 if self._is_draining else await self._claim()
            except StoreUnavailable:
                count = 0
            await asyncio.sleep(self._pace.rest_seconds(count * _POST_SECONDS, self._lag_seconds))
            if not count:
                try:
                    async with asyncio.timeout(_POLL_SECONDS):
                        await self._is_wanted.wait()
                except TimeoutError:
                    pass

    async def _claim(self) -> int:
        """Claim what there is room for; how many those were."""
        if self._is_unsure:
            await self._notifications.return_strays(frozenset(self._held))
            self._is_unsure = False
        at, waiting = await self._notifications.waiting()
        due = [one for one in waiting if one.due_at <= at]
        self._note_lag(at, due)
        if not due:
            return 0
        to = await asyncio.to_thread(self._load, [one.subscription_id for one in due])
        living = [one.subscription_id for one in due if _lives(to.get(one.subscription_id))]
        await self._bury([one.subscription_id for one in due if one.subscription_id not in living])
        open_ = {of: lanes.Lane(lane.state, lane.in_hand) for of, lane in self._open.items()}
        room = lanes.plan(living, open_, time.monotonic(), self._limits)
        if not room or self._is_draining:
            return 0
        claimed = await self._claimed(room)
        for one in claimed:
            self._hand(Post(one, to[one.subscription_id], self._settings.region))
        for of, asked in room.items():
            if of in self._open:
                self._open[of].has_more = sum(one.subscription_id == of for one in claimed) == asked
        return len(claimed)

    async def _claimed(self, room: Mapping[int, int]) -> list[Notification]:
        """What is ours now; we are unsure of it until we hear so."""
        self._is_unsure = True
        claimed = await self._notifications.claim(room)
        self._is_unsure = False
        self._held.update(one.id for one in claimed)
        return claimed

    def _load(self, ids: Sequence[int]) -> dict[int, Subscribed]:
        with self._store.read() as connection:
            return topics.load(connection, ids)

    async def _bury(self, ids: Sequence[int]) -> None:
        """What waits for a subscription that is told nothing more is dead."""
        for of in ids:
            count = await self._notifications.bury(of, "the subscription is dead, or gone")
            metrics.NOTIFICATIONS.labels("dead").inc(count)
            self._log("notifications dead", level="warning", subscription=of, count=count)

    def _note_lag(self, at: int, due: Sequence[Waiting]) -> None:
        """How long what is due waits for us; a lane that rests waits for its receiver."""
        now = time.monotonic()
        resting = {of for of, lane in self._open.items() if lane.state.rests_until > now}
        first = min((one.due_at for one in due if one.subscription_id not in resting), default=at)
        seconds = (at - first) / 1_000_000
        self._lag_seconds = seconds
        metrics.NOTIFICATION_LAG.set(seconds)
        if seconds > _BEHIND_SECONDS and now - self._warned_at > _BEHIND_SECONDS:
            self._warned_at = now
            self._log("notifications behind", level="warning", seconds=int(seconds))

    # ------------------------------------------------------------ posting

    def _hand(self, one: Post) -> None:
        """Give it to the lane of its subscription, and let the lane work."""
        of = one.to.row.id
        lane = self._open.get(of)
        if lane is None:
            lane = self._open[of] = _Open(self._ways[one.to.row.protocol].lane(self._settings.connections))
        lane.in_hand += 1
        lane.waiting.append(one)
        if len(lane.busy) < min(self._settings.connections, lane.state.width):
            lane.busy.add(asyncio.ensure_future(self._work(lane)))

    async def _work(self, lane: _Open) -> None:
        while lane.waiting:
            count = min(len(lane.waiting), lane.way.at_once)
            if these := self._wanted(lane, [lane.waiting.popleft() for _ in range(count)]):
                await self._try(lane, these)
        # In the same breath as the look at what waits: else something handed over between would lie there.
        if (task := asyncio.current_task()) is not None:
            lane.busy.discard(task)

    def _wanted(self, lane: _Open, these: Sequence[Post]) -> list[Post]:
        """Those that are to be posted; what becomes of the others is clear."""
        wanted = []
        for one in these:
            if _is_moot(one):
                self._end(lane, Told(one.notification))
            elif not _is_told(one):
                self._end(lane, Told(one.notification, f"the subscription is {one.to.row.state}"))
            else:
                wanted.append(one)
        return wanted

    async def _try(self, lane: _Open, these: Sequence[Post]) -> None:
        try:
            async with self._places:
                mail = await lane.way.post(these)
        except (NotPosted, StoreUnavailable) as error:
            self._failed(lane, these, str(error))
        except Exception as error:
            ids = " ".join(one.message_id for one in these)
            self._log("post failed", level="error", id=ids, traceback=traceback.format_exc())
            self._failed(lane, these, repr(error))
        else:
            self._posted(lane, these, mail)

    def _posted(self, lane: _Open, these: Sequence[Post], mail: NewMessage | None) -> None:
        lane.state = lane.state.succeeded()
        metrics.NOTIFICATIONS.labels("posted").inc(len(these))
        for one in these:
            self._log("notified", level="debug", id=one.message_id, subscription=one.subscription_arn)
            self._end(lane, Told(one.notification, mail=mail))

    def _failed(self, lane: _Open, these: Sequence[Post], error: str) -> None:
        """What failed together is one failure of the lane."""
        lane.state = lane.state.failed(time.monotonic(), self._settings.retry, self._chance())
        for one in these:
            self._end(lane, self._failure(one, error))
        if lane.state.rests_until > time.monotonic():
            self._give_back(lane)

    def _failure(self, one: Post, error: str) -> Told:
        settings, attempts = self._settings, one.notification.attempts + 1
        retry = lanes.retry_seconds(attempts, settings.retry, settings.give_up_seconds, self._chance())
        metrics.NOTIFICATIONS.labels("failed" if retry is not None else "dead").inc()
        self._log(
            "not notified",
            level="warning" if retry is None else "info",
            id=one.message_id,
            subscription=one.subscription_arn,
            endpoint=one.to.row.endpoint,
            error=error,
            attempts=attempts,
            retry_seconds=None if retry is None else int(retry),
        )
        return Told(one.notification, error, retry)

    def _end(self, lane: _Open, told: Told) -> None:
        lane.in_hand -= 1
        lane.used_at = time.monotonic()
        self._told.append(told)
        self._is_told.set()
        if lane.has_more and lane.in_hand <= lane.state.width // 2:
            self._is_wanted.set()

    def _give_back(self, lane: _Open) -> None:
        """What a lane has not begun is not for it to keep."""
        self._given_back.extend(one.notification for one in lane.waiting)
        lane.in_hand -= len(lane.waiting)
        lane.waiting.clear()
        self._is_told.set()

    # ------------------------------------------------------------ recording

    async def _record_all(self) -> None:
        while True:
            await self._is_told.wait()
            await asyncio.sleep(_SETTLE_SECONDS)
            self._is_told.clear()
            try:
                await self._record()
            except StoreUnavailable:
                self._is_told.set()
                await asyncio.sleep(_AWAY_SECONDS)

    async def _record(self) -> None:
        """Record every outcome there is; StoreUnavailable leaves it as it is."""
        async with self._recording:
            while self._told or self._given_back:
                told = list(self._told)[:_SETTLE_AT_ONCE]
                back = list(self._given_back)
                await self._notifications.settle(told)
                for _ in told:
                    self._held.discard(self._told.popleft().notification.id)
                await self._notifications.release(back)
                for _ in back:
                    self._held.discard(self._given_back.popleft().id)

    # ------------------------------------------------------------ looking after it

    async def _look_after_all(self) -> None:
        """Close lanes that nobody uses, end subscriptions that failed for too long, forget late ones."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS * (0.5 + self._chance()))
            await self._close_idle()
            try:
                seen = await asyncio.to_thread(caretaker.look, self._store, self._settings.dead_seconds)
            except StoreUnavailable:
                continue
            metrics.NOTIFICATIONS_WAITING.set(seen.waiting)
            for arn, error in seen.dead:
                self._log("subscription dead", level="warning", subscription=arn, error=error)
            for arn in seen.forgotten:
                self._log("subscription forgotten", subscription=arn)

    async def _close_idle(self) -> None:
        now = time.monotonic()
        idle = [
            of
            for of, lane in self._open.items()
            if not lane.in_hand and now > max(lane.used_at, lane.state.rests_until) + _IDLE_SECONDS
        ]
        for of in idle:
            await self._open.pop(of).way.aclose()


def _lives(to: Subscribed | None) -> bool:
    return to is not None and to.row.state != topics.DEAD


def _is_told(one: Post) -> bool:
    """Before it has confirmed an endpoint gets the question alone, and afterwards the good-bye alone."""
    handshake = {topics.PENDING: CONFIRMATION, topics.UNSUBSCRIBED: UNSUBSCRIBED}.get(one.to.row.state)
    return one.to.row.state == topics.CONFIRMED or one.notification.event_type == handshake


def _is_moot(one: Post) -> bool:
    """A question that was answered before it was asked, or taken back."""
    is_handshake = one.notification.event_type in (CONFIRMATION, UNSUBSCRIBED)
    return one.to.row.state == topics.CONFIRMED and is_handshake
