"""Accounts: who carries quota, usage and reputation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from relay.store.changes import ControlWrite, account_subject
from relay.store.tables import ALL_REASONS, account


@dataclass(frozen=True, slots=True)
class AccountRow:
    """``created_at`` is microseconds UTC; quotas count recipients, -1 is no limit, None the default.

    ``reputation_since`` is when the account was last resumed; see ``store.usage.records``.
    """

    account_id: str
    name: str
    production: bool
    paused: bool
    pause_reason: str | None
    max_24h_send: int | None
    max_send_rate: int | None
    created_at: int
    suppressed_reasons: str = ALL_REASONS
    reputation_since: int | None = None
    reputation_before: str | None = None
    reputation_status: str = "HEALTHY"


def add(write: ControlWrite, row: AccountRow) -> None:
    write.connection.execute(insert(account), [asdict(row)])
    write.record(account_subject(row.account_id), "CreateAccount", **asdict(row))


def change(write: ControlWrite, account_id: str, action: str, **values: Any) -> None:
    write.connection.execute(update(account).where(account.c.account_id == account_id).values(values))
    write.record(account_subject(account_id), action, **values)


def touch(connection: Connection, account_id: str, **values: Any) -> None:
    """Change what no cache holds: how the reputation was judged."""
    connection.execute(update(account).where(account.c.account_id == account_id).values(values))


def find(connection: Connection, account_id: str) -> AccountRow | None:
    row = connection.execute(select(account).where(account.c.account_id == account_id)).mappings().first()
    return AccountRow(**row) if row else None


def every(connection: Connection) -> list[AccountRow]:
    rows = connection.execute(select(account).order_by(account.c.account_id)).mappings()
    return [AccountRow(**row) for row in rows]
