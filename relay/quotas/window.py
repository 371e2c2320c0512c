"""The arithmetic of the two windows.

The 24 hours are counted in minutes: a minute counts until it is wholly older than a day, so in no 24
hours is more sent than the quota.  The rate is a bucket that holds one second's quota, fills evenly and
may run into debt.  Instants are microseconds UTC, quotas and usage recipients (SES Developer Guide,
"Managing your sending quotas").
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60_000_000
_DAY_MINUTES = 24 * 60
# Credit is kept in millionths of a recipient: at a rate of n, it grows by n a microsecond.
ONE_RECIPIENT = 1_000_000
# As SES writes it: no limit.
UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class Quota:
    """Recipients in 24 hours and in a second; UNLIMITED is no limit."""

    max_24h_send: int
    max_send_rate: int


@dataclass(frozen=True, slots=True)
class QuotaDefaults:
    """The quotas of accounts that were given none of their own."""

    production: Quota
    sandbox: Quota

    def of(self, production: bool, max_24h_send: int | None, max_send_rate: int | None) -> Quota:
        """What holds for an account; None is the default."""
        default = self.production if production else self.sandbox
        return Quota(
            default.max_24h_send if max_24h_send is None else max_24h_send,
            default.max_send_rate if max_send_rate is None else max_send_rate,
        )


SES_QUOTAS = QuotaDefaults(production=Quota(50_000, 14), sandbox=Quota(200, 1))


@dataclass(frozen=True, slots=True)
class Usage:
    """What of a quota is used as of ``at``; ``credit`` is what the rate still allows, in millionths."""

    sent_24h: int
    credit: int
    at: int


def minute_of(at: int) -> int:
    """The minute since 1970."""
    return at // MINUTE


def first_minute(at: int) -> int:
    """The oldest minute of which something may lie within the 24 hours that end at ``at``."""
    return minute_of(at) - _DAY_MINUTES


def credit_at(usage: Usage, quota: Quota, at: int) -> int:
    """The credit that has grown until ``at``: never above one second's quota; no growth back in time."""
    rate = quota.max_send_rate
    return min(usage.credit + rate * max(at - usage.at, 0), rate * ONE_RECIPIENT)
