"""How an engine goes about what is asked of it: the statements of some work, and the plan of each.

A plan is judged by what it reads.  A *full scan* reads a table, or an index of all of its rows, from one
end to the other; a partial index that holds only what waits is as small as what waits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Index, event

from relay.store import prepared
from relay.store.engine import Store
from relay.store.tables import metadata

# Indexes that hold only some rows of their table.
PARTIAL = frozenset(
    index.name
    for table in metadata.tables.values()
    for index in table.indexes
    if index.dialect_options["sqlite"]["where"] is not None
)
_EXPLAINED = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
_SQLITE_SCAN = re.compile(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?")
_POSTGRESQL_INDEXED = ("Index Scan", "Index Only Scan", "Bitmap Index Scan")


@dataclass(frozen=True, slots=True)
class Statement:
    """One that was executed, with the parameters of its first row; past SQLAlchemy if it ``is_raw``."""

    text: str
    parameters: Any
    is_raw: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What the engine says of a statement: each step in its own words, and what is read from end to end.

    ``scanned`` names tables, each with the index that was gone through, None for the table itself.
    """

    statement: str
    steps: tuple[str, ...]
    scanned: frozenset[tuple[str, str | None]]

    def full_scans(self, small: frozenset[str]) -> set[tuple[str, str | None]]:
        """What is gone through from end to end, but for ``small`` tables and partial indexes."""
        return {
            (table, index) for table, index in self.scanned if table not in small and index not in PARTIAL
        }


@contextmanager
def recorded(store: Store) -> Iterator[list[Statement]]:
    """The statements that the store executes within the block, each text once."""
    found: dict[str, Statement] = {}

    def note(_connection: Any, _cursor: Any, text: str, parameters: Any, _context: Any, many: bool) -> None:
        keep(Statement(text, parameters[0] if many else parameters))

    def keep(one: Statement) -> None:
        if one.text.lstrip().upper().startswith(_EXPLAINED):
            found.setdefault(one.text, one)

    engines = (store._reader, store._writer)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    statements: list[Statement] = []
    try:
        with said_to_driver(lambda text, row: keep(Statement(text, row, is_raw=True))):
            yield statements
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
        statements.extend(found.values())


@contextmanager
def said_to_driver(note: Callable[[str, Any], None]) -> Iterator[None]:
    """Every statement that goes past SQLAlchemy within the block, with the parameters of its first row."""

    class Told:
        def __init__(self, cursor: Any) -> None:
            self.cursor = cursor

        def execute(self, text: str, row: Any = ()) -> Any:
            note(text, row)
            return self.cursor.execute(text, row)

        def executemany(self, text: str, rows: Any, **options: Any) -> Any:
            note(text, rows[0])
            return self.cursor.executemany(text, rows, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.cursor, name)

    cursor_of = prepared.cursor_of
    prepared.cursor_of = lambda connection: Told(cursor_of(connection))
    try:
        yield
    finally:
        prepared.cursor_of = cursor_of


def explain(connection: Connection, statement: Statement) -> Plan:
    """The plan by which the engine would execute it now."""
    if connection.dialect.name == "sqlite":
        return _explain_sqlite(connection, statement)
    return _explain_postgresql(connection, statement)


def _explain_sqlite(connection: Connection, statement: Statement) -> Plan:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement.text}", statement.parameters)
    steps = tuple(str(row[3]) for row in rows)
    matches = [_SQLITE_SCAN.match(step) for step in steps]
    names = _aliases(statement.text)
    scanned = {(names.get(found[1], found[1]), found[2]) for found in matches if found}
    return Plan(statement.text, steps, frozenset(scanned & _of_tables(scanned)))


def _aliases(text: str) -> dict[str, str]:
    return {
        alias: table for table, alias in re.findall(r"\b(\w+) AS (\w+)", text) if table in metadata.tables
    }


def _of_tables(scanned: set[tuple[str, str | None]]) -> set[tuple[str, str | None]]:
    """Without the results of subqueries, which a step may scan as well."""
    return {(table, index) for table, index in scanned if table in metadata.tables}


def _explain_postgresql(connection: Connection, statement: Statement) -> Plan:
    text = f"EXPLAIN (FORMAT JSON) {statement.text}"
    if statement.is_raw:
        answer = prepared.cursor_of(connection)
        answer.execute(text, statement.parameters)
    else:
        answer = connection.exec_driver_sql(text, statement.parameters)
    ((found,),) = answer.fetchall()
    steps, scanned = [], set()
    for node, above in _nodes(found[0]["Plan"]):
        table, index = node.get("Relation Name"), node.get("Index Name")
        condition = node.get("Index Cond")
        steps.append(" ".join(filter(None, (node["Node Type"], table, index, condition))))
        # The first of an index is found at once.
        is_first_alone = above == "Limit" and "Filter" not in node
        if node["Node Type"] == "Seq Scan":
            scanned.add((table, None))
        elif node["Node Type"] in _POSTGRESQL_INDEXED and condition is None and not is_first_alone:
            scanned.add((table or _table_of(index), index))
    return Plan(statement.text, tuple(steps), frozenset(scanned))


def _nodes(node: dict[str, Any], above: str = "") -> Iterator[tuple[dict[str, Any], str]]:
    """Every step, with the kind of the one that asked for it."""
    yield node, above
    for below in node.get("Plans", ()):
        yield from _nodes(below, node["Node Type"])


def _table_of(index: str) -> str:
    """Bitmap scans name their index alone."""
    names = {one.name: table.name for table in metadata.tables.values() for one in _indexes(table)}
    return names[index]


def _indexes(table: Any) -> Iterator[Index]:
    yield from table.indexes
