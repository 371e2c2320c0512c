"""The store's two engines behind one door: SQLite on one machine, PostgreSQL for several.

``Store.write`` is one durable transaction: on SQLite ``BEGIN IMMEDIATE`` behind a lock file, because
SQLite's own busy handler sleeps and starves one of two processes; on PostgreSQL an ordinary one.
``Store.read`` is a snapshot.  Both promise what ``design.md`` asks of a 250: WAL with
``synchronous=FULL``, ``synchronous_commit=on``, asserted on each connection.

SQLite's write-ahead log is checkpointed here and nowhere else, by a process that holds the lock file:
two connections that checkpoint at once can lose a transaction in every SQLite before 3.51.3 (the
WAL-reset defect).
"""

from __future__ import annotations

import errno
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from relay import metrics

# Twice the usual: a large body has half of the overflow pages, and a commit of small messages still writes
# little more than they are.  Fixed when the file is made.
_PAGE_BYTES = 8_192
# The log moves into the database file after so many commits of a process, and is then written anew from its
# beginning, which costs half of what a file costs that grows.  Past the size it is made small again.
_CHECKPOINT_COMMITS = 32
_LARGEST_LOG_BYTES = 128 * 1024 * 1024
_BUSY_MILLISECONDS = 5_000
# Statements that a connection keeps prepared; those of a batch are there for many numbers of rows.
_PREPARED = 300
_CONNECT_SECONDS = 5


class StoreUnavailable(Exception):
    """The store did not answer, or not in time; what was asked may be asked again."""


class StoreError(Exception):
    """The store cannot be used as it is; the text says what to do."""


class Store:
    """Connections to one store.  Safe to use from several threads; not across a fork."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if not self.is_sqlite and self.url.get_backend_name() != "postgresql":
            raise StoreError(f"[store] url: {self.url.get_backend_name()!r} is neither sqlite nor postgresql")
        self._lock = _FileLock(Path(f"{self.url.database}-lock")) if self.is_sqlite else None
        self._commits = 0  # since this process looked after the log
        self._writer = self._engine(writes=True)
        self._spare: queue.Queue[Connection] = queue.Queue(1)  # one of the writer's, between transactions
        self._reader = self._engine(writes=False)

    def _engine(self, *, writes: bool) -> Engine:
        if self.is_sqlite:
            engine = create_engine(
                self.url,
                poolclass=QueuePool,
                pool_size=4,
                max_overflow=4,
                connect_args={
                    "check_same_thread": False,
                    "timeout": _BUSY_MILLISECONDS / 1000,
                    "cached_statements": _PREPARED,
                },
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_immediate if writes else _begin_deferred)
            return engine
        engine = create_engine(
            self.url.set(drivername="postgresql+psycopg"),
            pool_size=4,
            max_overflow=4,
            isolation_level="READ COMMITTED" if writes else "REPEATABLE READ",
            connect_args={"connect_timeout": _CONNECT_SECONDS},
        )
        event.listen(engine, "connect", _prepare_postgresql)
        return engine

    @property
    def directory(self) -> Path | None:
        """Where SQLite's file lies; None for a server."""
        return Path(str(self.url.database)).parent if self.is_sqlite else None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, durable when the block ends; StoreUnavailable if it cannot be."""
        with _translated(), self._lock or _no_lock(), self._kept() as connection, connection.begin():
            yield connection

    @contextmanager
    def _kept(self) -> Iterator[Connection]:
        """A connection that is kept for the next to write, unless something goes wrong.

        To take one out of the pool and to put it back costs more than to begin and to commit.
        """
        try:
            connection = self._spare.get_nowait()
        except queue.Empty:
            connection = self._writer.connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        try:
            self._spare.put_nowait(connection)
        except queue.Full:
            connection.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; it sees every transaction that ended before it began."""
        with _translated(), self._reader.begin() as connection:
            yield connection

    def checkpoint_if_due(self) -> None:
        """To be called after a commit: every so often moves SQLite's log into the file; elsewhere nothing."""
        if not self.is_sqlite:
            return
        self._commits += 1
        with suppress(FileNotFoundError):
            is_large = os.stat(f"{self.url.database}-wal").st_size > _LARGEST_LOG_BYTES
            if is_large or self._commits >= _CHECKPOINT_COMMITS:
                self._commits = 0
                self._checkpoint("TRUNCATE" if is_large else "PASSIVE")

    def _checkpoint(self, mode: str) -> None:
        with _translated(), self._lock or _no_lock(), self._reader.connect() as connection:
            # Wait for no reader: it holds the lock meanwhile, and nobody could write.
            connection.exec_driver_sql("PRAGMA busy_timeout=0")
            try:
                connection.exec_driver_sql(f"PRAGMA wal_checkpoint({mode})").fetchall()
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")

    def dispose(self) -> None:
        """Close every connection."""
        with suppress(queue.Empty):
            self._spare.get_nowait().close()
        self._writer.dispose()
        self._reader.dispose()
        if self._lock:
            self._lock.close()


