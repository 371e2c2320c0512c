"""Who shares the store: one name for each installation that lives, and where settings differ."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from relay.queue import nodes, workers
from relay.store.engine import Store
from relay.store.tables import worker

SHARED = {"[relay] hostname": "relay.example", "[bounce] domain": ""}


def enter(store: Store, node: str, installation: str, **shared: str) -> None:
    """Enter, with a worker that lives."""
    with store.write() as connection:
        nodes.enter(connection, node, installation, {**SHARED, **shared})
        workers.register(connection, node)


def differences(store: Store, node: str, **shared: str) -> list[tuple[str, str, str, str]]:
    with store.read() as connection:
        found = nodes.differences(connection, node, {**SHARED, **shared})
    return [(one.node, one.setting, one.theirs, one.ours) for one in found]


def fall_silent(store: Store, seconds: int) -> None:
    with store.write() as connection:
        connection.execute(update(worker).values(heartbeat_at=worker.c.heartbeat_at - seconds * 1_000_000))


def test_name_is_the_installations_whose_workers_live(store):
    enter(store, "a", "one")
    enter(store, "a", "one")
    enter(store, "b", "two")
    with pytest.raises(nodes.NameTaken):
        enter(store, "a", "two")


def test_machine_that_is_gone_may_be_replaced_under_its_name(store):
    enter(store, "a", "one")
    fall_silent(store, workers.LEASE_SECONDS + 1)
    enter(store, "a", "another")
    with pytest.raises(nodes.NameTaken):
        enter(store, "a", "one")


def test_stopped_node_leaves_its_name_at_once(store):
    enter(store, "a", "one")
    with store.write() as connection:
        workers.retire_node(connection, "a")
    enter(store, "a", "another")


def test_names_may_be_as_long_as_they_may_be(store):
    enter(store, "n" * 64, "one")
    enter(store, "n" * 63 + "m", "two")
    assert differences(store, "n" * 64) == []


def test_difference_is_told_of_every_other_node_that_is_present(store):
    enter(store, "a", "one")
    enter(store, "b", "two", **{"[bounce] domain": "b.example"})
    enter(store, "c", "three", **{"[relay] hostname": "c.example"})
    assert differences(store, "a") == [
        ("b", "[bounce] domain", "b.example", ""),
        ("c", "[relay] hostname", "c.example", "relay.example"),
    ]
    fall_silent(store, workers.LEASE_SECONDS + 1)
    assert differences(store, "a") == []


def test_what_a_node_said_last_counts(store):
    enter(store, "b", "two", **{"[bounce] domain": "b.example"})
    enter(store, "b", "two")
    assert differences(store, "a") == []


def test_node_of_a_release_that_says_nothing_differs_in_nothing(store):
    with store.write() as connection:
        workers.register(connection, "older")
    enter(store, "a", "one")
    assert differences(store, "a") == []
    enter(store, "older", "upgraded")
    assert differences(store, "a") == []


def test_setting_that_only_one_release_has_is_no_difference(store):
    enter(store, "b", "two", **{"[new] key": "x"})
    assert differences(store, "a") == []
