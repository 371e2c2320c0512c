"""Reputation: which numbers make which rate, and when it is too high."""

from __future__ import annotations

import pytest

from relay.outcome.reputation import Counts, Limits, Status, judge

LIMITS = Limits(
    window_days=14,
    minimum_recipients=100,
    bounce_warning=5,
    bounce_pause=10,
    complaint_warning=0.1,
    complaint_pause=0.5,
)


def fared(delivered: int, hard: int = 0, soft: int = 0, complaints: int = 0) -> Counts:
    return Counts(delivered=delivered, hard_bounces=hard, soft_bounces=soft, complaints=complaints)


@pytest.mark.parametrize(
    ("counts", "status", "reason"),
    [
        (fared(1000), Status.HEALTHY, ""),
        (fared(951, 49), Status.HEALTHY, ""),
        (
            fared(950, 50),
            Status.WARNING,
            "bounce rate 5.00 % of 1000 recipients in 14 days, the limit is 5 %",
        ),
        (
            fared(850, 100, 50),
            Status.PAUSE,
            "bounce rate 10.00 % of 1000 recipients in 14 days, the limit is 10 %",
        ),
        (fared(500, 0, 500), Status.HEALTHY, ""),  # soft bounces move nothing
        (
            fared(1000, complaints=1),
            Status.WARNING,
            "complaint rate 0.10 % of 1000 recipients in 14 days, the limit is 0.1 %",
        ),
        # The worse of two is told.
        (
            fared(900, 60, 40, complaints=5),
            Status.PAUSE,
            "complaint rate 0.50 % of 1000 recipients in 14 days, the limit is 0.5 %",
        ),
        (fared(0, 99), Status.HEALTHY, ""),  # too little to tell
        (
            fared(0, 100),
            Status.PAUSE,
            "bounce rate 100.00 % of 100 recipients in 14 days, the limit is 10 %",
        ),
    ],
)
def test_rates_are_held_against_the_limits(counts: Counts, status: Status, reason: str) -> None:
    found = judge(counts, LIMITS)
    assert (found.status, found.reason) == (status, reason)


def test_limit_of_nothing_is_no_limit() -> None:
    never = Limits(1, 1, 0, 0, 0, 0)
    assert judge(fared(1, 99, complaints=50), never).status is Status.HEALTHY


def test_account_without_mail_is_healthy() -> None:
    assert judge(Counts(), Limits(minimum_recipients=1)).status is Status.HEALTHY
    assert (Counts().bounce_percent, Counts().complaint_percent) == (0, 0)


def test_pause_is_off_unless_the_operator_wants_it() -> None:
    assert judge(fared(0, 100_000, complaints=100_000), Limits()).status is Status.WARNING


def test_window_ends_today() -> None:
    assert Limits(window_days=1).first_day(20_000) == 20_000
    assert Limits(window_days=14).first_day(20_000) == 19_987


def test_counts_add_up_and_back() -> None:
    one, two = Counts(1, 2, 3, 4, 5, 6, 7), Counts(10, 20, 30, 40, 50, 60, 70)
    assert one + two == Counts(11, 22, 33, 44, 55, 66, 77)
    assert one + two - two == one