class _FileLock:
    """``flock`` on a file beside the database, and a thread lock, since flock is per open file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.Lock()
        self._fd: int | None = None
        self._turn: _Turn | None = None

    def __enter__(self) -> None:
        self._thread.acquire()
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._acquire(self._fd)
        except BaseException:
            self._thread.release()
            raise

    def _acquire(self, fd: int) -> None:
        """Wait in turn, but not for ever: a process that hangs with the lock must not hang us.

        The kernel's queue takes turns, which asking again and again does not; a thread stands in it for us.
        Who gives up leaves it standing for the next.
        """
        if self._turn is None or not self._turn.is_standing:
            with suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
        if self._turn is None:
            self._turn = _Turn(fd)
        self._turn.stand()
        if not self._turn.came.wait(_BUSY_MILLISECONDS / 1000) and not self._turn.give_up():
            raise BlockingIOError(errno.EWOULDBLOCK, f"another process holds {self._path}")
        self._turn.came.clear()

    def __exit__(self, *_: object) -> None:
        assert self._fd is not None
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._thread.release()

    def close(self) -> None:
        # One that a thread still waits with is closed by it: its number must not become another file's.
        if self._fd is not None and not (self._turn is not None and self._turn.dismiss()):
            os.close(self._fd)
        self._fd = self._turn = None


class _Turn:
    """A place in the queue for the lock, kept by one thread.  ``came`` is set when it is ours."""

    def __init__(self, fd: int) -> None:
        self.came = threading.Event()
        self.is_standing = False
        self._fd = fd
        self._guard = threading.Lock()
        self._asked = threading.Semaphore(0)
        self._is_wanted = False
        self._is_dismissed = False
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while self._asked.acquire() and not self._is_dismissed:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            with self._guard:
                self.is_standing = False
                if self._is_wanted:
                    self.came.set()
                else:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
                if self._is_dismissed:
                    os.close(self._fd)
                    return

    def stand(self) -> None:
        """Queue up, or stay where somebody gave up."""
        with self._guard:
            self._is_wanted = True
            if self.is_standing:
                return
            self.is_standing = True
        self._asked.release()

    def give_up(self) -> bool:
        """Want the lock no longer; True if the turn came in that very moment."""
        with self._guard:
            self._is_wanted = self.came.is_set()
            return self._is_wanted

    def dismiss(self) -> bool:
        """Stand no more; True if the thread still does, and closes the file when its turn has come."""
        with self._guard:
            self._is_dismissed = True
            is_standing = self.is_standing
        self._asked.release()
        return is_standing


@contextmanager
def _no_lock() -> Iterator[None]:
    yield


@contextmanager
def _translated() -> Iterator[None]:
    """Trouble that passes by itself becomes StoreUnavailable; a broken statement stays what it is."""
    try:
        yield
    except DBAPIError as error:
        if error.connection_invalidated or _is_passing(error.orig):
            raise _unavailable(str(error.orig)) from error
        raise
    except SQLAlchemyError as error:
        if type(error).__name__ == "TimeoutError":
            raise _unavailable("no free connection") from error
        raise
    except OSError as error:
        raise _unavailable(str(error)) from error
    except Exception as error:
        if _is_of_driver(error) and _is_passing(error):
            raise _unavailable(str(error)) from error
        raise


def _unavailable(reason: str) -> StoreUnavailable:
    metrics.STORE_ERRORS.inc()
    return StoreUnavailable(reason)


def _is_of_driver(error: Exception) -> bool:
    """Whether it comes straight from a driver (``relay.store.prepared``)."""
    return isinstance(error, sqlite3.Error) or type(error).__module__.partition(".")[0] == "psycopg"


def _is_passing(error: BaseException | None) -> bool:
    """Whether the same may work later: the store is locked, full or gone, not the statement wrong."""
    if isinstance(error, sqlite3.Error):
        # SQLITE_ERROR is SQLite's word for a wrong statement; the bare class for a file that is no database.
        is_wrong = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
        return not is_wrong and type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError)
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"OperationalError", "InterfaceError"})


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in (
        f"page_size={_PAGE_BYTES}",
        f"busy_timeout={_BUSY_MILLISECONDS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=0",
        "foreign_keys=ON",
        "cache_size=-16384",
        # What a statement would take back goes to a file else, once for every insert of many rows.
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, synchronous) != ("wal", 2):
        raise StoreError(f"SQLite runs with journal_mode={mode}, synchronous={synchronous}: not durable")


def _begin_immediate(connection: Connection) -> None:
    _driver(connection).execute("BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    _driver(connection).execute("BEGIN")


def _driver(connection: Connection) -> Any:
    """SQLAlchemy's own way to say a word takes longer than the word."""
    return connection.connection.driver_connection


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    connection.prepared_max = _PREPARED
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
        cursor.execute("SET statement_timeout = '30s'")
        cursor.execute("SELECT current_setting('synchronous_commit'), current_setting('fsync')")
        synchronous, fsync = cursor.fetchone()
    connection.commit()
    # fsync off belongs to the server's owner: tests run so; `relay check` names it.
    if synchronous != "on":
        raise StoreError(f"PostgreSQL runs with synchronous_commit={synchronous}, fsync={fsync}: not durable")
