"""Reputation: what became of an account's mail, in percent, held against the operator's limits (R10).

As SES counts: only hard bounces make the bounce rate, simulator and suppressed recipients are in neither
number, and little mail says nothing.  The rates are of recipients whose fate is known; whoever is still
waited for is in neither number.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Counts:
    """What was accepted, and what became of its recipients; the order is that of the store's columns."""

    messages: int = 0
    recipients: int = 0
    bytes: int = 0
    delivered: int = 0
    hard_bounces: int = 0
    soft_bounces: int = 0
    complaints: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(one - less for one, less in zip(astuple(self), astuple(other), strict=True)))

    @property
    def settled(self) -> int:
        """Recipients whose fate is known."""
        return self.delivered + self.hard_bounces + self.soft_bounces

    @property
    def bounce_percent(self) -> float:
        return _percent(self.hard_bounces, self.settled)

    @property
    def complaint_percent(self) -> float:
        return _percent(self.complaints, self.settled)


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 4) if whole else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator fixed: rates in percent, 0 for never; less mail than the minimum tells nothing."""

    window_days: int = 14
    minimum_recipients: int = 1000
    bounce_warning: float = 5.0
    bounce_pause: float = 0.0
    complaint_warning: float = 0.1
    complaint_pause: float = 0.0

    def first_day(self, today: int) -> int:
        """The first day of the window that ends with ``today``; days since 1970, UTC."""
        return today - self.window_days + 1


class Status(StrEnum):
    """How an account stands; the worst comes last."""

    HEALTHY = "HEALTHY"
    WARNING = "WARNING"
    PAUSE = "PAUSE"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The status, and why it is not HEALTHY."""

    status: Status
    reason: str = ""


def judge(counts: Counts, limits: Limits) -> Judgement:
    """Hold the counts of a window against the limits."""
    if counts.settled < max(limits.minimum_recipients, 1):
        return Judgement(Status.HEALTHY)
    bounces, complaints = counts.bounce_percent, counts.complaint_percent
    for status, what, percent, limit in (
        (Status.PAUSE, "bounce", bounces, limits.bounce_pause),
        (Status.PAUSE, "complaint", complaints, limits.complaint_pause),
        (Status.WARNING, "bounce", bounces, limits.bounce_warning),
        (Status.WARNING, "complaint", complaints, limits.complaint_warning),
    ):
        if 0 < limit <= percent:
            return Judgement(
                status,
                f"{what} rate {percent:.2f} % of {counts.settled} recipients in {limits.window_days} days,"
                f" the limit is {limit:g} %",
            )
    return Judgement(Status.HEALTHY)
