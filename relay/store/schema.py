"""The schema's revision: bring it up to date, or refuse to run on another.

Migrations expand before they contract, so that the previous release runs on the new schema while nodes
are upgraded one after another.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from relay.store.engine import Store, StoreError

# The newest revision in ``migrations/versions``; a test holds the two together.
REVISION = "0005"

# Any constant will do, as long as nobody else takes the same advisory lock in this database.
_MIGRATION_LOCK = 0x6D696772617465


def migrate(store: Store) -> tuple[str | None, str]:
    """Apply what is missing in one transaction; gives the revision before and after.

    Nodes that migrate one store at once take turns: the second finds it done.
    """
    with store.write() as connection:
        lock(connection)
        before = revision(connection)
        if before is not None and before > REVISION:
            raise StoreError(_newer(before))
        upgrade(connection, "head")
    return before, REVISION


def lock(connection: Connection) -> None:
    """Nobody else changes the schema until the transaction ends, and it may take its time."""
    if connection.dialect.name != "sqlite":  # SQLite has one writer anyway, and no limit
        connection.execute(text("SET LOCAL statement_timeout = 0"))  # an index on a large table is slow
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})


def upgrade(connection: Connection, to: str) -> None:
    """Bring the schema to a revision, or to the newest ("head"), within the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    # A percent sign in a path is no interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def revision(connection: Connection) -> str | None:
    """The revision the store is at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def require_current(store: Store) -> None:
    """StoreError, with what to run, unless the store is at our revision."""
    with store.read() as connection:
        found = revision(connection)
    if found is None:
        raise StoreError("the store is empty; run: relay init")
    if found < REVISION:
        raise StoreError(
            f"the store is at revision {found}, this release needs {REVISION}; run: relay migrate"
        )
    if found > REVISION:
        raise StoreError(_newer(found))


def _newer(found: str) -> str:
    return f"the store is at revision {found}, newer than this release knows ({REVISION}); upgrade the relay"
