"""Limits, usage and now to Fits or Exceeded.

A message that would exceed the day is refused as a whole.  The rate lets a message pass while one
recipient's credit is left, whatever the message's size, and carries the debt on: a message to 50 at 14
a second is taken, and the next waits.  Mail to the mailbox simulator counts in the rate alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.quotas.window import ONE_RECIPIENT, UNLIMITED, Quota, Usage, credit_at
from relay.submission.answer import Reason


@dataclass(frozen=True, slots=True)
class Charge:
    """What a message asks of its account's quota.

    ``recipients`` count in the rate, ``in_24h`` of them in the day.
    """

    account_id: str
    quota: Quota
    recipients: int
    in_24h: int


@dataclass(frozen=True, slots=True)
class Fits:
    """It may be sent; ``usage`` is with it."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Exceeded:
    """It may not.  ``text`` is SES's, ``explanation`` says what is left; ``usage`` is without it."""

    reason: Reason
    text: str
    explanation: str
    usage: Usage


def check(charge: Charge, usage: Usage, at: int) -> Fits | Exceeded:
    """Whether a message fits into what its account has left at ``at``."""
    credit = credit_at(usage, charge.quota, at)
    now = Usage(usage.sent_24h, credit, at)
    if _exceeds_day(charge, usage):
        return _day_exceeded(charge, now)
    if charge.quota.max_send_rate == UNLIMITED:
        return Fits(Usage(usage.sent_24h + charge.in_24h, 0, at))
    if credit < ONE_RECIPIENT:
        return _rate_exceeded(charge, now)
    return Fits(Usage(usage.sent_24h + charge.in_24h, credit - charge.recipients * ONE_RECIPIENT, at))


def _exceeds_day(charge: Charge, usage: Usage) -> bool:
    limit = charge.quota.max_24h_send
    return limit != UNLIMITED and charge.in_24h > 0 and usage.sent_24h + charge.in_24h > limit


def _day_exceeded(charge: Charge, usage: Usage) -> Exceeded:
    limit = charge.quota.max_24h_send
    left = max(limit - usage.sent_24h, 0)
    explanation = f"{left} of {limit} recipients in 24 hours are left, the message has {charge.in_24h}"
    return Exceeded(Reason.DAILY_QUOTA, "Daily message quota exceeded.", explanation, usage)


def _rate_exceeded(charge: Charge, usage: Usage) -> Exceeded:
    rate = charge.quota.max_send_rate
    explanation = f"the rate is {rate} recipients a second"
    if rate > 0:
        wait_ms = -(-(ONE_RECIPIENT - usage.credit) // (rate * 1000))
        explanation += f"; the next message passes in {wait_ms / 1000:.1f} s"
    return Exceeded(Reason.SENDING_RATE, "Maximum sending rate exceeded.", explanation, usage)
