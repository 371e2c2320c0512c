"""The store as delivery sees it for MTA-STS policies."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass

from relay.delivery.policies import Kept
from relay.queue.writer import GroupWriter, alone
from relay.store import mta_sts
from relay.store.engine import Store


@dataclass(frozen=True, slots=True)
class Shelf:
    """Reads in a thread, writes by the one writer."""

    store: Store
    writer: GroupWriter

    async def load(self, domain: str) -> Kept | None:
        return await asyncio.to_thread(self._load, domain)

    def _load(self, domain: str) -> Kept | None:
        with self.store.read() as connection:
            row = mta_sts.load(connection, domain)
        if row is None:
            return None
        return Kept(row["domain"], row["policy_id"], row["policy"], row["fetched_at"], row["expires_at"])

    async def save(self, kept: Kept) -> None:
        row = asdict(kept)
        row["policy"] = row.pop("text")
        await self.writer.submit(alone(lambda connection: mta_sts.save(connection, row)))
