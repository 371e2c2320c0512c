"""Which columns hold sealed values, and how those come under another key.

``SEALED`` is the one list: whoever seals a column adds it here, with the place ``table/column/row``.  Besides
these only the check value in ``meta`` is sealed (``relay.store.installation``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, func, not_, or_, select, update

from relay.store.secrets import Secrets, mark
from relay.store.tables import credential, dkim_key, sns_key, subscription

SEALED: tuple[Column[Any], ...] = (
    credential.c.secret,
    dkim_key.c.private_key,
    subscription.c.secret,
    sns_key.c.private_key,
)
_BATCH = 200


def place(column: Column[Any], row_key: object) -> str:
    """Where a value of the column is sealed for: the row is named by its primary key."""
    return f"{column.table.name}/{column.name}/{row_key}"


def count(connection: Connection, key_id: str) -> int:
    """Values that are sealed under the key."""
    return _count(connection, lambda column: _is_under(column, key_id))


def count_others(connection: Connection, key_ids: Sequence[str]) -> int:
    """Values that are sealed under none of the keys."""
    return _count(connection, lambda column: not_(or_(*(_is_under(column, one) for one in key_ids))))


def _count(connection: Connection, condition: Any) -> int:
    queries = (select(func.count()).select_from(one.table).where(condition(one)) for one in SEALED)
    return sum(int(connection.execute(query).scalar_one()) for query in queries)


def _is_under(column: Column[Any], key_id: str) -> ColumnElement[bool]:
    begin = mark(key_id)
    return func.substr(column, 1, len(begin), type_=column.type) == begin


@dataclass(frozen=True, slots=True)
class Batch:
    """Values that were sealed anew; ``after`` is the last row's key, None at the end of the column."""

    changed: int
    after: Any


def reseal(connection: Connection, secrets: Secrets, key_id: str, column: Column[Any], after: Any) -> Batch:
    """Put the next values of a column under the key; KeyFileError if one cannot be opened."""
    [key] = column.table.primary_key.columns
    query = select(key, column).where(not_(_is_under(column, key_id))).order_by(key).limit(_BATCH)
    if after is not None:
        query = query.where(key > after)
    rows = connection.execute(query).all()
    changed = sum(_reseal(connection, secrets, key_id, column, row[0], bytes(row[1])) for row in rows)
    return Batch(changed, rows[-1][0] if len(rows) == _BATCH else None)


def _reseal(
    connection: Connection, secrets: Secrets, key_id: str, column: Column[Any], row_key: Any, sealed: bytes
) -> int:
    """1, or 0 if somebody has written the value since it was read."""
    [key] = column.table.primary_key.columns
    where = place(column, row_key)
    anew = secrets.seal(secrets.open(sealed, where), where, key_id)
    unchanged = key == row_key, column == sealed
    return connection.execute(update(column.table).where(*unchanged).values({column.name: anew})).rowcount
