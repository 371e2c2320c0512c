"""Statements that every batch of messages runs: compiled once, run by the driver itself.

SQLAlchemy's own execution of a compiled statement costs five times what SQLite's driver takes, and makes the
parameters of each row anew; and that driver lets go of the interpreter at each row, so that a busy event loop
has the writer wait for every one.  Here values are plain tuples, and one statement takes many rows.  What the
driver raises passes through as it is: ``Store`` knows it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any, Protocol, TypeVar

from sqlalchemy import (
    BindParameter,
    ColumnClause,
    Connection,
    Dialect,
    Table,
    bindparam,
    insert,
    literal_column,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.sql import ClauseElement

Row = tuple[Any, ...]
Value = TypeVar("Value")
# Rows of a statement.  Nearly every batch of up to 20 is one statement, because each costs a server what some
# rows do; yet few different texts, so that all of them stay prepared in every connection.
_SIZES = (32, 24, 20, 18, 16, 14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)
# Values by their place, as the servers themselves want them: psycopg would read a long statement with its own
# marks from end to end each time.
_DIALECTS: dict[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": psycopg.dialect(paramstyle="numeric_dollar"),  # type: ignore[no-untyped-call]
}


class Cursor(Protocol):
    """What both drivers' cursors have (PEP 249)."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, text: str, row: Row) -> Any: ...
    def fetchone(self) -> Row | None: ...
    def fetchall(self) -> list[Row]: ...


def cursor_of(connection: Connection) -> Any:
    """A cursor of the driver that takes the texts of this module."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        return driver.cursor()
    from psycopg import RawCursor  # an extra: not everybody has it

    return RawCursor(driver)


@contextmanager
def one_flight(connection: Connection) -> Iterator[None]:
    """What the statements here say goes to a server together, without waiting for each answer.

    Only for statements of this module: a row that is fetched waits for what was said before it, a
    ``rowcount`` tells nothing before the end.  What goes wrong is raised there, or where a row is fetched.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    with driver.pipeline():
        yield


class Prepared:
    """``names`` are the statement's parameters in the order in which values are given; it has no others.

    One statement for both engines, or one for each by its name.
    """

    def __init__(self, statement: ClauseElement | dict[str, Any], *names: str) -> None:
        self._statement = statement
        self._names = names
        self._compiled = cache(self._compile)

    def __call__(self, connection: Connection, *values: Any) -> Cursor:
        text, places = self._compiled(connection.dialect.name)
        row = values if places is None else tuple([values[place] for place in places])
        cursor: Cursor = cursor_of(connection)
        cursor.execute(text, row)
        return cursor

    def many(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Once for each row; gives the number of rows that were written."""
        text, rows = self._in_places(connection, rows)
        cursor = cursor_of(connection)
        cursor.executemany(text, rows)
        return int(cursor.rowcount)

    def each(self, connection: Connection, rows: Sequence[Row]) -> list[int]:
        """Once for each row; gives how many rows each of them wrote.

        Sooner than a call for each: one cursor does, and a server is told all of them together.
        """
        text, rows = self._in_places(connection, rows)
        cursor = cursor_of(connection)
        if connection.dialect.name == "sqlite":
            return [cursor.execute(text, row).rowcount for row in rows]
        cursor.executemany(text, rows, returning=True)
        return [result.rowcount for result in cursor.results()]

    def _in_places(self, connection: Connection, rows: Sequence[Row]) -> tuple[str, Sequence[Row]]:
        text, places = self._compiled(connection.dialect.name)
        return text, rows if places is None else [tuple([row[place] for place in places]) for row in rows]

    def _compile(self, engine: str) -> tuple[str, Sequence[int] | None]:
        """The text, and where the value of each of its places stands among those given; None: just so."""
        statement = self._statement[engine] if isinstance(self._statement, dict) else self._statement
        compiled: Any = statement.compile(dialect=_DIALECTS[engine])
        places = [self._names.index(name) for name in compiled.positiontup]
        return str(compiled), None if places == list(range(len(self._names))) else places


class RowInsert:
    """``INSERT INTO table (columns)`` of many rows, which have a value for each of ``columns``."""

    def __init__(self, table: Table, *columns: str) -> None:
        self._table = table
        self._columns = columns
        self._text = cache(self._compile)

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> None:
        for some in _in_sizes(rows):
            text = self._text(connection.dialect.name, len(some))
            cursor_of(connection).execute(text, tuple(chain.from_iterable(some)))

    def _compile(self, engine: str, size: int) -> str:
        statement = insert(self._table).values([self._parameters(row) for row in range(size)])
        return str(statement.compile(dialect=_DIALECTS[engine]))

    def _parameters(self, row: int) -> dict[str, BindParameter[Any]]:
        types = ((name, self._table.c[name].type) for name in self._columns)
        return {name: bindparam(f"{name}_{row}", type_=type_) for name, type_ in types}


def spelled(constant: str) -> ColumnClause[str]:
    """A word of ours in a statement's text, not bound: a planner must see that a partial index serves."""
    return literal_column(f"'{constant}'")


def padded(names: Sequence[Value]) -> list[Value]:
    """As many as the next power of two, the last one again and again: few different ``IN`` lists."""
    size = 1 << (len(names) - 1).bit_length()
    return [*names, *[names[-1]] * (size - len(names))]


def _in_sizes(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in parts, each as large as the sizes allow."""
    start = 0
    while start < len(rows):
        size = next(size for size in _SIZES if size <= len(rows) - start)
        yield rows[start : start + size]
        start += size
