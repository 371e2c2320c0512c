"""R9 as arithmetic: what fits into the day and into the second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.quotas.check import Charge, Exceeded, Fits, check
from relay.quotas.exhausted import Exhausted
from relay.quotas.window import MINUTE, ONE_RECIPIENT, SES_QUOTAS, UNLIMITED, Quota, Usage, first_minute
from relay.submission.answer import Reason

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
FRESH = Usage(sent_24h=0, credit=0, at=0)


def charge(recipients: int = 1, *, day: int = UNLIMITED, rate: int = UNLIMITED, simulated: int = 0) -> Charge:
    return Charge("222222222222", Quota(day, rate), recipients, recipients - simulated)


@pytest.mark.parametrize(
    ("sent", "asked", "reason"),
    [
        pytest.param(0, charge(200, day=200), None, id="the whole day at once"),
        pytest.param(0, charge(201, day=200), Reason.DAILY_QUOTA, id="one more than the day"),
        pytest.param(199, charge(1, day=200), None, id="the last one"),
        pytest.param(199, charge(2, day=200), Reason.DAILY_QUOTA, id="would exceed"),
        pytest.param(200, charge(1, day=200), Reason.DAILY_QUOTA, id="nothing left"),
        pytest.param(200, charge(5, day=200, simulated=5), None, id="simulator mail is not of the day"),
        pytest.param(199, charge(2, day=200, simulated=1), None, id="only the rest of it is"),
        pytest.param(300, charge(1, day=200), Reason.DAILY_QUOTA, id="quota lowered below what was sent"),
        pytest.param(10**9, charge(50), None, id="no limit"),
        pytest.param(0, charge(1, day=0), Reason.DAILY_QUOTA, id="nothing allowed"),
    ],
)
def test_day(sent: int, asked: Charge, reason: Reason | None) -> None:
    answer = check(asked, Usage(sent, 0, 0), NOW)
    assert (answer.reason if isinstance(answer, Exceeded) else None) == reason
    if isinstance(answer, Fits):
        assert answer.usage.sent_24h == sent + asked.in_24h


@pytest.mark.parametrize(
    ("credit", "recipients", "left"),
    [
        pytest.param(14, 1, 13, id="one of a second's quota"),
        pytest.param(1, 50, -49, id="passes while any is left, and the debt is carried on"),
        pytest.param(0, 1, None, id="nothing left"),
        pytest.param(-49, 1, None, id="in debt"),
    ],
)
def test_rate(credit: int, recipients: int, left: int | None) -> None:
    answer = check(charge(recipients, rate=14), Usage(0, credit * ONE_RECIPIENT, NOW), NOW)
    if left is None:
        assert isinstance(answer, Exceeded)
        assert answer.reason is Reason.SENDING_RATE
    else:
        assert isinstance(answer, Fits)
        assert answer.usage.credit == left * ONE_RECIPIENT


def test_simulator_mail_counts_in_the_rate() -> None:
    answer = check(charge(3, rate=14, simulated=3), Usage(0, 14 * ONE_RECIPIENT, NOW), NOW)
    assert isinstance(answer, Fits)
    assert answer.usage == Usage(0, 11 * ONE_RECIPIENT, NOW)


def test_debt_of_five_at_one_a_second_is_five_seconds_of_refusals() -> None:
    answer = check(charge(5, rate=1), FRESH, NOW)
    assert isinstance(answer, Fits)
    waits = [
        second
        for second in range(8)
        if isinstance(check(charge(1, rate=1), answer.usage, NOW + second * SECOND), Fits)
    ]
    assert waits == [5, 6, 7]


def test_refusals_say_what_is_left_and_when_to_come_again() -> None:
    day = check(charge(5, day=200), Usage(197, 0, 0), NOW)
    rate = check(charge(1, rate=14), Usage(0, -14 * ONE_RECIPIENT, NOW), NOW)
    none = check(charge(1, rate=0), FRESH, NOW)
    assert isinstance(day, Exceeded)
    assert isinstance(rate, Exceeded)
    assert isinstance(none, Exceeded)
    assert (day.text, day.explanation) == (
        "Daily message quota exceeded.",
        "3 of 200 recipients in 24 hours are left, the message has 5",
    )
    assert (rate.text, rate.explanation) == (
        "Maximum sending rate exceeded.",
        "the rate is 14 recipients a second; the next message passes in 1.1 s",
    )
    assert none.explanation == "the rate is 0 recipients a second"


def test_clock_that_went_back_gives_no_credit_and_takes_none() -> None:
    used = Usage(0, 2 * ONE_RECIPIENT, NOW)
    answer = check(charge(1, rate=14), used, NOW - 3600 * SECOND)
    assert isinstance(answer, Fits)
    assert answer.usage.credit == ONE_RECIPIENT
    later = check(charge(1, rate=14), answer.usage, NOW - 3599 * SECOND)
    assert isinstance(later, Fits)
    assert later.usage.credit == 13 * ONE_RECIPIENT


def test_defaults_are_sess_and_an_account_may_have_its_own() -> None:
    assert SES_QUOTAS.of(True, None, None) == Quota(50_000, 14)
    assert SES_QUOTAS.of(False, None, None) == Quota(200, 1)
    assert SES_QUOTAS.of(False, 7, UNLIMITED) == Quota(7, UNLIMITED)


_STEPS = st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 50)), min_size=1, max_size=60)


@given(_STEPS, st.integers(1, 20))
def test_no_span_of_time_sees_more_than_its_rate_a_burst_and_one_message(
    steps: list[tuple[int, int]], rate: int
) -> None:
    usage, at, passed = FRESH, NOW, []
    for wait, recipients in steps:
        at += wait
        answer = check(charge(recipients, rate=rate), usage, at)
        if isinstance(answer, Fits):
            usage = answer.usage
            passed.append((at, recipients))
    for first, (began, _) in enumerate(passed):
        total = 0
        for ended, recipients in passed[first:]:
            assert total <= rate * ((ended - began) / SECOND + 1)  # before this one: the burst and the growth
            total += recipients


@given(st.integers(0, 10**18), st.integers(0, 24 * 60 * MINUTE))
def test_what_lies_within_24_hours_is_counted(at: int, age: int) -> None:
    assert (at + 24 * 60 * MINUTE - age) // MINUTE >= first_minute(at + 24 * 60 * MINUTE)


class TestExhausted:
    def test_refuses_what_is_known_to_exceed(self) -> None:
        known = Exhausted()
        known.remember("222222222222", Usage(200, 0, NOW), at=5)
        assert isinstance(known.check(charge(1, day=200), at=6), Exceeded)

    def test_lets_a_message_through_once_the_rate_allows_it(self) -> None:
        known = Exhausted()
        known.remember("222222222222", Usage(0, -ONE_RECIPIENT, NOW), at=0)
        assert known.check(charge(1, rate=1), at=1_999_999) is not None
        assert known.check(charge(1, rate=1), at=2_000_000) is None

    def test_forgets_the_day_at_the_turn_of_the_minute(self) -> None:
        known = Exhausted()
        known.remember("222222222222", Usage(200, 0, NOW - NOW % MINUTE), at=0)
        assert known.check(charge(1, day=200), at=MINUTE - 1) is not None
        assert known.check(charge(1, day=200), at=MINUTE) is None

    def test_goes_by_the_quota_of_the_moment(self) -> None:
        known = Exhausted()
        known.remember("222222222222", Usage(200, 0, NOW), at=0)
        assert known.check(charge(1, day=300), at=1) is None

    def test_knows_nothing_of_other_accounts(self) -> None:
        known = Exhausted()
        known.remember("333333333333", Usage(200, 0, NOW), at=0)
        assert known.check(charge(1, day=200), at=1) is None
