"""When mail is tried again, when the sender hears of the delay, and when we give up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.outcome.classify import Kind, Verdict
from relay.outcome.outcome import Bounced, Deferred, Delivered
from relay.outcome.schedule import RetryPolicy, Tried, decide, wait_microseconds

SECOND = 1_000_000
RECEIVED = 1_800_000_000 * SECOND
POLICY = RetryPolicy(first_seconds=60, max_seconds=3600, delay_notice_seconds=14_400)
FRESH = Tried(attempts=1, received_at=RECEIVED, expires_at=RECEIVED + 50_400 * SECOND, delay_reported=False)
TEMPORARY = Verdict(Kind.TEMPORARY, "4.4.2")
MIDDLE = 0.5  # jitter that changes nothing


def tried(attempts: int, **changed: object) -> Tried:
    return replace(FRESH, attempts=attempts, **changed)  # type: ignore[arg-type]


def deferred(of: Tried, after_seconds: int, policy: RetryPolicy = POLICY, jitter: float = MIDDLE) -> Deferred:
    outcome = decide(TEMPORARY, of, RECEIVED + after_seconds * SECOND, policy, jitter)
    assert isinstance(outcome, Deferred)
    return outcome


def test_delivered_is_final() -> None:
    assert decide(Verdict(Kind.DELIVERED, "2.0.0"), FRESH, RECEIVED, POLICY, 0.0) == Delivered()


def test_delivered_after_expiry_is_delivered() -> None:
    late = FRESH.expires_at + SECOND
    assert decide(Verdict(Kind.DELIVERED, "2.0.0"), tried(9), late, POLICY, 0.0) == Delivered()


def test_permanent_bounces_at_once_with_its_status() -> None:
    assert decide(Verdict(Kind.PERMANENT, "5.1.1"), FRESH, RECEIVED, POLICY, 0.0) == Bounced("5.1.1")


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(1, 60), (2, 120), (3, 240), (4, 480), (6, 1920), (7, 3600), (8, 3600), (1000, 3600), (10**9, 3600)],
)
def test_wait_doubles_up_to_the_longest(attempts: int, seconds: int) -> None:
    assert wait_microseconds(attempts, POLICY, MIDDLE) == seconds * SECOND


def test_longest_wait_also_bounds_the_first() -> None:
    assert wait_microseconds(1, RetryPolicy(first_seconds=600, max_seconds=60), MIDDLE) == 60 * SECOND


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 45), (0.5, 60), (0.75, 67.5), (0.9999999999, 75)])
def test_jitter_spreads_the_wait_from_75_to_125_percent(jitter: float, seconds: float) -> None:
    assert wait_microseconds(1, POLICY, jitter) == pytest.approx(seconds * SECOND, abs=1)


def test_next_attempt_is_counted_from_now() -> None:
    assert deferred(tried(1), 5).due_at == RECEIVED + 65 * SECOND


def test_last_attempt_is_at_expiry_not_after_it() -> None:
    assert deferred(tried(20), 50_400 - 100).due_at == FRESH.expires_at


def test_nothing_is_due_within_the_same_second() -> None:
    now = FRESH.expires_at - SECOND // 10
    outcome = decide(TEMPORARY, tried(20), now, POLICY, MIDDLE)
    assert isinstance(outcome, Deferred)
    assert outcome.due_at == now + SECOND


@pytest.mark.parametrize("after", [0, 1, 10**7])
def test_mail_that_fails_at_expiry_or_later_bounces_as_expired(after: int) -> None:
    now = FRESH.expires_at + after
    assert decide(TEMPORARY, tried(2), now, POLICY, MIDDLE) == Bounced("4.4.2", expired=True)


def test_mail_just_before_expiry_is_still_tried() -> None:
    assert isinstance(decide(TEMPORARY, tried(2), FRESH.expires_at - 1, POLICY, MIDDLE), Deferred)


def test_old_mail_is_tried_twice_before_it_expires() -> None:
    """We may have been down for longer than mail lives."""
    late = FRESH.expires_at + 86_400 * SECOND
    first = decide(TEMPORARY, tried(1), late, POLICY, MIDDLE)
    assert isinstance(first, Deferred)
    assert first.due_at > late
    assert decide(TEMPORARY, tried(2), first.due_at, POLICY, MIDDLE) == Bounced("4.4.2", expired=True)


@pytest.mark.parametrize(
    ("after_seconds", "changed", "policy", "told"),
    [
        pytest.param(14_399, {}, POLICY, False, id="not-yet"),
        pytest.param(14_400, {}, POLICY, True, id="now"),
        pytest.param(40_000, {}, POLICY, True, id="long-since"),
        pytest.param(40_000, {"delay_reported": True}, POLICY, False, id="once-only"),
        pytest.param(40_000, {}, replace(POLICY, delay_notice_seconds=0), False, id="never"),
    ],
)
def test_sender_is_told_once_that_mail_is_late(
    after_seconds: int, changed: dict[str, bool], policy: RetryPolicy, told: bool
) -> None:
    assert deferred(tried(5, **changed), after_seconds, policy).delay_notice is told


@given(
    st.integers(1, 100),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 10**5),
    st.integers(1, 10**5),
)
def test_deferred_mail_is_due_later_and_never_long_after_expiry(
    attempts: int, age: int, life: int, jitter: float, first: int, longest: int
) -> None:
    now = RECEIVED + age * SECOND
    of = tried(attempts, expires_at=RECEIVED + life * SECOND)
    outcome = decide(TEMPORARY, of, now, RetryPolicy(first, longest, 0), jitter)
    if isinstance(outcome, Bounced):
        assert outcome.expired
        assert age >= life
        assert attempts > 1
    else:
        assert isinstance(outcome, Deferred)
        assert now < outcome.due_at <= max(of.expires_at, now + SECOND)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10**4), st.integers(1, 10**6))
def test_mail_that_never_gets_through_bounces_in_the_end(jitter: float, first: int, life: int) -> None:
    of, now = tried(0, expires_at=RECEIVED + life * SECOND), RECEIVED
    for attempt in range(1, 3000):
        of = replace(of, attempts=attempt)
        outcome = decide(TEMPORARY, of, now, RetryPolicy(first, 3600, 0), jitter)
        if isinstance(outcome, Bounced):
            assert outcome == Bounced("4.4.2", expired=True)
            return
        assert isinstance(outcome, Deferred)
        now = outcome.due_at
    raise AssertionError("tried for ever")
