"""What is asked of the store again and again reads no big table from end to end, on either engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from relay.outcome.transitions import State
from relay.queue import views
from relay.queue.steering import Selection
from relay.queue.values import Lease
from relay.store.engine import Store
from relay.store.secrets import Secrets, create_key_file, load_key_file
from relay.store.tables import metadata
from tests.support.full_store import (
    Letter,
    Tenants,
    fill_history,
    fill_queue,
    fill_tenants,
    settle_down,
)
from tests.support.plans import Plan, Statement, explain, recorded
from tests.support.recurring import Mail, directory_misses, polls, register
from tests.support.stores import ENGINES

TENANTS = Tenants(accounts=250, identities=1_000)
QUEUED, HELD, DELIVERED = 1_000, 2_000, 6_000
# A table with fewer rows than this is none of those that grow.
SMALL_ROWS = 200
EVERY_ACCOUNT = "reputation of all accounts"


@pytest.fixture(scope="module", params=ENGINES)
def full(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, Secrets]]:
    """A store with something of everything, more than an engine would rather read whole."""
    directory = tmp_path_factory.mktemp("full")
    create_key_file(directory / "relay.key")
    secrets = load_key_file(directory / "relay.key")
    if request.param == "sqlite":
        yield from _filled(request.getfixturevalue("sqlite_files").url(directory), secrets)
        return
    with request.getfixturevalue("postgresql").database() as url:
        yield from _filled(url, secrets)


def _filled(url: str, secrets: Secrets) -> Iterator[tuple[Store, Secrets]]:
    store = Store(url)
    fill_tenants(store, secrets, TENANTS, keys=1)
    fill_queue(store, TENANTS, QUEUED, Letter(), State.QUEUED)
    fill_queue(store, TENANTS, HELD, Letter(), State.HELD)
    fill_history(store, TENANTS, DELIVERED, Letter())
    settle_down(store)
    yield store, secrets
    store.dispose()


@pytest.fixture
def store(full: tuple[Store, Secrets]) -> Store:
    return full[0]


@pytest.fixture
def lease(store: Store) -> Lease:
    return register(store)


def plans(store: Store, statements: list[Statement]) -> list[Plan]:
    with store.read() as connection:
        if not store.is_sqlite:
            # A few pages are read faster whole than by an index; what has an index must not need them all.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        return [explain(connection, one) for one in statements]


def small_tables(store: Store) -> frozenset[str]:
    with store.read() as connection:
        rows = {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }
    return frozenset(name for name, count in rows.items() if count < SMALL_ROWS)


def full_scans(store: Store, statements: list[Statement], but: frozenset[str] = frozenset()) -> list[str]:
    """Statements that go through a big table, each with what it goes through and how."""
    small = small_tables(store) | but
    return [
        f"{sorted(found)}: {plan.statement}\n{plan.steps}"
        for plan in plans(store, statements)
        if (found := plan.full_scans(small))
    ]


def test_no_poll_of_an_idle_worker_reads_a_big_table_through(store: Store, lease: Lease) -> None:
    for poll in polls(store, lease):
        with recorded(store) as statements:
            poll.work(store)
        assert statements, poll.name
        # It judges them all: that is as much as there are accounts.
        but = frozenset({"account"} if poll.name == EVERY_ACCOUNT else ())
        assert full_scans(store, statements, but) == [], poll.name


def test_no_message_reads_a_big_table_through(full: tuple[Store, Secrets], lease: Lease) -> None:
    store, secrets = full
    mail = Mail(store, TENANTS, lease)
    with recorded(store) as statements:
        mail.every_kind()
        directory_misses(store, secrets, TENANTS)
    assert len(statements) > 25
    assert full_scans(store, statements) == []


def test_queue_is_listed_without_reading_it_through(store: Store) -> None:
    with recorded(store) as statements, store.read() as connection:
        views.waiting(connection, Selection(), None, 100)
        views.waiting(connection, Selection(), "held", 100)
        views.summary(connection, Selection(), "destination")
        views.find_message(connection, views.waiting(connection, Selection(), None, 1)[0].message_id)
    assert full_scans(store, statements) == []


@pytest.mark.parametrize("state", ["queued", "held"])
def test_what_waits_is_counted_by_its_index_alone(store: Store, state: str) -> None:
    """A look into the row of each of a million takes seconds."""
    with recorded(store) as statements, store.read() as connection:
        views.depth(connection, state)
    [plan] = plans(store, statements)
    if store.is_sqlite:
        index = "ix_recipient_due" if state == "queued" else "ix_recipient_held"
        assert plan.steps == (f"SCAN recipient USING COVERING INDEX {index}",)
    else:  # To PostgreSQL one index of those that wait is as good as the other.
        indexes = ("ix_recipient_due", "ix_recipient_turn") if state == "queued" else ("ix_recipient_held",)
        assert any(index in step for step in plan.steps for index in indexes)


def test_full_scan_is_seen(store: Store) -> None:
    """The other tests would notice."""
    with recorded(store) as statements, store.read() as connection:
        views.count_by_state(connection)
    assert len(full_scans(store, statements)) == 1
