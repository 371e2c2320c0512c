"""A store that is locked, gone or full: told as such within a limit, and used again by itself."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import event, insert, text

from relay.store.engine import Store, StoreError, StoreUnavailable
from relay.store.tables import body_chunk, meta
from tests.support.stores import PostgreSQL, SQLiteFiles

SECONDS = 5.0


def put(store: Store, name: str) -> None:
    with store.write() as connection:
        connection.execute(insert(meta), [{"name": name, "value": "x"}])


def names(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(text("SELECT name FROM meta ORDER BY name")).scalars())


def raised(do: Callable[[], None]) -> BaseException | None:
    """What ``do`` raises; fails if it has not ended within the limit."""
    found: list[BaseException | None] = []

    def run() -> None:
        try:
            do()
        except BaseException as error:
            found.append(error)
        else:
            found.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert found, f"no answer within {SECONDS:.0f} s"
    return found[0]


def test_statement_that_fails_leaves_the_connection_usable(store: Store) -> None:
    with pytest.raises(Exception, match="no_such"), store.write() as connection:
        connection.execute(text("SELECT * FROM no_such"))
    put(store, "after")
    assert names(store) == ["after"]


def test_no_free_connection_is_trouble_that_passes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store._reader.pool, "_timeout", 0.05)
    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(store.read())
        with pytest.raises(StoreUnavailable, match="no free connection"), store.read():
            pass
    assert names(store) == []


def test_every_new_connection_is_checked_for_durability(store: Store) -> None:
    """Not the first alone: those that a busy pool opens later too."""
    with ExitStack() as held:
        connections = [held.enter_context(store.read()) for _ in range(8)]
        setting = "PRAGMA synchronous" if store.is_sqlite else "SHOW synchronous_commit"
        found = {connection.execute(text(setting)).scalar() for connection in connections}
        assert found == {2 if store.is_sqlite else "on"}


class TestSQLite:
    @pytest.fixture
    def file(self, sqlite_files: SQLiteFiles, tmp_path: Path) -> Path:
        return Path(sqlite_files.url(tmp_path).removeprefix("sqlite:///"))

    @pytest.fixture
    def one(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
        monkeypatch.setattr("relay.store.engine._BUSY_MILLISECONDS", 50)
        store = Store(f"sqlite:///{file}")
        yield store
        store.dispose()

    def test_lock_file_held_by_another_process_is_given_up_on(self, one: Store, file: Path) -> None:
        """A writer that is stopped or hangs must not hold up every other without a limit."""
        fd = os.open(f"{file}-lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            assert isinstance(raised(lambda: put(one, "x")), StoreUnavailable)
        finally:
            os.close(fd)
        put(one, "y")
        assert "y" in names(one)

    def test_process_that_hangs_for_long_uses_up_no_threads_and_files(self, one: Store, file: Path) -> None:
        """Each write that gives up must leave no more behind than the first."""

        def used() -> tuple[int, int]:
            return threading.active_count(), len(os.listdir("/proc/self/fd"))

        fd = os.open(f"{file}-lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            assert isinstance(raised(lambda: put(one, "x")), StoreUnavailable)
            before = used()
            for _ in range(5):
                assert isinstance(raised(lambda: put(one, "x")), StoreUnavailable)
            assert used() == before
        finally:
            os.close(fd)
        assert raised(lambda: put(one, "y")) is None
        assert names(one) == ["y"]

    def test_store_that_is_closed_while_another_process_hangs_leaves_no_file_open(
        self, one: Store, file: Path
    ) -> None:
        def is_open() -> bool:
            opened = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            return any(os.path.exists(one) and os.path.samefile(one, f"{file}-lock") for one in opened)

        fd = os.open(f"{file}-lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            assert isinstance(raised(lambda: put(one, "x")), StoreUnavailable)
            one.dispose()
        finally:
            os.close(fd)
        give_up_at = time.monotonic() + 10
        while is_open():
            assert time.monotonic() < give_up_at
            time.sleep(0.01)

    def test_lock_is_free_after_a_write_that_failed(self, one: Store) -> None:
        with pytest.raises(RuntimeError), one.write():
            raise RuntimeError
        assert raised(lambda: put(one, "x")) is None

    def test_readers_go_on_while_the_store_is_locked(self, one: Store) -> None:
        put(one, "x")
        with one.write() as connection:
            connection.execute(insert(meta), [{"name": "y", "value": "x"}])
            assert names(one) == ["x"]

    def test_directory_that_is_gone_is_unavailable_and_comes_back(self, file: Path, tmp_path: Path) -> None:
        store = Store(f"sqlite:///{tmp_path}/data/relay.db")
        for door in (store.write, store.read):
            with pytest.raises(StoreUnavailable), door():
                pass
        (tmp_path / "data").mkdir()
        file.rename(tmp_path / "data" / "relay.db")
        put(store, "x")
        assert names(store) == ["x"]
        store.dispose()

    def test_damaged_file_is_trouble_and_no_defect(self, tmp_path: Path) -> None:
        (tmp_path / "relay.db").write_bytes(b"this is no database" * 1000)
        store = Store(f"sqlite:///{tmp_path}/relay.db")
        for door in (store.write, store.read):
            with pytest.raises(StoreUnavailable), door():
                pass
        store.dispose()

    def test_store_that_cannot_be_durable_is_refused(self) -> None:
        store = Store("sqlite:///:memory:")
        with pytest.raises(StoreError, match="not durable"), store.read():
            pass
        store.dispose()

    def test_checkpoint_is_not_made_after_every_commit(self, one: Store) -> None:
        """Each costs a sync of the database file, and every group commit asks."""
        seen: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            seen.extend([statement] * ("wal_checkpoint" in statement))

        event.listen(one._reader, "before_cursor_execute", note)
        for n in range(100):
            _write_body(one, n, b"small")
            one.checkpoint_if_due()
        assert len(seen) == 3

    def test_checkpoint_waits_for_no_reader(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It holds the lock file: while it waits for a reader, no process writes, after every batch anew."""
        monkeypatch.setattr("relay.store.engine._CHECKPOINT_COMMITS", 1)
        monkeypatch.setattr("relay.store.engine._BUSY_MILLISECONDS", 60_000)
        store = Store(f"sqlite:///{file}")
        put(store, "x")
        with store.read() as connection:
            connection.execute(text("SELECT * FROM meta")).all()
            put(store, "y")
            assert raised(store.checkpoint_if_due) is None
        put(store, "z")
        assert names(store) == ["x", "y", "z"]
        store.dispose()


