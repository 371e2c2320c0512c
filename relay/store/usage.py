"""What was sent in whose name, by day: the bill (R16), and what reputation is made of (R10).

Counted in the transaction that it tells of, so that no crash loses or doubles anything.  A line is of the
day (UTC) on which messages were accepted; what becomes of their recipients is counted on that same line,
however late it is known.  Each worker has lines of its own: no two wait for each other's, and their sum is
what is told.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import orjson
from sqlalchemy import BigInteger, ColumnElement, Connection, Row, cast, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from relay.outcome.reputation import Counts
from relay.store.prepared import Prepared
from relay.store.tables import account, usage_day

DAY = 86_400_000_000  # microseconds
_KEY = ("account_id", "day", "identity_arn", "worker_id")
_COUNTS = tuple(one.name for one in fields(Counts))
_COLUMNS = (*_KEY, *_COUNTS)


class Tally(NamedTuple):
    """What one message adds: whose it is, when it was accepted (microseconds UTC), and the counts."""

    account_id: str
    identity_arn: str
    accepted_at: int
    messages: int = 0
    recipients: int = 0
    bytes: int = 0
    delivered: int = 0
    hard_bounces: int = 0
    soft_bounces: int = 0
    complaints: int = 0


def _upsert(insert: Any) -> Any:
    statement = insert(usage_day)
    more = {name: usage_day.c[name] + statement.excluded[name] for name in _COUNTS}
    return statement.on_conflict_do_update(index_elements=[usage_day.c[name] for name in _KEY], set_=more)


_UPSERT = Prepared({"sqlite": _upsert(sqlite.insert), "postgresql": _upsert(postgresql.insert)}, *_COLUMNS)


def count(connection: Connection, worker_id: int, tallies: Iterable[Tally]) -> None:
    """Add what a batch of the worker's transactions tells, a statement for each line."""
    sums: dict[tuple[str, int, str], list[int]] = {}
    for one in tallies:
        key = one.account_id, one.accepted_at // DAY, one.identity_arn
        before = sums.get(key)
        sums[key] = list(one[3:]) if before is None else list(map(operator.add, before, one[3:]))
    for key, more in sums.items():
        _UPSERT(connection, *key, worker_id, *more)


class Late(NamedTuple):
    """A recipient that was delivered to, and of whom something was reported later."""

    account_id: str
    identity_arn: str
    accepted_at: int


def count_complaints(connection: Connection, worker_id: int, late: Iterable[Late]) -> None:
    """Each of these recipients complained; it was delivered to all the same."""
    count(connection, worker_id, (Tally(*one, complaints=1) for one in late))


def count_late_bounces(
    connection: Connection, worker_id: int, late: Iterable[Late], *, is_hard: bool
) -> None:
    """Each of these recipients was counted as delivered, and has bounced instead."""
    hard, soft = int(is_hard), int(not is_hard)
    tallies = (Tally(*one, delivered=-1, hard_bounces=hard, soft_bounces=soft) for one in late)
    count(connection, worker_id, tallies)


# ---------------------------------------------------------------- what was counted


@dataclass(frozen=True, slots=True)
class Line:
    """Counts summed up by what is not None."""

    counts: Counts
    day: int | None = None
    account_id: str | None = None
    identity_arn: str | None = None

    def as_record(self) -> dict[str, Any]:
        """What scripts read of a line over several days."""
        key = {"account_id": self.account_id, "identity_arn": self.identity_arn}
        return {
            **{name: value for name, value in key.items() if value is not None},
            **asdict(self.counts),
            "bounce_percent": self.counts.bounce_percent,
            "complaint_percent": self.counts.complaint_percent,
        }


def lines(
    connection: Connection,
    by: Sequence[str],
    *,
    first: int,
    last: int | None = None,
    account_id: str | None = None,
    identity_arn: str | None = None,
) -> Iterator[Line]:
    """Lines from day ``first`` to day ``last``; ``by`` names which of a line's keys tell them apart."""
    conditions: list[ColumnElement[bool]] = [usage_day.c.day >= first]
    if last is not None:
        conditions.append(usage_day.c.day <= last)
    if account_id is not None:
        conditions.append(usage_day.c.account_id == account_id)
    if identity_arn is not None:
        conditions.append(usage_day.c.identity_arn == identity_arn)
    key = [usage_day.c[name] for name in by]
    query = select(*key, *_sums()).where(*conditions).group_by(*key).order_by(*key)
    for row in connection.execute(query):
        yield Line(_counts(row), **{name: row._mapping[name] for name in by})


def _sums() -> list[Any]:
    return [func.sum(usage_day.c[name]).label(name) for name in _COUNTS]


def _counts(row: Row[Any]) -> Counts:
    return Counts(**{name: int(row._mapping[name]) for name in _COUNTS})  # PostgreSQL sums to Decimal


def day_total(connection: Connection, account_id: str, day: int) -> Counts:
    found = lines(connection, ("account_id",), first=day, last=day, account_id=account_id)
    return next((line.counts for line in found), Counts())


def records(connection: Connection, first: int, account_id: str | None = None) -> dict[str, Counts]:
    """By account, what reputation is judged on: from day ``first`` on, but not before it was last resumed.

    The day of a resume counts in part: what it had by then is taken off.
    """
    since = func.coalesce(account.c.reputation_since, 0)
    is_counted = (
        usage_day.c.day >= first,
        (cast(usage_day.c.day, BigInteger) + 1) * literal(DAY, BigInteger) > since,
    )
    query = (
        select(account.c.account_id, since.label("since"), account.c.reputation_before, *_sums())
        .join(usage_day, usage_day.c.account_id == account.c.account_id)
        .where(*is_counted)
        .group_by(account.c.account_id)
    )
    if account_id is not None:
        query = query.where(account.c.account_id == account_id)
    return {row.account_id: _without_before(row, first) for row in connection.execute(query)}


def _without_before(row: Row[Any], first: int) -> Counts:
    if row.reputation_before is None or row.since // DAY < first:
        return _counts(row)
    return _counts(row) - Counts(*orjson.loads(row.reputation_before))
