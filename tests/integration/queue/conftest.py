from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.queue import workers
from relay.queue.values import Lease
from relay.queue.writer import GroupWriter
from relay.store.engine import Store


@pytest.fixture
async def writer(store: Store) -> AsyncIterator[GroupWriter]:
    one = GroupWriter(store)
    one.start()
    yield one
    await one.stop()


@pytest.fixture
def lease(store: Store) -> Lease:
    return register(store)


def register(store: Store, node: str = "here") -> Lease:
    with store.write() as connection:
        return workers.register(connection, node)
