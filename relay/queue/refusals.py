"""Refused messages are remembered by reference, at a bounded rate per credential."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert

from relay.queue.writer import GroupWriter, Job
from relay.store import ledger
from relay.store.engine import StoreUnavailable
from relay.store.tables import refusal

# A client in a loop must not fill the disk: so many at once, then so many a second.
_BURST = 100
_PER_SECOND = 5.0
_MOST_CREDENTIALS = 10_000
_COLUMNS = tuple(refusal.c.keys())


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is kept of a refused message; ``record`` is JSON from which it can be judged again.

    ``entries`` go into the ledgers of those in whose name it would have been sent.
    """

    id: int
    reference: str
    account_id: str
    access_key_id: str
    at: int
    reason: str
    reply: str
    record: str
    entries: tuple[ledger.Entry, ...] = ()


class Refusals:
    """Keeps refusals for one worker process."""

    def __init__(self, writer: GroupWriter) -> None:
        self._writer = writer
        self._buckets: dict[str, tuple[float, float]] = {}  # (tokens, as of)

    async def keep(self, one: Refusal) -> bool:
        """Write it down; False if this credential had too many of late, or the store is away.

        The refusal stands either way: a record that could not be written is not worth an error.
        """
        if not self._admits(one.access_key_id):
            return False
        try:
            await self._writer.submit(Job(_insert, one, is_awaited_by_client=True))
        except StoreUnavailable:
            return False
        return True

    def _admits(self, access_key_id: str) -> bool:
        now = time.monotonic()
        tokens, at = self._buckets.get(access_key_id, (float(_BURST), now))
        tokens = min(_BURST, tokens + (now - at) * _PER_SECOND)
        if len(self._buckets) >= _MOST_CREDENTIALS:
            self._buckets.clear()
        self._buckets[access_key_id] = (max(tokens - 1, 0.0), now)
        return tokens >= 1


def _insert(connection: Connection, refusals: Sequence[Refusal]) -> list[None]:
    rows = [{name: getattr(one, name) for name in _COLUMNS} for one in refusals]
    connection.execute(insert(refusal), rows)
    ledger.append(connection, [entry for one in refusals for entry in one.entries])
    return [None] * len(refusals)
