"""The schema's revision: what each mismatch says, and what migrating does to an empty store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, inspect, text

from relay.store import schema
from relay.store.engine import Store, StoreError
from relay.store.tables import metadata


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/empty.db")
    yield store
    store.dispose()


def told(store: Store) -> str:
    with pytest.raises(StoreError) as caught:
        schema.require_current(store)
    return str(caught.value)


def set_revision(store: Store, revision: str) -> None:
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})


def test_empty_store_is_to_be_initialised(empty: Store) -> None:
    assert told(empty) == "the store is empty; run: relay init"


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


def test_migrating_an_empty_store_makes_every_table(empty: Store) -> None:
    assert schema.migrate(empty) == (None, schema.REVISION)
    schema.require_current(empty)
    with empty.read() as connection:
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}


def test_migration_that_fails_leaves_the_store_as_it_was(empty: Store) -> None:
    def refuse(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO alembic_version"):  # the last statement of all
            raise RuntimeError("no room")

    event.listen(empty._writer, "before_cursor_execute", refuse)
    with pytest.raises(RuntimeError, match="no room"):
        schema.migrate(empty)
    event.remove(empty._writer, "before_cursor_execute", refuse)
    with empty.read() as connection:
        assert inspect(connection).get_table_names() == []
    assert schema.migrate(empty) == (None, schema.REVISION)


def test_revisions_are_one_chain_without_a_fork() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [schema.REVISION]
    assert len(script.get_bases()) == 1
