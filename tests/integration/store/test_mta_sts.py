"""MTA-STS policies in the store, on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from relay.app.shelf import Shelf
from relay.delivery.policies import Kept
from relay.queue.writer import GroupWriter

KEPT = Kept("x.example", "1", "version: STSv1\r\n", 1_000, 2_000)


@pytest.fixture
async def shelf(store) -> AsyncIterator[Shelf]:
    writer = GroupWriter(store)
    writer.start()
    yield Shelf(store, writer)
    await writer.stop()


async def test_policy_is_kept_by_domain_until_another_comes_or_it_expired(shelf: Shelf):
    assert await shelf.load("x.example") is None
    await shelf.save(KEPT)
    assert await shelf.load("x.example") == KEPT
    newer = replace(KEPT, policy_id="2", fetched_at=1_500, expires_at=9_000)
    await shelf.save(newer)
    assert await shelf.load("x.example") == newer
    await shelf.save(replace(KEPT, domain="y.example", fetched_at=9_001, expires_at=10_000))
    assert await shelf.load("x.example") is None
