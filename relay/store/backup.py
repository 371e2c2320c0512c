"""The rows of a store as text, and back: one form for both engines.

A row is a JSON array in the order of its table's columns, binary values in base64.  ``snapshot`` shows one
state of the store for as long as the reading takes, while others write.  A restore is one transaction: the
schema of the backup's revision, the rows, what is newer of the schema; it is there as a whole or not at all.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    LargeBinary,
    Table,
    column,
    func,
    insert,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.exc import DataError, IntegrityError

from relay.store import schema
from relay.store.engine import Store, StoreError
from relay.store.sealed import SEALED, place
from relay.store.secrets import Secrets
from relay.store.tables import metadata, worker

# Which processes run is true of the running store alone.
_LEFT_OUT = frozenset({"worker"})
# What a store may hold that nobody has used yet.
_OF_EVERY_STORE = frozenset({"meta", "worker"})
_ROWS, _LARGE_ROWS = 1000, 16
_INSERT_ROWS, _INSERT_BYTES = 500, 4 * 1024 * 1024


class BackupError(Exception):
    """The backup cannot be made or restored; the text says why."""


@dataclass(frozen=True, slots=True)
class TableForm:
    """How the rows of a table are written down: the names of all columns, and of the binary ones."""

    name: str
    columns: tuple[str, ...]
    binary: tuple[str, ...]


# ---------------------------------------------------------------- out of a store


@contextmanager
def snapshot(store: Store) -> Iterator[Connection]:
    """One state of the store, however long the reading takes; writers go on."""
    with store.read() as connection:
        if not store.is_sqlite:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        yield connection


def forms() -> list[TableForm]:
    """Every table that is kept, in an order in which the rows can be inserted."""
    return [
        TableForm(
            one.name,
            tuple(one.columns.keys()),
            tuple(column.name for column in one.columns if isinstance(column.type, LargeBinary)),
        )
        for one in metadata.sorted_tables
        if one.name not in _LEFT_OUT
    ]


def lines(connection: Connection, form: TableForm) -> Iterator[bytes]:
    """The rows of a table, a few at a time in memory."""
    of = metadata.tables[form.name]
    at_once = _LARGE_ROWS if form.binary else _ROWS
    query = select(of).order_by(*of.primary_key.columns).execution_options(yield_per=at_once)
    for row in connection.execute(query):
        yield orjson.dumps(list(row), default=_base64) + b"\n"


def _base64(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode()
    raise TypeError(type(value).__name__)


def holds_sealed(form: TableForm) -> bool:
    return bool(_sealed(form))


def sealed_under(form: TableForm, row: Sequence[Any]) -> set[str]:
    """The ids of the keys that a row's sealed values need; binary values are octets."""
    return {row[at].partition(b"\0")[0].decode() for at, _ in _sealed(form) if row[at] is not None}


def _sealed(form: TableForm) -> list[tuple[int, Any]]:
    """Position and column of what is sealed in a table."""
    return [
        (form.columns.index(one.name), one)
        for one in SEALED
        if one.table.name == form.name and one.name in form.columns
    ]


# ---------------------------------------------------------------- back


def parse(form: TableForm, line: bytes) -> list[Any]:
    """The row of a line; BackupError if it is none of that table."""
    try:
        row = orjson.loads(line)
        if not isinstance(row, list) or len(row) != len(form.columns):
            raise ValueError("not a row")
        for name in form.binary:
            at = form.columns.index(name)
            row[at] = None if row[at] is None else base64.b64decode(row[at], validate=True)
    except (ValueError, TypeError, binascii.Error):
        raise BackupError(f"table {form.name}: a line is no row of it") from None
    return row


def require_opens(form: TableForm, row: Sequence[Any], secrets: Secrets) -> None:
    """KeyFileError unless the key file opens every sealed value of the row."""
    for at, of in _sealed(form):
        [key] = of.table.primary_key.columns
        if row[at] is not None:
            secrets.open(row[at], place(of, row[form.columns.index(key.name)]))


def prepare(connection: Connection, revision: str) -> None:
    """An empty schema of that revision; StoreError if the store is in use already."""
    schema.lock(connection)
    found = schema.revision(connection)
    if found is None:
        schema.upgrade(connection, revision)
        return
    in_use = [name for name in metadata.tables if name not in _OF_EVERY_STORE and _has_rows(connection, name)]
    if in_use:
        raise StoreError("the store is not empty; name a new one in [store] url, or move the old one away")
    if connection.execute(select(worker.c.id).where(worker.c.running)).first() is not None:
        raise StoreError("a gateway runs on the store; stop it first")
    if found != revision:
        raise StoreError(
            f"the backup is of schema revision {revision}, the empty store of {found}: remove the store,"
            " it is made anew"
        )
    for name in _OF_EVERY_STORE:
        connection.execute(metadata.tables[name].delete())


def _has_rows(connection: Connection, name: str) -> bool:
    query: Any = select(literal_column("1")).select_from(table(name)).limit(1)
    return connection.execute(query).first() is not None


def load(connection: Connection, form: TableForm, rows: Iterable[tuple[list[Any], int]]) -> None:
    """Insert the rows of a table, each given with its size in octets."""
    columns = [column(name, LargeBinary() if name in form.binary else None) for name in form.columns]
    statement = insert(table(form.name, *columns))
    batch: list[dict[str, Any]] = []
    size = 0
    for row, size_bytes in rows:
        batch.append(dict(zip(form.columns, row, strict=True)))
        size += size_bytes
        if len(batch) >= _INSERT_ROWS or size >= _INSERT_BYTES:
            _insert(connection, form, statement, batch)
            batch, size = [], 0
    if batch:
        _insert(connection, form, statement, batch)


def _insert(connection: Connection, form: TableForm, statement: Any, batch: list[dict[str, Any]]) -> None:
    try:
        connection.execute(statement, batch)
    except (DataError, IntegrityError) as error:
        raise BackupError(f"table {form.name}: this database does not take a row: {error.orig}") from error


def require_count(connection: Connection, form: TableForm, rows: int) -> None:
    found = connection.execute(select(func.count()).select_from(table(form.name))).scalar_one()
    if found != rows:
        raise BackupError(f"table {form.name}: {found} rows arrived, the backup has {rows}")


def complete(connection: Connection) -> None:
    """What follows the rows: the newest schema, and numbers that go on where they were."""
    schema.upgrade(connection, "head")
    if connection.dialect.name == "sqlite":
        return  # SQLite counts on from the largest number by itself
    for one in metadata.sorted_tables:
        if one.autoincrement_column is not None:
            _continue(connection, one, one.autoincrement_column.name)


def _continue(connection: Connection, of: Table, name: str) -> None:
    largest = connection.execute(select(func.max(of.c[name]))).scalar()
    if largest is not None:
        sequence = func.pg_get_serial_sequence(of.name, name)
        connection.execute(select(func.setval(sequence, largest)))
