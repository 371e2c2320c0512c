"""The schema: that of the tables once migrated, and what is said to a store at another revision."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, inspect, text

from relay.store import schema
from relay.store.engine import Store, StoreError
from relay.store.tables import metadata
from tests.support.stores import PostgreSQL

SECONDS = 60.0


def told(store: Store) -> str:
    with pytest.raises(StoreError) as caught:
        schema.require_current(store)
    return str(caught.value)


def set_revision(store: Store, revision: str) -> None:
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})


def tables(store: Store) -> set[str]:
    with store.read() as connection:
        return set(inspect(connection).get_table_names())


# ---------------------------------------------------------------- which revision is served


def test_migrated_store_is_served(store: Store) -> None:
    schema.require_current(store)
    with store.read() as connection:
        assert schema.revision(connection) == schema.REVISION


def test_bare_store_is_to_be_initialised(bare_store: Store) -> None:
    assert told(bare_store) == "the store is empty; run: relay init"


def test_older_store_is_to_be_migrated(store: Store) -> None:
    set_revision(store, "0000")
    assert told(store) == (
        f"the store is at revision 0000, this release needs {schema.REVISION}; run: relay migrate"
    )


def test_newer_store_needs_a_newer_release(store: Store) -> None:
    set_revision(store, "9999")
    assert told(store) == (
        f"the store is at revision 9999, newer than this release knows ({schema.REVISION}); upgrade the relay"
    )


def test_revision_is_that_of_the_newest_file() -> None:
    files = (Path(schema.__file__).parent / "migrations" / "versions").glob("r*.py")
    assert max(file.name[1:5] for file in files) == schema.REVISION


def test_revisions_are_one_chain_without_a_fork() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [schema.REVISION]
    assert len(script.get_bases()) == 1


# ---------------------------------------------------------------- migrating


def test_migrating_a_bare_store_makes_every_table(bare_store: Store) -> None:
    assert schema.migrate(bare_store) == (None, schema.REVISION)
    schema.require_current(bare_store)
    assert tables(bare_store) == {*metadata.tables, "alembic_version"}


def test_migrating_again_changes_nothing(store: Store) -> None:
    before = described(store)
    assert schema.migrate(store) == (schema.REVISION, schema.REVISION)
    assert described(store) == before


def test_migration_that_fails_leaves_the_store_as_it_was(bare_store: Store) -> None:
    with at_the_last_statement(bare_store, _refuse), pytest.raises(RuntimeError, match="no room"):
        schema.migrate(bare_store)
    assert tables(bare_store) == set()
    assert schema.migrate(bare_store) == (None, schema.REVISION)


def _refuse(_connection: Connection) -> None:
    raise RuntimeError("no room")


@contextmanager
def at_the_last_statement(store: Store, do: Any) -> Iterator[None]:
    """Calls ``do`` when a migration is about to write down the revision it came to."""

    def look(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO alembic_version"):
            do(connection)

    event.listen(store._writer, "before_cursor_execute", look)
    yield
    event.remove(store._writer, "before_cursor_execute", look)


def test_newer_store_is_left_alone(store: Store) -> None:
    set_revision(store, "9999")
    with pytest.raises(StoreError, match="revision 9999, newer than this release knows"):
        schema.migrate(store)


def test_nodes_that_migrate_at_once_take_turns(bare_store: Store) -> None:
    """Whoever is second finds it done; none of them meets a table that another has just made."""
    url = bare_store.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(3), context.SimpleQueue()
    processes = [context.Process(target=_migrate, args=(url, start, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
        assert process.exitcode == 0
    found = [answers.get() for _ in processes]
    assert sorted(found, key=str) == [schema.REVISION, schema.REVISION, None]


def _migrate(url: str, start: Any, answers: Any) -> None:
    store = Store(url)
    with store.read() as connection:  # the connection is there, what follows is the migration alone
        connection.execute(text("SELECT 1"))
    start.wait(SECONDS)
    before, _ = schema.migrate(store)
    store.dispose()
    answers.put(before)


def test_migration_may_take_as_long_as_it_takes(postgresql: PostgreSQL) -> None:
    """An index on a large table is no statement that hangs."""
    limits = []

    def note(connection: Connection) -> None:
        cursor = connection.connection.cursor()
        cursor.execute("SHOW statement_timeout")
        limits.append(cursor.fetchone()[0])

    with postgresql.database(empty=True) as url, closing_store(url) as store:
        with at_the_last_statement(store, note):
            schema.migrate(store)
        assert limits == ["0"]
        with store.write() as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar() == "30s"


@contextmanager
def closing_store(url: str) -> Iterator[Store]:
    store = Store(url)
    try:
        yield store
    finally:
        store.dispose()


# ---------------------------------------------------------------- two ways to one schema


def test_migrated_schema_is_that_of_the_tables(store: Store, bare_store: Store) -> None:
    with bare_store.write() as connection:
        metadata.create_all(connection)
    fresh, migrated = described(bare_store), described(store)
    assert migrated.keys() == fresh.keys()
    assert migrated == fresh
    assert {name.split(".")[1] for name in fresh if name.startswith("table.")} == set(metadata.tables)


def test_comparison_would_notice_every_kind_of_difference(store: Store) -> None:
    before = described(store)
    for statement in (
        "ALTER TABLE worker ADD COLUMN extra INTEGER",
        "DROP INDEX ix_identity_folded",
        "DROP INDEX ix_outbox_due",
        "CREATE UNIQUE INDEX ix_more ON worker (node)",
    ):
        with store.write() as connection:
            connection.execute(text(statement))
        after = described(store)
        assert after != before, statement
        before = after


def test_bodies_are_stored_uncompressed_on_postgresql(postgresql: PostgreSQL) -> None:
    """The one thing that the tables do not say."""
    query = "SELECT attrelid::regclass || '.' || attname FROM pg_attribute WHERE attstorage = 'e'"
    with postgresql.database() as url, closing_store(url) as store, store.read() as connection:
        assert set(connection.execute(text(query)).scalars()) >= {"body_chunk.data", "message.header"}


def described(store: Store) -> dict[str, Any]:
    """Everything that the engine itself says of the schema, whatever order it was written in."""
    with store.read() as connection:
        found = dict(_sqlite(connection) if store.is_sqlite else _postgresql(connection))
    return {name: what for name, what in found.items() if "alembic_version" not in name}


def _sqlite(connection: Connection) -> Iterator[tuple[str, Any]]:
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    for kind, name, table, sql in connection.execute(text(query)):
        flat = " ".join(sql.split())
        if kind == "table":
            _, inside, options = re.fullmatch(r"(.*?)\((.*)\)(.*)", flat).groups()  # type: ignore[union-attr]
            columns = [row[1] for row in connection.execute(text(f"PRAGMA table_info({name})"))]
            yield f"table.{name}", (columns, sorted(_parts(inside)), options.strip())
        else:
            yield f"{kind}.{table}.{name}", flat


def _parts(text: str) -> list[str]:
    """Split at the commas that stand in no parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


_POSTGRESQL = {
    "column": """
        SELECT attrelid::regclass || '.' || attname, attnum, format_type(atttypid, atttypmod), attnotnull,
               attidentity, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
                             WHERE adrelid = attrelid AND adnum = attnum)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relkind = 'r' AND attnum > 0 AND NOT attisdropped AND relnamespace = 'public'::regnamespace""",
    "constraint": """
        SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "index": "SELECT tablename || '.' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "sequence": "SELECT sequencename, data_type FROM pg_sequences WHERE schemaname = 'public'",
    "table": "SELECT tablename, hastriggers FROM pg_tables WHERE schemaname = 'public'",
}


def _postgresql(connection: Connection) -> Iterator[tuple[str, Any]]:
    for kind, query in _POSTGRESQL.items():
        for name, *what in connection.execute(text(query)):
            yield f"{kind}.{name}", what
