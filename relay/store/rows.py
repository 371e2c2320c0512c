"""Many rows in one statement, for what every message writes.

SQLAlchemy makes the driver's parameters of each row anew, which costs more than the database's own work on
it; and SQLite's driver lets go of the interpreter at each row, so that a busy event loop has the writer wait
for every one.  Here a statement is compiled once for each engine, rows are plain tuples in the order of its
columns, and one statement takes many of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Dialect, Table, bindparam, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg

Row = tuple[Any, ...]
# Rows of a statement.  Few different texts, so that all of them stay prepared in every connection.
_SIZES = (32, 16, 8, 4, 2, 1)
# Values by their place: "?" here, "%s" there.
_DIALECTS: dict[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}


class RowInsert:
    """``INSERT INTO table (columns)`` of rows that have a value for each of ``columns``."""

    def __init__(self, table: Table, *columns: str) -> None:
        self._table = table
        self._columns = columns
        self._text = cache(self._composed)

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> None:
        for some in _in_sizes(rows):
            text = self._text(connection.dialect.name, len(some))
            connection.exec_driver_sql(text, tuple(chain.from_iterable(some)))

    def _composed(self, engine: str, size: int) -> str:
        rows: list[dict[str, Any]] = [
            {name: bindparam(f"{name}_{row}") for name in self._columns} for row in range(size)
        ]
        return str(insert(self._table).values(rows).compile(dialect=_DIALECTS[engine]))


def _in_sizes(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in parts, each as large as the sizes allow."""
    start = 0
    while start < len(rows):
        size = next(size for size in _SIZES if size <= len(rows) - start)
        yield rows[start : start + size]
        start += size
