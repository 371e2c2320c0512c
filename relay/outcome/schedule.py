"""When to try again, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass

from relay.outcome.classify import Kind, Verdict
from relay.outcome.outcome import Bounced, Deferred, Delivered, Outcome

# However old it is, mail is tried so often before it expires: age alone may be our own downtime.
_LEAST_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds throughout; ``delay_notice_seconds`` 0 tells nobody of a delay."""

    first_seconds: int = 60
    max_seconds: int = 3600
    delay_notice_seconds: int = 14_400


@dataclass(frozen=True, slots=True)
class Tried:
    """How often and since when.  Instants are microseconds UTC; ``attempts`` counts the one just made."""

    attempts: int
    received_at: int
    expires_at: int
    delay_reported: bool


def decide(verdict: Verdict, tried: Tried, now: int, policy: RetryPolicy, jitter: float) -> Outcome:
    """The outcome of an attempt.  ``jitter`` in [0, 1) spreads mail that failed together."""
    if verdict.kind is Kind.DELIVERED:
        return Delivered()
    if verdict.kind is Kind.PERMANENT:
        return Bounced(verdict.status)
    if now >= tried.expires_at and tried.attempts >= _LEAST_ATTEMPTS:
        return Bounced(verdict.status, expired=True)
    due_at = now + wait_microseconds(tried.attempts, policy, jitter)
    if tried.attempts >= _LEAST_ATTEMPTS - 1:
        due_at = max(min(due_at, tried.expires_at), now + 1_000_000)  # the last attempt is at expiry
    return Deferred(due_at, delay_notice=_is_late(tried, now, policy))


def wait_microseconds(attempts: int, policy: RetryPolicy, jitter: float) -> int:
    """Doubling from the first wait to the longest, then 75 % to 125 % of it."""
    doubled = policy.first_seconds * 2 ** min(attempts - 1, 30)
    return int(min(doubled, policy.max_seconds) * (0.75 + jitter / 2) * 1_000_000)


def _is_late(tried: Tried, now: int, policy: RetryPolicy) -> bool:
    if not policy.delay_notice_seconds or tried.delay_reported:
        return False
    return now - tried.received_at >= policy.delay_notice_seconds * 1_000_000
