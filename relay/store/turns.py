"""Work that is due now and then, and done by one process of all that share a store."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from relay.store.engine import Store
from relay.store.tables import meta

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def take(store: Store, name: str, at: int, every: int) -> bool:
    """Whether ``every`` microseconds have passed since somebody last took this turn: then it is ours."""
    with store.read() as connection:
        last = _last(connection, name)
    if last is not None and at < int(last) + every:
        return False
    with store.write() as connection:
        if last is None:
            insert = _INSERTS[connection.dialect.name](meta).values(name=name, value=str(at))
            return (
                connection.execute(insert.on_conflict_do_nothing().returning(meta.c.name)).first() is not None
            )
        ours = meta.c.name == name, meta.c.value == last
        return connection.execute(update(meta).where(*ours).values(value=str(at))).rowcount == 1


def _last(connection: Connection, name: str) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()
