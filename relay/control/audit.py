"""The audit as operators read it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from relay.control.ground import Ground, now
from relay.store import audit
from relay.store.audit import Entry as Entry  # the commands show it


def entries(ground: Ground, newer_than: timedelta | None, **filters: Any) -> list[Entry]:
    """The newest entries, the newest first; ``filters`` are those of ``store.audit.entries``."""
    since = 0 if newer_than is None else now() - int(newer_than.total_seconds() * 1_000_000)
    with ground.store.read() as connection:
        return audit.entries(connection, since=since, **filters)
