"""What accounts have used of their quotas: exact in sum over all workers and nodes.

``reserve`` runs within the transaction that makes the messages durable: a message that is not committed
is not counted, and none is committed that was not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite

from relay.quotas.check import Charge, Exceeded, Fits, check
from relay.quotas.window import Usage, first_minute, minute_of
from relay.store.prepared import Prepared, padded
from relay.store.tables import quota, usage_minute

_KEPT = (quota.c.sent_24h, quota.c.from_minute, quota.c.credit, quota.c.credit_at)


@cache
def _select_some(count: int) -> Prepared:
    """The rows of so many accounts, locked in one order, so that two workers never wait for each other."""
    names = [f"account_{number}" for number in range(count)]
    query = select(quota.c.account_id, *_KEPT).where(
        quota.c.account_id.in_([bindparam(name) for name in names])
    )
    return Prepared(query.order_by(quota.c.account_id).with_for_update(), *names)


_UPDATE = Prepared(
    update(quota)
    .where(quota.c.account_id == bindparam("account"))
    .values({column: bindparam(f"to_{column.name}") for column in _KEPT}),
    *(f"to_{column.name}" for column in _KEPT),
    "account",
)
_PAST = usage_minute.c.account_id == bindparam("account"), usage_minute.c.minute < bindparam("before")
_SUM_PAST = Prepared(
    select(func.coalesce(func.sum(usage_minute.c.recipients), literal_column("0"))).where(*_PAST),
    *("account", "before"),
)
_DELETE_PAST = Prepared(delete(usage_minute).where(*_PAST), "account", "before")


def _add(insert: Any) -> Any:
    """A minute's row, or more of it."""
    statement = insert(usage_minute)
    more = {"recipients": usage_minute.c.recipients + statement.excluded.recipients}
    return statement.on_conflict_do_update(
        index_elements=[usage_minute.c.account_id, usage_minute.c.minute], set_=more
    )


_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_BEGIN = Prepared(
    {name: insert(quota).on_conflict_do_nothing() for name, insert in _INSERTS.items()},
    *("account_id", "sent_24h", "from_minute", "credit", "credit_at"),
)
_ADD = Prepared(
    {name: _add(insert) for name, insert in _INSERTS.items()}, "account_id", "minute", "recipients"
)


@dataclass(frozen=True, slots=True)
class _Row:
    usage: Usage
    from_minute: int


def reserve(connection: Connection, charges: Sequence[Charge], at: int) -> list[Fits | Exceeded]:
    """Count the messages that fit, in their order; ``at`` is microseconds UTC by the store's clock."""
    rows = _locked(connection, {charge.account_id for charge in charges}, at)
    usages = {account_id: row.usage for account_id, row in rows.items()}
    spent: Counter[str] = Counter()
    answers = []
    for charge in charges:
        answer = check(charge, usages[charge.account_id], at)
        if isinstance(answer, Fits):
            usages[charge.account_id] = answer.usage
            spent[charge.account_id] += charge.in_24h
        answers.append(answer)
    _keep(connection, rows, usages)
    _count(connection, spent, minute_of(at))
    return answers


def sent_24h(connection: Connection, account_id: str, at: int) -> int:
    """Recipients that count against the account's day at ``at``."""
    query = select(func.coalesce(func.sum(usage_minute.c.recipients), 0)).where(
        usage_minute.c.account_id == account_id, usage_minute.c.minute >= first_minute(at)
    )
    return int(connection.execute(query).scalar_one())


def _locked(connection: Connection, accounts: Iterable[str], at: int) -> dict[str, _Row]:
    """The rows, ours until the transaction ends, without the minutes that no longer count."""
    wanted = sorted(accounts)
    found = _select(connection, wanted)
    new = [account_id for account_id in wanted if account_id not in found]
    if new:
        _begin(connection, new, at)
        found = _select(connection, wanted)
    return {account_id: _without_past(connection, account_id, row, at) for account_id, row in found.items()}


def _select(connection: Connection, accounts: Sequence[str]) -> dict[str, _Row]:
    names = padded(accounts)
    return {
        account_id: _Row(Usage(sent_24h, credit, credit_at), from_minute)
        for account_id, sent_24h, from_minute, credit, credit_at in _select_some(len(names))(
            connection, *names
        ).fetchall()
    }


def _begin(connection: Connection, accounts: Sequence[str], at: int) -> None:
    """Rows for accounts that send for the first time: nothing used, a full second's credit."""
    for one in accounts:
        _BEGIN(connection, one, 0, first_minute(at), 0, 0)


def _without_past(connection: Connection, account_id: str, row: _Row, at: int) -> _Row:
    first = first_minute(at)
    if first <= row.from_minute:
        return row
    ((gone,),) = _SUM_PAST(connection, account_id, first).fetchall()
    gone = int(gone)  # PostgreSQL sums to Decimal
    if gone:
        _DELETE_PAST(connection, account_id, first)
    usage = row.usage
    return _Row(Usage(usage.sent_24h - gone, usage.credit, usage.at), first)


def _keep(connection: Connection, rows: Mapping[str, _Row], usages: Mapping[str, Usage]) -> None:
    for account_id, row in rows.items():
        usage = usages[account_id]
        _UPDATE(connection, usage.sent_24h, row.from_minute, usage.credit, usage.at, account_id)


def _count(connection: Connection, spent: Mapping[str, int], minute: int) -> None:
    for account_id, count in spent.items():
        if count:
            _ADD(connection, account_id, minute, count)
