"""A store with a topic, and a poster at work on it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from relay.app.posting import build_poster
from relay.control import accounts, topics
from relay.control.ground import Ground
from relay.control.subscribing import Subscribing
from relay.feedback.poster import Poster
from relay.queue import workers
from relay.queue.notifications import NewNotification, Notifications, insert_notifications
from relay.queue.values import Lease
from relay.queue.writer import GroupWriter
from relay.settings import Settings
from relay.store import installation
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.store.tables import notification, subscription
from relay.submission.identifiers import notification_id
from tests.integration.delivery.test_lanes import Lines
from tests.support.receiver import Receiver
from tests.support.zone import Zone

ACCOUNT = "222222222222"
REGION = "us-east-1"
PUBLIC_URL = "https://relay.example"
FAST: dict[str, Any] = {"allow": ["127.0.0.1/32"], "retry_first_seconds": 1, "timeout_seconds": 1}


@dataclass
class World:
    """What the tests act on; ``ids`` are those of the notifications that were put."""

    store: Store
    secrets: Secrets
    directory: Path
    writer: GroupWriter
    stack: AsyncExitStack
    zone: Zone = field(default_factory=Zone)
    log: Lines = field(default_factory=Lines)
    webhooks: dict[str, Any] = field(default_factory=lambda: dict(FAST))
    arn: str = ""

    def __post_init__(self) -> None:
        self._ids = itertools.count(1_000_000_000_000)
        installation.initialise(self.store, REGION, self.secrets)
        accounts.create(self.ground, "delegate", ACCOUNT)
        self.arn = topics.create(self.ground, ACCOUNT, "events")

    @property
    def settings(self) -> Settings:
        return Settings(
            directory=self.directory,
            relay={"hostname": "relay.example", "region": REGION},  # type: ignore[arg-type]
            http={"public_url": PUBLIC_URL},  # type: ignore[arg-type]
            webhooks=self.webhooks,  # type: ignore[arg-type]
        )

    @property
    def ground(self) -> Ground:
        return Ground(
            self.store,
            self.secrets,
            REGION,
            "test",
            hostname="relay.example",
            public_url=PUBLIC_URL,
            subscribing=Subscribing(self.settings.file_directory, self.settings.webhooks.confirm_seconds),
        )

    def subscribe(self, protocol: str, endpoint: str, *, raw: bool = False, confirmed: bool = True) -> str:
        """A subscription's ARN; one that would be asked first is vouched for, and not asked."""
        made = topics.subscribe(self.ground, self.arn, protocol, endpoint, raw)
        if confirmed and made.status == "pending":
            topics.vouch(self.ground, made.arn)
            with self.store.write() as connection:
                connection.execute(delete(notification).where(notification.c.event_type != "Bounce"))
        return made.arn

    def subscription_id(self, arn: str) -> int:
        return topics.find(self.ground, arn).row.id

    def put(self, arn: str, count: int = 1, *, body: str | None = None) -> list[str]:
        """So many notifications for the subscription; their ids."""
        with self.store.write() as connection:
            at, of = workers.now(connection), topics.find(self.ground, arn).row.id
            new = [
                NewNotification(
                    next(self._ids),
                    ACCOUNT,
                    of,
                    7,
                    "Bounce",
                    body or json.dumps({"eventType": "Bounce", "n": n}, separators=(",", ":")),
                    at,
                )
                for n in range(count)
            ]
            insert_notifications(connection, new)
        return [notification_id(one.id) for one in new]

    def states(self) -> dict[str, str]:
        with self.store.read() as connection:
            rows = connection.execute(select(notification.c.id, notification.c.state))
            return {notification_id(row.id): row.state for row in rows}

    def row(self, arn: str) -> Any:
        with self.store.read() as connection:
            uuid = arn.rpartition(":")[2]
            return connection.execute(select(subscription).where(subscription.c.uuid == uuid)).one_or_none()

    @asynccontextmanager
    async def posting(self, **changed: Any) -> AsyncIterator[Poster]:
        """A worker's poster, as the worker starts and drains it."""
        poster = self.poster(**changed)
        task = asyncio.ensure_future(poster.run())
        try:
            yield poster
        finally:
            await poster.drain(5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def poster(self, **changed: Any) -> Poster:
        with self.store.write() as connection:
            lease: Lease = workers.register(connection, "here")
        self.webhooks |= changed
        notifications = Notifications(self.store, self.writer, lease)
        ids: Callable[[], int] = lambda: next(self._ids)  # noqa: E731
        return build_poster(self.settings, self.store, self.secrets, notifications, self.zone, ids, self.log)

    async def until(self, claim: Callable[[], bool], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not claim():
                await asyncio.sleep(0.02)

    async def all_are(self, state: str, seconds: float = 10) -> None:
        await self.until(lambda: set(self.states().values()) == {state}, seconds)

    async def receiver(self, **values: Any) -> Receiver:
        return await self.stack.enter_async_context(Receiver(**values).running())


@pytest.fixture
async def world(store: Store, secrets: Secrets, tmp_path: Path) -> AsyncIterator[World]:
    writer = GroupWriter(store)
    writer.start()
    async with AsyncExitStack() as stack:
        yield World(store, secrets, tmp_path, writer, stack)
    await writer.stop()
