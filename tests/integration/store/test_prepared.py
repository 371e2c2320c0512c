"""Statements that go past SQLAlchemy: the same rows, the same transaction, the same words for trouble."""

from __future__ import annotations

import pytest
from sqlalchemy import bindparam, func, insert, select, text, update

from relay.store.engine import Store, StoreUnavailable
from relay.store.prepared import Prepared, RowInsert, one_flight
from relay.store.tables import body_chunk, meta

NAMES = Prepared(select(meta.c.name).where(meta.c.value == bindparam("value")).order_by(meta.c.name), "value")
# Given in another order than that of the statement's places.
CHANGE = Prepared(
    update(meta).where(meta.c.name == bindparam("of")).values(value=bindparam("to")), *("of", "to")
)
PUT = RowInsert(meta, "name", "value")
CHUNKS = RowInsert(body_chunk, "message_id", "seq", "data")


def names(store: Store, value: str) -> list[str]:
    with store.read() as connection:
        return [name for (name,) in NAMES(connection, value).fetchall()]


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 63, 100])
def test_every_row_arrives_as_it_is(store: Store, count: int):
    rows = [(1000 + number, number % 3, bytes([number, 0, 255]) * number) for number in range(count)]
    with store.write() as connection:
        CHUNKS(connection, rows)
    with store.read() as connection:
        found = connection.execute(select(body_chunk).order_by(body_chunk.c.message_id)).all()
    assert [(one.message_id, one.seq, bytes(one.data)) for one in found] == rows


def test_values_go_where_their_names_say(store: Store):
    with store.write() as connection:
        PUT(connection, [("a", "1"), ("b", "1"), ("c", "1")])
        assert CHANGE(connection, "a", "2").rowcount == 1
        assert CHANGE.many(connection, [("b", "2"), ("none", "2")]) == 1
    assert (names(store, "1"), names(store, "2")) == (["c"], ["a", "b"])


def test_each_row_tells_what_it_wrote(store: Store):
    once = Prepared(
        update(meta).where(meta.c.name == bindparam("of"), meta.c.value == "1").values(value=bindparam("to")),
        *("to", "of", "value_1"),
    )
    with store.write() as connection:
        PUT(connection, [("a", "1"), ("b", "1"), ("c", "1")])
        written = once.each(connection, [("2", name, "1") for name in ("a", "none", "c", "a")])
        assert written == [1, 0, 1, 0]
        assert once.each(connection, []) == []
    assert (names(store, "1"), names(store, "2")) == (["b"], ["a", "c"])


def test_each_goes_in_one_flight_with_what_is_said_before_and_after(store: Store):
    with store.write() as connection, one_flight(connection):
        PUT(connection, [("a", "1"), ("b", "1")])
        assert CHANGE.each(connection, [("a", "2"), ("none", "2"), ("b", "2")]) == [1, 0, 1]
        PUT(connection, [("c", "1")])
    assert (names(store, "1"), names(store, "2")) == (["c"], ["a", "b"])


def test_what_goes_wrong_in_one_of_each_leaves_nothing(store: Store):
    rename = Prepared(
        update(meta).where(meta.c.name == bindparam("of")).values(name=bindparam("to")), *("to", "of")
    )
    with store.write() as connection:
        PUT(connection, [("a", "x"), ("b", "x")])
    with pytest.raises(Exception, match=r"(?i)unique") as caught, store.write() as connection:
        rename.each(connection, [("c", "a"), ("c", "b")])
    assert not isinstance(caught.value, StoreUnavailable)
    assert names(store, "x") == ["a", "b"]


def test_they_are_part_of_the_transaction(store: Store):
    with pytest.raises(RuntimeError), store.write() as connection:
        connection.execute(insert(meta), [{"name": "by sqlalchemy", "value": "x"}])
        PUT(connection, [("by the driver", "x")])
        raise RuntimeError
    assert names(store, "x") == []


def test_what_is_said_first_begins_the_transaction(store: Store):
    with pytest.raises(RuntimeError), store.write() as connection:
        PUT(connection, [("by the driver", "x")])
        raise RuntimeError
    assert names(store, "x") == []


def test_what_goes_in_one_flight_is_read_within_it(store: Store):
    with store.write() as connection, one_flight(connection):
        PUT(connection, [("a", "1"), ("b", "1")])
        assert NAMES(connection, "1").fetchall() == [("a",), ("b",)]
        CHANGE(connection, "a", "2")
        CHANGE.many(connection, [("b", "3")])
    assert (names(store, "1"), names(store, "2"), names(store, "3")) == ([], ["a"], ["b"])


def test_what_goes_wrong_in_a_flight_leaves_nothing(store: Store):
    with pytest.raises(Exception, match=r"(?i)unique"), store.write() as connection, one_flight(connection):
        PUT(connection, [("a", "x")])
        PUT(connection, [("a", "y")])
        PUT(connection, [("b", "x")])
    assert names(store, "x") == []
    with store.write() as connection:
        PUT(connection, [("c", "x")])
    assert names(store, "x") == ["c"]


def test_what_goes_wrong_before_a_row_is_read_is_told_there_as_the_defect_it_is(store: Store):
    raised = pytest.raises(Exception, match=r"(?i)unique")
    with raised as caught, store.write() as connection, one_flight(connection):
        PUT(connection, [("a", "x"), ("a", "y")])
        CHANGE(connection, "a", "z")
        NAMES(connection, "x").fetchall()
    assert not isinstance(caught.value, StoreUnavailable)


def test_row_that_is_there_already_is_a_defect_and_not_trouble(store: Store):
    with pytest.raises(Exception, match=r"(?i)unique") as caught, store.write() as connection:
        PUT(connection, [("a", "x"), ("a", "y")])
    assert not isinstance(caught.value, StoreUnavailable)
    assert names(store, "x") == []


def test_connection_that_is_gone_is_trouble_and_the_next_one_works(postgresql):
    with postgresql.database() as url:
        store = Store(url)
        with pytest.raises(StoreUnavailable), store.write() as connection:
            pid = connection.execute(select(func.pg_backend_pid())).scalar_one()
            with store.read() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            PUT(connection, [("a", "x")])
        with store.write() as connection:
            PUT(connection, [("b", "x")])
        assert names(store, "x") == ["b"]
        store.dispose()