def _write_body(store: Store, message_id: int, data: bytes) -> None:
    with store.write() as connection:
        connection.execute(insert(body_chunk), [{"message_id": message_id, "seq": 0, "data": data}])


class TestPostgreSQL:
    @pytest.fixture
    def one(self, postgresql: PostgreSQL) -> Iterator[Store]:
        with postgresql.database() as url:
            store = Store(url)
            yield store
            store.dispose()

    @pytest.fixture
    def cut(self, one: Store) -> Callable[[], None]:
        """Ends every other session on the database, as a restart of the server does."""

        def cut() -> None:
            other = Store(one.url.render_as_string(hide_password=False))
            with other.write() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
            other.dispose()

        return cut

    def test_connection_lost_in_a_transaction_is_unavailable(
        self, one: Store, cut: Callable[[], None]
    ) -> None:
        with pytest.raises(StoreUnavailable), one.write() as connection:
            connection.execute(insert(meta), [{"name": "x", "value": "x"}])
            cut()
            connection.execute(text("SELECT 1"))
        put(one, "y")
        assert names(one) == ["y"]

    def test_connection_lost_before_the_commit_is_unavailable(
        self, one: Store, cut: Callable[[], None]
    ) -> None:
        with pytest.raises(StoreUnavailable), one.write() as connection:
            connection.execute(insert(meta), [{"name": "x", "value": "x"}])
            cut()
        assert names(one) == []

    def test_idle_connections_that_were_lost_are_replaced(self, one: Store, cut: Callable[[], None]) -> None:
        put(one, "x")
        assert names(one) == ["x"]
        cut()
        # One answer may be that the store was away; the next one comes from a new connection.
        first = raised(lambda: put(one, "y"))
        assert first is None or isinstance(first, StoreUnavailable)
        put(one, "z")
        second = raised(lambda: names(one))
        assert second is None or isinstance(second, StoreUnavailable)
        assert "z" in names(one)
