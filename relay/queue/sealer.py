"""The sealer: numbers and chains what was appended to the owners' ledgers, a little after the fact.

Every worker has one, and the store lets one of them seal at a time.  It works in small batches that share
the commits of mail, so that nobody waits long for it.
"""

from __future__ import annotations

import asyncio

from relay.queue.values import StoreUnavailable
from relay.queue.writer import GroupWriter, alone
from relay.store import ledger
from relay.store.engine import Store

_SECONDS = 1.0
_ENTRIES = 200


class Sealer:
    """Seals for one worker process."""

    def __init__(self, store: Store, writer: GroupWriter) -> None:
        self._store = store
        self._writer = writer

    async def run(self) -> None:
        """Seal, again and again, until cancelled."""
        while True:
            try:
                is_more = await self._seal()
            except StoreUnavailable:
                is_more = False
            await asyncio.sleep(0 if is_more else _SECONDS)

    async def _seal(self) -> bool:
        """Seal a batch; whether there is another one."""
        if not await asyncio.to_thread(self._is_any_unsealed):
            return False
        count = await self._writer.submit(alone(lambda connection: ledger.seal(connection, _ENTRIES)))
        return count == _ENTRIES

    def _is_any_unsealed(self) -> bool:
        with self._store.read() as connection:
            return ledger.is_any_unsealed(connection)
