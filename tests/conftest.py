"""What tests of every kind share: an empty store on each engine, a key file, settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest

from relay.settings import example
from relay.store.engine import Store
from relay.store.secrets import Secrets, create_key_file, load_key_file
from tests.support.stores import ENGINES, PostgreSQL, SQLiteFiles, server_directory

# CI says the same of the same commit; elsewhere each run looks further.  No test is timed.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session")
def sqlite_files(tmp_path_factory: pytest.TempPathFactory) -> SQLiteFiles:
    return SQLiteFiles(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    directory = server_directory()
    try:
        server = PostgreSQL(directory)
        yield server
        server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The test runs once on each."""
    return str(request.param)


@pytest.fixture
def store_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty, migrated store; the test runs once on each engine."""
    if engine == "sqlite":
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
def bare_store(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store without a table; the test runs once on each engine."""
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/bare.db"
        if engine == "postgresql":
            url = stack.enter_context(request.getfixturevalue("postgresql").database(empty=True))
        one = Store(url)
        stack.callback(one.dispose)
        yield one


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    """A settings file with every key at its default, in the directory of the test."""
    file = tmp_path / "relay.toml"
    file.write_text(example())
    return file


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    create_key_file(tmp_path / "relay.key")
    return load_key_file(tmp_path / "relay.key")
