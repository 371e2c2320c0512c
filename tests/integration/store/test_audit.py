"""The audit on both engines: one entry with its change, for good."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from relay.store import audit
from relay.store.changes import control_write
from relay.store.engine import Store


def test_entry_comes_and_goes_with_its_transaction(store: Store) -> None:
    with pytest.raises(RuntimeError), control_write(store, "cli:ann") as write:
        write.record("account:1", "CreateAccount", name="x")
        raise RuntimeError
    with control_write(store, "cli:ann") as write:
        write.record("account:2", "CreateAccount", name="y")
        write.note("queue", "HoldQueue")
    with store.read() as connection:
        found = audit.entries(connection)
    assert [(one.subject, one.actor, one.detail) for one in found] == [
        ("queue", "cli:ann", {}),
        ("account:2", "cli:ann", {"name": "y"}),
    ]


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_entry_is_there_for_good(store: Store, statement: str) -> None:
    with control_write(store, "cli:ann") as write:
        write.note("queue", "HoldQueue")
    with pytest.raises(Exception, match="append-only"), store.write() as connection:
        connection.execute(text(statement))
    with store.read() as connection:
        assert len(audit.entries(connection)) == 1
