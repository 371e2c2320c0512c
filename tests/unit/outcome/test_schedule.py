"""When to try again and when to give up."""

from __future__ import annotations

import pytest

from relay.outcome.classify import Kind, Verdict
from relay.outcome.outcome import Bounced, Deferred, Delivered
from relay.outcome.schedule import RetryPolicy, Tried, decide, wait_microseconds
from relay.outcome.transitions import TRANSITIONS, IllegalTransition, State, check, is_final

SECOND = 1_000_000
LATER = Verdict(Kind.TEMPORARY, "4.4.2")
POLICY = RetryPolicy(first_seconds=60, max_seconds=3600, delay_notice_seconds=14_400)


def tried(attempts: int = 1, expires_at: int = 50_000 * SECOND, delay_reported: bool = False) -> Tried:
    return Tried(attempts, received_at=0, expires_at=expires_at, delay_reported=delay_reported)


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 60), (2, 120), (3, 240), (6, 1920), (7, 3600), (50, 3600), (10_000, 3600)]
)
def test_waits_double_up_to_the_longest(attempts, seconds):
    assert wait_microseconds(attempts, POLICY, jitter=0.5) == seconds * SECOND


def test_jitter_spreads_by_a_quarter():
    waits = [wait_microseconds(1, POLICY, jitter) / SECOND for jitter in (0.0, 0.999)]
    assert waits == [45, pytest.approx(75, abs=0.1)]


def test_what_the_verdict_says_for_good_is_done():
    assert decide(Verdict(Kind.DELIVERED, "2.0.0"), tried(), 0, POLICY, 0.5) == Delivered()
    assert decide(Verdict(Kind.PERMANENT, "5.1.1"), tried(), 0, POLICY, 0.5) == Bounced("5.1.1")


def test_mail_expires_by_age():
    now = 50_000 * SECOND
    assert decide(LATER, tried(attempts=5), now, POLICY, 0.5) == Bounced("4.4.2", expired=True)


def test_age_alone_expires_nothing_that_was_tried_once():
    outcome = decide(LATER, tried(attempts=1), 60_000 * SECOND, POLICY, 0.5)
    assert isinstance(outcome, Deferred)
    assert decide(LATER, tried(attempts=2), outcome.due_at, POLICY, 0.5) == Bounced("4.4.2", expired=True)


def test_last_attempt_is_at_expiry():
    now = 49_000 * SECOND
    assert decide(LATER, tried(attempts=20), now, POLICY, 0.5).due_at == 50_000 * SECOND


@pytest.mark.parametrize(
    ("now", "reported", "seconds", "notice"),
    [
        (14_399, False, 14_400, False),
        (14_400, False, 14_400, True),
        (20_000, True, 14_400, False),
        (20_000, False, 0, False),
    ],
)
def test_delay_is_told_once_after_its_time(now, reported, seconds, notice):
    policy = RetryPolicy(delay_notice_seconds=seconds)
    outcome = decide(LATER, tried(3, delay_reported=reported), now * SECOND, policy, 0.5)
    assert outcome.delay_notice is notice


class TestTransitions:
    def test_every_state_is_in_the_table(self):
        assert TRANSITIONS.keys() == set(State)

    @pytest.mark.parametrize("before", State)
    @pytest.mark.parametrize("after", State)
    def test_only_what_the_table_has_is_allowed(self, before, after):
        if after in TRANSITIONS[before]:
            assert check(before, after) is after
        else:
            with pytest.raises(IllegalTransition):
                check(before, after)

    def test_final_states_are_left_never(self):
        assert {state for state in State if is_final(state)} == {
            State.DELIVERED,
            State.BOUNCED,
            State.DROPPED,
        }

    def test_every_state_leads_to_an_end(self):
        for state in State:
            reached, new = {state}, {state}
            while new:
                new = {after for one in new for after in TRANSITIONS[one]} - reached
                reached |= new
            assert any(is_final(one) for one in reached)
