"""What a store promises: durable transactions, trouble told from defects, recovery by itself."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from relay.store.engine import Store, StoreError, StoreUnavailable
from relay.store.tables import meta


def put(store: Store, name: str) -> None:
    with store.write() as connection:
        connection.execute(insert(meta), [{"name": name, "value": "x"}])


def count(store: Store) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(meta)).scalar_one()


def test_every_connection_is_durable(store: Store):
    for open_one in (store.write, store.read):
        with open_one() as connection:
            if store.is_sqlite:
                assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
                assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
                assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
            else:
                assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_block_that_raises_leaves_nothing(store: Store):
    with pytest.raises(RuntimeError), store.write() as connection:
        connection.execute(insert(meta), [{"name": "x", "value": "y"}])
        raise RuntimeError
    assert count(store) == 0


def test_row_that_is_there_already_is_a_defect_and_not_trouble(store: Store):
    put(store, "x")
    with pytest.raises(IntegrityError):
        put(store, "x")


@pytest.mark.parametrize("statement", ["SELECT * FROM no_such", "SELECT no_such FROM meta", "SELEC 1"])
def test_wrong_statement_is_a_defect_and_not_trouble(store: Store, statement):
    """Trouble is tried again, by clients and by us: a defect would be so for ever, and never be seen."""
    with pytest.raises(DBAPIError), store.write() as connection:
        connection.execute(text(statement))


def test_reader_sees_one_moment(store: Store):
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(meta)).scalar_one() == 0
        put(store, "x")
        assert connection.execute(select(func.count()).select_from(meta)).scalar_one() == 0
    assert count(store) == 1


def test_threads_share_a_store(store: Store):
    threads = [threading.Thread(target=put, args=(store, f"t{n}")) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(store) == 16


def test_writes_that_fail_use_up_no_connection(store: Store):
    for number in range(20):
        with pytest.raises(RuntimeError), store.write() as connection:
            connection.execute(insert(meta), [{"name": f"n{number}", "value": "x"}])
            raise RuntimeError
        put(store, f"m{number}")
    assert count(store) == 20


def test_nothing_stays_open_of_a_store_that_is_closed(postgresql):
    with postgresql.database() as url:
        other, store = Store(url), Store(url)
        put(store, "x")
        assert count(store) == 1
        others = text("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(:pids)")
        with store.write() as writes, store.read() as reads:
            pids = [one.execute(select(func.pg_backend_pid())).scalar_one() for one in (writes, reads)]
        with other.read() as connection:
            assert connection.execute(others, {"pids": pids}).scalar_one() == 2
        store.dispose()
        limit = time.monotonic() + 10
        while time.monotonic() < limit:  # a session ends a moment after its connection
            with other.read() as connection:
                if connection.execute(others, {"pids": pids}).scalar_one() == 0:
                    break
        else:
            pytest.fail("a session is still there")
        other.dispose()


def test_unknown_engine_is_refused():
    with pytest.raises(StoreError, match="neither sqlite nor postgresql"):
        Store("mysql://localhost/x")


@pytest.mark.parametrize("door", ["write", "read"])
def test_server_that_does_not_answer_is_unavailable(door):
    store = Store("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable), getattr(store, door)():
        pass
    store.dispose()


def test_database_set_to_forget_commits_is_durable_all_the_same(postgresql):
    with postgresql.database() as url:
        owner = Store(url)
        with owner.write() as connection:
            database = connection.execute(text("SELECT current_database()")).scalar()
            connection.execute(text(f"ALTER DATABASE {database} SET synchronous_commit = off"))
        owner.dispose()
        store = Store(url)
        for open_one in (store.write, store.read):
            with open_one() as connection:
                assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
        store.dispose()


def test_database_that_is_gone_is_unavailable_and_comes_back(postgresql):
    """As after a restore: the connections that were open are of no use any more."""
    with postgresql.database() as url:
        store = Store(url)
        put(store, "x")
        name, away = store.url.database, f"{store.url.database}_away"
        postgresql.rename(name, away)
        for open_one in (store.write, store.read):
            with pytest.raises(StoreUnavailable), open_one() as connection:
                connection.execute(text("SELECT 1"))
        postgresql.rename(away, name)
        assert count(store) == 1
        put(store, "y")
        store.dispose()


class TestSQLite:
    @pytest.fixture
    def file(self, sqlite_files, tmp_path: Path) -> Path:
        return Path(sqlite_files.url(tmp_path).removeprefix("sqlite:///"))

    def test_locked_file_is_unavailable_and_recovers(self, file, monkeypatch):
        monkeypatch.setattr("relay.store.engine._BUSY_MILLISECONDS", 50)
        store = Store(f"sqlite:///{file}")
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            put(store, "x")
        other.execute("ROLLBACK")
        other.close()
        put(store, "x")
        assert count(store) == 1
        store.dispose()

    def test_damaged_file_is_unavailable(self, tmp_path):
        (tmp_path / "relay.db").write_bytes(b"this is no database" * 1000)
        store = Store(f"sqlite:///{tmp_path}/relay.db")
        with pytest.raises((StoreUnavailable, StoreError)), store.read():
            pass
        store.dispose()

    def test_log_moves_into_the_file_after_some_commits(self, file, monkeypatch):
        monkeypatch.setattr("relay.store.engine._CHECKPOINT_COMMITS", 20)
        store = Store(f"sqlite:///{file}")
        before = file.read_bytes()
        for n in range(20):
            assert file.read_bytes() == before
            put(store, f"n{n}")
            store.checkpoint_if_due()
        assert file.read_bytes() != before
        assert count(store) == 20
        store.dispose()

    def test_log_is_written_anew_from_its_beginning(self, file, monkeypatch):
        monkeypatch.setattr("relay.store.engine._CHECKPOINT_COMMITS", 4)
        store = Store(f"sqlite:///{file}")
        sizes = []
        for n in range(40):
            put(store, f"n{n}")
            store.checkpoint_if_due()
            sizes.append(file.with_name(f"{file.name}-wal").stat().st_size)
        assert sizes[0] > 0
        assert len(set(sizes[4:])) == 1
        assert count(store) == 40
        store.dispose()

    def test_log_that_grew_large_is_made_small(self, file, monkeypatch):
        monkeypatch.setattr("relay.store.engine._LARGEST_LOG_BYTES", 100_000)
        store = Store(f"sqlite:///{file}")
        log = file.with_name(f"{file.name}-wal")
        while not log.exists() or log.stat().st_size <= 100_000:
            put(store, f"n{count(store)}")
        store.checkpoint_if_due()
        assert log.stat().st_size == 0
        store.dispose()

    def test_two_processes_on_one_file_lose_nothing(self, file):
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_write_many, args=(str(file), name)) for name in "ab"]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        store = Store(f"sqlite:///{file}")
        assert count(store) == 200
        store.dispose()


def _write_many(file: str, name: str) -> None:
    store = Store(f"sqlite:///{file}")
    for n in range(100):
        put(store, f"{name}{n}")
        store.checkpoint_if_due()
    store.dispose()
