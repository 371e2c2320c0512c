"""A gateway per module, with an administrator of the owner's account; calls are not counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.app.recorder import Recorder
from tests.e2e.conftest import app, domain, recorder, running
from tests.support.aws import EVERYTHING, Key, key_of
from tests.support.gateway import Gateway, free_ports

__all__ = ["app", "domain", "recorder"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Gateway]:
    """Something hears reports, so that custom MAIL FROM domains are taken."""
    (port,) = free_ports(1)
    settings = {"RELAY_API__CALLS_PER_SECOND": "0", "RELAY_BOUNCE__LISTEN": f"127.0.0.1:{port}"}
    yield from running(tmp_path_factory.mktemp("relay"), recorder, **settings)


@pytest.fixture(scope="module")
def admin(gateway: Gateway, domain: str) -> Key:
    """The key of one who may do everything in the owner's account, which has owner.example."""
    return key_of(gateway, "admin", policy=EVERYTHING)
