"""Notifications a second to a local receiver, by worker processes on SQLite in a temporary directory.

    python tests/bench/bench_notifications.py [--workers 2] [--count 20000] [--subscriptions 1]

The rows are put first; then the workers claim, sign, post over connections that are used again, and record.
The receiver is a process of its own on the same processors; its CPU is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvloop
from sqlalchemy import func, select

from relay.app.posting import build_poster
from relay.control import accounts, topics
from relay.control.ground import Ground
from relay.queue import workers
from relay.queue.ids import Ids
from relay.queue.notifications import NewNotification, Notifications, insert_notifications
from relay.queue.writer import GroupWriter
from relay.resolver import Resolver
from relay.settings import Settings
from relay.store import installation, schema
from relay.store.engine import Store
from relay.store.secrets import create_key_file, load_key_file
from relay.store.tables import notification

ACCOUNT, REGION = "222222222222", "us-east-1"
EVENT = {
    "eventType": "Bounce",
    "mail": {
        "timestamp": "2026-05-01T10:00:00.000Z",
        "source": "sender@owner.example",
        "sourceArn": "arn:aws:ses:us-east-1:111122223333:identity/owner.example",
        "sendingAccountId": ACCOUNT,
        "messageId": "0100018f3333aaaa-00000000-1111-2222-3333-444444444444-000000",
        "destination": ["user@customer.example"],
        "headersTruncated": False,
        "headers": [{"name": f"X-Field-{n}", "value": "v" * 60} for n in range(12)],
        "tags": {"ses:configuration-set": ["set1"]},
    },
    "bounce": {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": []},
}
BODY = json.dumps(EVENT, separators=(",", ":"))


class _Receiver(asyncio.Protocol):
    connections = 0
    requests = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        type(self).connections += 1
        self._transport: Any = transport
        self._octets = b""

    def data_received(self, data: bytes) -> None:
        self._octets += data
        while (end := self._octets.find(b"\r\n\r\n")) >= 0:
            at = self._octets.lower().find(b"content-length: ") + 16
            length = int(self._octets[at : self._octets.find(b"\r\n", at)])
            if len(self._octets) < end + 4 + length:
                return
            self._octets = self._octets[end + 4 + length :]
            type(self).requests += 1
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def receive(pipe: Any) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Receiver, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)
        pipe.send((_Receiver.requests, _Receiver.connections))

    uvloop.run(main())


def settings_of(directory: Path) -> Settings:
    return Settings(
        directory=directory,
        relay={"region": REGION},  # type: ignore[arg-type]
        http={"public_url": "https://relay.example"},  # type: ignore[arg-type]
        webhooks={"allow": ["127.0.0.1/32"]},  # type: ignore[arg-type]
    )


def prepare(directory: Path, url: str, protocol: str, subscriptions: int, count: int) -> None:
    create_key_file(directory / "relay.key")
    settings, secrets = settings_of(directory), load_key_file(directory / "relay.key")
    store = Store(settings.store_url)
    schema.migrate(store)
    installation.initialise(store, REGION, secrets)
    ground = Ground(store, secrets, REGION, "bench", public_url="https://relay.example")
    accounts.create(ground, "a", ACCOUNT)
    arn = topics.create(ground, ACCOUNT, "events")
    made = []
    for n in range(subscriptions):
        one = topics.subscribe(ground, arn, protocol, f"{url}{n}").arn
        if protocol == "http":
            topics.vouch(ground, one)
        made.append(topics.find(ground, one).row.id)
    ids = Ids(1)
    with store.write() as connection:
        connection.execute(notification.delete())
        at = workers.now(connection)
        for start in range(0, count, 1000):
            new = [
                NewNotification(ids.next(), ACCOUNT, made[n % subscriptions], 1, "Bounce", BODY, at)
                for n in range(start, min(start + 1000, count))
            ]
            insert_notifications(connection, new)
    store.dispose()


def work(directory: Path, begin: Event, pipe: Any) -> None:
    async def main() -> None:
        settings, secrets = settings_of(directory), load_key_file(directory / "relay.key")
        store = Store(settings.store_url)
        with store.write() as connection:
            lease = workers.register(connection, "here")
        writer = GroupWriter(store)
        writer.start()
        ids = Ids(lease.worker_id)
        poster = build_poster(
            settings,
            store,
            secrets,
            Notifications(store, writer, lease),
            Resolver(),
            ids.next,
            lambda *_, **__: None,
        )
        pipe.send(None)
        await asyncio.to_thread(begin.wait)
        began = time.process_time()
        task = asyncio.ensure_future(poster.run())
        await asyncio.to_thread(pipe.recv)
        await poster.drain(5)
        task.cancel()
        await writer.stop()
        pipe.send(time.process_time() - began)

    uvloop.run(main())


def waiting(store: Store) -> int:
    with store.read() as connection:
        query = select(func.count()).select_from(notification).where(notification.c.state != "done")
        return int(connection.execute(query).scalar_one())


def bench(protocol: str, processes: int, count: int, subscriptions: int) -> None:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ours, theirs = context.Pipe()
        receiver = context.Process(target=receive, args=(theirs,))
        receiver.start()
        prepare(directory, f"http://127.0.0.1:{ours.recv()}/hook", protocol, subscriptions, count)
        begin, pipes = context.Event(), []
        for _ in range(processes):
            mine, its = context.Pipe()
            context.Process(target=work, args=(directory, begin, its)).start()
            mine.recv()
            pipes.append(mine)
        store = Store(settings_of(directory).store_url)
        began = time.monotonic()
        begin.set()
        while waiting(store):
            time.sleep(0.05)
        seconds = time.monotonic() - began
        for pipe in pipes:
            pipe.send(None)
        cpu = sum(pipe.recv() for pipe in pipes)
        ours.send(None)
        requests, connections = ours.recv()
        store.dispose()
        receiver.join()
    print(
        f"{protocol:<8} {subscriptions:>3} subscriptions, {processes} workers:"
        f" {count / seconds:6.0f} a second, {cpu / count * 1e6:5.0f} us CPU each,"
        f" {requests} posts over {connections} connections"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--subscriptions", type=int, default=1)
    chosen = parser.parse_args()
    for protocol in ("http", "webhook"):
        bench(protocol, chosen.workers, chosen.count, chosen.subscriptions)


if __name__ == "__main__":
    main()
