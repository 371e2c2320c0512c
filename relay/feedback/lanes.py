"""How much of what is due each subscription gets at once.  Pure.

Every subscription has a lane of its own.  A lane begins narrow, widens with each success, and narrows to one
when it fails; after some failures in a row it rests, longer each time, and is then tried with one.  So a
receiver that is quick gets all it takes, one that hangs or is down holds a place or two, and lanes that have
not proven themselves never take more than a share of all places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from relay.outcome.schedule import RetryPolicy, wait_microseconds

_FIRST_WIDTH = 2
_WIDEST = 64
# One that fails now and then is not resting all the time.
_PATIENT_FAILURES = 3
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class LaneState:
    """``width`` is how many it may have in hand, ``failures`` those in a row; times are monotonic seconds."""

    width: int = _FIRST_WIDTH
    failures: int = 0
    is_proven: bool = False
    rests_until: float = 0.0

    def succeeded(self) -> LaneState:
        return LaneState(min(self.width * 2, _WIDEST), is_proven=True)

    def failed(self, now: float, policy: RetryPolicy, jitter: float) -> LaneState:
        """``jitter`` in [0, 1) spreads lanes, and workers, that failed together."""
        failures = self.failures + 1
        if failures < _PATIENT_FAILURES:
            return replace(self, width=max(self.width // 2, 1), failures=failures)
        rest = wait_microseconds(failures - _PATIENT_FAILURES + 1, policy, jitter) / 1_000_000
        return LaneState(1, failures, is_proven=False, rests_until=now + rest)


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane with how many notifications it has in hand."""

    state: LaneState
    in_hand: int

    def room(self, now: float) -> int:
        """How many more it may take; none until half of them are gone, so that claims are large."""
        if now < self.state.rests_until or self.in_hand > self.state.width // 2:
            return 0
        return self.state.width - self.in_hand


@dataclass(frozen=True, slots=True)
class Limits:
    """``in_hand`` in all, and of these ``unproven`` in lanes that have not proven themselves."""

    in_hand: int
    unproven: int


def plan(due: Sequence[int], lanes: Mapping[int, Lane], now: float, limits: Limits) -> dict[int, int]:
    """How many to claim of each subscription in ``due``, the longest due first."""
    left = min(limits.in_hand - sum(lane.in_hand for lane in lanes.values()), _AT_ONCE)
    unproven = limits.unproven - sum(lane.in_hand for lane in lanes.values() if not lane.state.is_proven)
    room: dict[int, int] = {}
    for of in due:
        lane = lanes.get(of) or Lane(LaneState(), 0)
        count = min(lane.room(now), left)
        if not lane.state.is_proven:
            count = min(count, unproven)
            unproven -= max(count, 0)
        if count > 0:
            room[of] = count
            left -= count
    return room


def retry_seconds(attempts: int, policy: RetryPolicy, give_up_seconds: int, jitter: float) -> float | None:
    """The wait after so many attempts, None once the waits before it add up to ``give_up_seconds``.

    Attempts count, not age: what waited because we were down, or is posted again, has all its patience.
    """
    waited = 0
    for attempt in range(1, attempts):
        waited += min(policy.first_seconds * 2 ** min(attempt - 1, 30), policy.max_seconds)
        if waited >= give_up_seconds:
            return None
    return wait_microseconds(attempts, policy, jitter) / 1_000_000
