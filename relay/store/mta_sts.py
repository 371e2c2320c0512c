"""MTA-STS policies of recipient domains, kept over restarts and shared by all workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from relay.store.tables import mta_sts_policy


def load(connection: Connection, domain: str) -> dict[str, Any] | None:
    """The row of ``domain``, by column."""
    found = select(mta_sts_policy).where(mta_sts_policy.c.domain == domain)
    row = connection.execute(found).mappings().first()
    return dict(row) if row else None


def save(connection: Connection, row: Mapping[str, Any]) -> None:
    """Put ``row`` in the place of what its domain had; what has expired goes too."""
    connection.execute(delete(mta_sts_policy).where(mta_sts_policy.c.expires_at < row["fetched_at"]))
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    # Two workers may have fetched the same policy at the same moment.
    connection.execute(
        insert(mta_sts_policy).values(**row).on_conflict_do_update(index_elements=["domain"], set_=dict(row))
    )
