"""Who changed what: an entry for each change of the control plane, in the transaction that made it.

The database itself refuses to change or remove one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, insert, select

from relay.store.tables import audit


@dataclass(frozen=True, slots=True)
class Entry:
    """One change.  ``at`` is microseconds UTC; ``detail`` holds what was given, and never a secret."""

    at: int
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


def add(
    connection: Connection, at: int, actor: str, action: str, subject: str, detail: Mapping[str, Any]
) -> None:
    row = {
        "at": at,
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": orjson.dumps(dict(detail)).decode(),
    }
    connection.execute(insert(audit), [row])


def entries(
    connection: Connection,
    *,
    since: int = 0,
    subject: str | None = None,
    action: str | None = None,
    actor: str | None = None,
    limit: int = 100,
) -> list[Entry]:
    """The newest entries, the newest first; ``subject`` is a part of the name of what was changed."""
    query = select(audit).where(audit.c.at >= since).order_by(audit.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject.contains(subject, autoescape=True))
    if action is not None:
        query = query.where(audit.c.action == action)
    if actor is not None:
        query = query.where(audit.c.actor == actor)
    return [
        Entry(row.at, row.actor, row.action, row.subject, orjson.loads(row.detail))
        for row in connection.execute(query)
    ]
