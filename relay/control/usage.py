"""The bill: what each account sent in whose name, by day or month (R16)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from relay.control import accounts
from relay.control.ground import Ground
from relay.control.identities import checked_arn
from relay.outcome.reputation import Counts
from relay.store import usage
from relay.store.usage import Line

_EPOCH = date(1970, 1, 1)
Period = Literal["day", "month"]


@dataclass(frozen=True, slots=True)
class Bill:
    """One line: a period (``2026-11-25`` or ``2026-11``, UTC), who is billed, and in whose name it was."""

    period: str
    account_id: str
    identity_arn: str
    counts: Counts

    def as_record(self) -> dict[str, Any]:
        """What scripts read, in the order of a bill's columns."""
        key = {"period": self.period, "account_id": self.account_id, "identity_arn": self.identity_arn}
        return {**key, **asdict(self.counts)}


# The columns of a bill, also of one without a line.
COLUMNS = tuple(Bill("", "", "", Counts()).as_record())


def today() -> date:
    return datetime.now(UTC).date()


def bills(
    ground: Ground, first: date, last: date, by: Period, account_id: str | None, arn: str | None
) -> list[Bill]:
    """The lines from one day to another, both included; of one account or identity if it is named."""
    if account_id is not None:
        accounts.get(ground, account_id)
    if arn is not None:
        checked_arn(ground, arn)
    with ground.store.read() as connection:
        found = usage.lines(
            connection,
            ("day", "account_id", "identity_arn"),
            first=(first - _EPOCH).days,
            last=(last - _EPOCH).days,
            account_id=account_id,
            identity_arn=arn,
        )
        return _summed(found, by)


def _summed(lines: Iterable[Line], by: Period) -> list[Bill]:
    """By period, account and identity, in this order."""
    sums: dict[tuple[str, str, str], Counts] = {}
    for line in lines:
        day = (_EPOCH + timedelta(days=line.day or 0)).isoformat()
        key = day if by == "day" else day[:7], line.account_id or "", line.identity_arn or ""
        sums[key] = sums.get(key, Counts()) + line.counts
    return [Bill(*key, counts) for key, counts in sorted(sums.items())]
