"""Sealed values come under another key, all of them, while others write."""

from __future__ import annotations

import pytest
from sqlalchemy import LargeBinary, insert, select, update

from relay.store import sealed
from relay.store.engine import Store
from relay.store.secrets import KeyFileError, Secrets
from relay.store.tables import account, body_chunk, credential, dkim_key, identity, message, metadata

BOTH = Secrets({"1": b"a" * 32, "2": b"b" * 32}, "1")
NEW = Secrets({"2": b"b" * 32}, "2")
# Mail is not sealed: who can read the database reads the mail that waits in it.
PLAIN = {message.c.header, body_chunk.c.data}


def test_every_binary_column_is_known_to_be_sealed_or_plain() -> None:
    """Whoever adds one says which: what is sealed and not listed would be lost with the old key."""
    binary = {
        column
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert binary == PLAIN | set(sealed.SEALED)


def put(store: Store, count: int) -> None:
    """So many credentials, and a signing key."""
    with store.write() as connection:
        account_row = {"account_id": "111122223333", "name": "a", "production": True, "paused": False}
        connection.execute(insert(account), [{**account_row, "created_at": 1}])
        rows = [
            {
                "access_key_id": name,
                "account_id": "111122223333",
                "secret": BOTH.seal(name.encode(), sealed.place(credential.c.secret, name)),
                "active": True,
                "created_at": 1,
            }
            for name in (f"AKIA{number:04}" for number in range(count))
        ]
        connection.execute(insert(credential), rows)
        connection.execute(
            insert(identity),
            [
                {
                    "id": 7,
                    "account_id": "111122223333",
                    "name": "owner.example",
                    "type": "DOMAIN",
                    "verification_status": "SUCCESS",
                    "verification_token": "t",
                    "dkim_enabled": True,
                    "dkim_status": "SUCCESS",
                    "feedback_forwarding": True,
                    "created_at": 1,
                }
            ],
        )
        connection.execute(
            insert(dkim_key),
            [
                {
                    "id": 8,
                    "account_id": "111122223333",
                    "identity_id": 7,
                    "selector": "s",
                    "algorithm": "rsa-sha256",
                    "private_key": BOTH.seal(b"pem", sealed.place(dkim_key.c.private_key, 8)),
                    "public_record": "v=DKIM1",
                    "status": "signing",
                    "created_at": 1,
                }
            ],
        )


def counts(store: Store) -> tuple[int, int, int]:
    with store.read() as connection:
        return (
            sealed.count(connection, "1"),
            sealed.count(connection, "2"),
            sealed.count_others(connection, ["1", "2"]),
        )


def reseal(store: Store) -> list[int]:
    """How many values each batch changed."""
    changed = []
    for column in sealed.SEALED:
        after = None
        while True:
            with store.write() as connection:
                batch = sealed.reseal(connection, BOTH, "2", column, after)
            changed.append(batch.changed)
            if (after := batch.after) is None:
                break
    return changed


def test_all_values_come_under_the_new_key_in_bounded_batches(store):
    put(store, 450)
    assert counts(store) == (451, 0, 0)
    assert reseal(store) == [200, 200, 50, 1, 0, 0]
    assert counts(store) == (0, 451, 0)
    with store.read() as connection:
        for name, value in connection.execute(select(credential.c.access_key_id, credential.c.secret)):
            assert NEW.open(value, sealed.place(credential.c.secret, name)) == name.encode()
        pem = connection.execute(select(dkim_key.c.private_key)).scalar_one()
    assert NEW.open(pem, sealed.place(dkim_key.c.private_key, 8)) == b"pem"


def test_second_pass_changes_nothing(store):
    put(store, 3)
    assert sum(reseal(store)) == 4
    assert sum(reseal(store)) == 0


def test_keys_whose_names_begin_alike_are_told_apart(store):
    put(store, 1)
    other = Secrets({"11": b"c" * 32}, "11")
    with store.write() as connection:
        connection.execute(update(credential).values(secret=other.seal(b"x", "p")))
    assert counts(store) == (1, 0, 1)


def test_value_that_no_key_opens_stops_it_and_stays(store):
    put(store, 1)
    lost = Secrets({"9": b"z" * 32}, "9").seal(b"x", "p")
    with store.write() as connection:
        connection.execute(update(credential).values(secret=lost))
    with pytest.raises(KeyFileError, match="has no key '9'"):
        reseal(store)
    with store.read() as connection:
        assert bytes(connection.execute(select(credential.c.secret)).scalar_one()) == lost
