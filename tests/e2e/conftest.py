"""A running gateway per test module: an owner with a domain, a delegate with a credential, a next hop."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    one = Recorder(refused=frozenset({"nobody@customer.example", "bounces@refusing.example"}))
    yield one
    one.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Gateway]:
    yield from running(tmp_path_factory.mktemp("relay"), recorder)


def running(directory: Path, recorder: Recorder, **settings: str) -> Iterator[Gateway]:
    """A gateway with the accounts of owner and delegate, served until the tests are through."""
    one = Gateway(directory, recorder, **settings)
    one.run("init", str(directory))
    one.account(OWNER)
    one.account(DELEGATE)
    one.start()
    yield one
    assert one.stop() == 0, one.log()
    log = one.log()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def domain(gateway: Gateway) -> str:
    """ARN of owner.example, verified, with a signing key."""
    return gateway.identity("owner.example")


@pytest.fixture(scope="module")
def app(gateway: Gateway) -> Login:
    """The delegate's user ``app``."""
    return gateway.login("app")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that other users can reach what is theirs in; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="relay-open-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
