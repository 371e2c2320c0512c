"""How much each subscription gets at once: what fails holds little, what answers gets all it takes."""

from __future__ import annotations

from relay.feedback.lanes import Lane, LaneState, Limits, plan, retry_seconds
from relay.outcome.schedule import RetryPolicy

POLICY = RetryPolicy(first_seconds=5, max_seconds=1200)
LIMITS = Limits(in_hand=800, unproven=100)
FRESH = LaneState()


def proven() -> LaneState:
    state = FRESH
    for _ in range(10):
        state = state.succeeded()
    return state


def failing(times: int, now: float = 0.0) -> LaneState:
    state = proven()
    for _ in range(times):
        state = state.failed(now, POLICY, 0.5)
    return state


def test_lane_widens_with_success_up_to_a_limit() -> None:
    widths, state = [], FRESH
    for _ in range(8):
        widths.append(state.width)
        state = state.succeeded()
    assert widths == [2, 4, 8, 16, 32, 64, 64, 64]


def test_lane_rests_after_some_failures_in_a_row_longer_each_time() -> None:
    assert failing(2).rests_until == 0
    assert [failing(times).rests_until for times in (3, 4, 5)] == [5, 10, 20]
    assert failing(30).rests_until == 1200
    assert failing(3).width == 1
    assert not failing(3).is_proven


def test_success_ends_the_rest() -> None:
    after = failing(9).succeeded()
    assert (after.failures, after.rests_until, after.width) == (0, 0, 2)


def test_lane_that_rests_gets_nothing_and_is_then_tried_with_one() -> None:
    lanes = {1: Lane(failing(3), 0)}
    assert plan([1], lanes, 4.9, LIMITS) == {}
    assert plan([1], lanes, 5.1, LIMITS) == {1: 1}


def test_lane_is_filled_when_half_of_it_is_gone() -> None:
    assert plan([1], {1: Lane(proven(), 33)}, 0, LIMITS) == {}
    assert plan([1], {1: Lane(proven(), 32)}, 0, LIMITS) == {1: 32}


def test_what_fails_leaves_room_for_the_others() -> None:
    hanging = {of: Lane(FRESH, 2) for of in range(50)}
    due = [*range(60), 99]
    room = plan(due, {**hanging, 99: Lane(proven(), 0)}, 0, LIMITS)
    assert room == {99: 64}, "the unproven have all their places, the proven have theirs"


def test_no_more_is_in_hand_than_the_limit() -> None:
    lanes = {of: Lane(proven(), 32) for of in range(24)}
    assert sum(plan(range(24), lanes, 0, LIMITS).values()) == 800 - 24 * 32


def test_the_longest_due_come_first() -> None:
    lanes = {of: Lane(proven(), 0) for of in (1, 2, 3)}
    assert plan([3, 1, 2], lanes, 0, LIMITS) == {3: 64, 1: 36}


def test_waits_double_to_the_longest_and_end_when_they_add_up() -> None:
    waits = []
    while (wait := retry_seconds(len(waits) + 1, POLICY, 86_400, 0.5)) is not None:
        waits.append(wait)
    assert waits[:9] == [5, 10, 20, 40, 80, 160, 320, 640, 1200]
    assert set(waits[8:]) == {1200}
    assert 86_400 <= sum(waits) < 86_400 + 2400


def test_first_attempt_is_never_the_last() -> None:
    assert retry_seconds(1, POLICY, 1, 0.0) is not None
