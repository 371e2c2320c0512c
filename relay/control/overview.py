"""What api, console and cli show of single messages."""

from __future__ import annotations

from typing import Any

from relay.queue import views
from relay.store.engine import Store


def find(store: Store, key: str) -> dict[str, Any] | None:
    """All that is kept of a message: an accepted one by its id, a refused one by its reference."""
    with store.read() as connection:
        return views.find_message(connection, key) or views.find_refusal(connection, key)
