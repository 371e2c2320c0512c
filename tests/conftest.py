"""What tests of every kind share: an empty store on each engine, a key file, settings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.store.engine import Store
from relay.store.secrets import Secrets, create_key_file, load_key_file
from tests.support.stores import ENGINES, PostgreSQL, SQLiteFiles, server_directory


@pytest.fixture(scope="session")
def sqlite_files(tmp_path_factory: pytest.TempPathFactory) -> SQLiteFiles:
    return SQLiteFiles(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    directory = server_directory()
    server = PostgreSQL(directory)
    yield server
    server.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=ENGINES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty, migrated store; the test runs once on each engine."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_files").url(tmp_path)
        return
    with request.getfixturevalue("postgresql").database() as url:
        yield url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty, migrated store; the test runs once on each engine."""
    one = Store(store_url)
    yield one
    one.dispose()


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    create_key_file(tmp_path / "relay.key")
    return load_key_file(tmp_path / "relay.key")
