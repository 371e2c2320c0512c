"""One worker process: accepts, decides, queues and delivers, on one event loop.

``worker_main`` is what a forked child runs.  It takes a worker's number from the store, builds every
part, says that it serves, and runs until SIGTERM, the supervisor's death or the death of one of its own
background tasks: a part that stopped silently would be worse than a restart.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import uvloop

from relay import maillog, metrics
from relay.app.key_watch import KeyWatch
from relay.app.listen import Endpoint
from relay.app.node import node_name
from relay.app.parts import Parts, build
from relay.app.supervisor import GIVE_WAY
from relay.maillog import Log
from relay.queue import loaded_keys, spool, workers
from relay.queue.values import Lease, StoreUnavailable
from relay.queue.writer import alone
from relay.settings import Settings
from relay.store import installation
from relay.store.engine import Store
from relay.store.secrets import load_key_file

_DRAIN_SESSIONS_SECONDS = 12.0
_DRAIN_DELIVERY_SECONDS = 10.0
_DRAIN_HTTP_SECONDS = 2.0
_RECLAIM_SECONDS = 1.5
_BEAT_AGAIN_SECONDS = 1.0
_MACHINE_SECONDS = 1.0
# Containers made since the last look, and looks of each kind before the next wider one.
_COLLECTION = (20_000, 20, 20)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class LeaseLost(Exception):
    """Another process took our worker's row: what we hold is no longer ours."""


def worker_main(
    settings: Settings, sockets: dict[Endpoint, socket.socket], life_fd: int, ready_fd: int
) -> int:
    """The whole life of a worker process; its exit code."""
    log = maillog.open_log(settings.log.format, settings.log.level)
    store = Store(settings.store_url)
    key_file = settings.path(settings.store.key_file)
    secrets = load_key_file(key_file)
    with store.write() as connection:
        installation.require_key(connection, secrets)
        lease = workers.register(connection, node_name(settings))
        loaded_keys.announce(connection, lease, secrets.key_ids, secrets.current)
        spool.sweep_orphans(connection)
        workers.reclaim(connection)
    try:
        parts = build(settings, store, secrets, lease, log)
        # A database server watches its own disk; ours then only holds the lock file.
        directory = store.directory or settings.directory
        keys = KeyWatch(key_file, secrets, parts.writer, lease, log)
        worker = _Worker(directory, settings.store.low_disk_bytes, parts, keys, lease, log)
        _spare_the_lasting()
        return uvloop.run(worker.run(sockets, life_fd, ready_fd))
    finally:
        store.dispose()


class _Worker:
    """The parts at work."""

    def __init__(
        self, directory: Path, low_disk_bytes: int, parts: Parts, keys: KeyWatch, lease: Lease, log: Log
    ) -> None:
        self._directory = directory
        self._low_disk_bytes = low_disk_bytes
        self._parts = parts
        self._keys = keys
        self._lease = lease
        self._log = log
        self._stop = asyncio.Event()
        self._is_superseded = False
        self._failure: BaseException | None = None

    async def run(self, sockets: dict[Endpoint, socket.socket], life_fd: int, ready_fd: int) -> int:
        """Serve until told to stop; 1 if something broke."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._stop.set)
        loop.add_signal_handler(GIVE_WAY, self._give_way)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        loop.add_reader(life_fd, self._orphaned)
        tasks = await self._start(sockets)
        os.write(ready_fd, f"{self._lease.worker_id} {self._lease.epoch}\n".encode())
        os.close(ready_fd)
        await self._stop.wait()
        await self._drain(tasks)
        return 1 if self._failure else 0

    def _give_way(self) -> None:
        """Others serve already, on the same sockets: what we take from them now is not ours to answer."""
        self._is_superseded = True
        self._stop.set()

    def _orphaned(self) -> None:
        """The supervisor is gone; a new one cannot start before we are, so no time is lost on draining."""
        os._exit(1)

    async def _start(self, sockets: dict[Endpoint, socket.socket]) -> list[asyncio.Task[None]]:
        parts = self._parts
        parts.writer.start()
        await parts.directory.poll()
        background: dict[str, Callable[[], Awaitable[None]]] = {
            "directory": parts.directory.run,
            "heartbeat": self._beat,
            "reclaim": self._reclaim,
            "machine": self._watch_machine,
            "keys": self._keys.run,
            "delivery": self._deliver,
            "feedback": parts.feedback.run,
            "notifications": parts.poster.run,
            "retention": parts.retention.run,
            "verification": parts.verification.run,
            "certificate": parts.renewal.run,
            "reputation": parts.reputation.run,
            "sealer": parts.sealer.run,
        }
        if parts.revocations is not None:
            background["revocations"] = parts.revocations.run
        tasks = []
        for name, run in background.items():
            task = asyncio.ensure_future(run())
            task.set_name(name)
            task.add_done_callback(self._ended)
            tasks.append(task)
        parts.listener.start(_of(sockets, "smtp"))
        parts.reports.start(_of(sockets, "bounce"))
        metrics.WORKERS.set(1)
        await parts.http.start(_of(sockets, "http"))
        for task in parts.http.tasks:
            task.add_done_callback(self._ended)
        return tasks

    def _ended(self, task: asyncio.Future[None]) -> None:
        if task.cancelled() or self._stop.is_set():
            return
        self._failure = task.exception() or RuntimeError("ended by itself")
        name = task.get_name() if isinstance(task, asyncio.Task) else "task"
        self._log("worker stops", level="error", task=name, error=repr(self._failure))
        self._stop.set()

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        """Stop accepting, finish what runs, give back what was not begun; HTTP tells of it to the end."""
        parts = self._parts
        parts.readiness.is_draining = not self._is_superseded
        metrics.WORKERS.set(0)
        listeners = (parts.listener, parts.reports)
        for listener in listeners:
            listener.stop_accepting()
        if self._is_superseded:
            await parts.http.drain(_DRAIN_HTTP_SECONDS)
        await asyncio.gather(*(listener.drain(_DRAIN_SESSIONS_SECONDS) for listener in listeners))
        await asyncio.gather(
            parts.delivery.drain(_DRAIN_DELIVERY_SECONDS), parts.poster.drain(_DRAIN_DELIVERY_SECONDS)
        )
        await parts.http.drain(_DRAIN_HTTP_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        lease = self._lease
        try:
            await parts.writer.submit(alone(lambda connection: workers.retire(connection, lease)))
        except StoreUnavailable:
            pass  # the supervisor retires us as well
        await parts.writer.stop()

    # ------------------------------------------------------------ in the background

    async def _deliver(self) -> None:
        """Nothing that was taken back while nobody ran goes out first."""
        if self._parts.revocations is not None:
            await self._parts.revocations.catch_up()
        await self._parts.delivery.run()

    async def _beat(self) -> None:
        """Say that we live.  While nobody hears it for too long, nothing is sent."""
        while True:
            at, pause = time.monotonic(), float(workers.HEARTBEAT_SECONDS)
            try:
                is_ours = await self._parts.writer.submit(
                    alone(lambda connection: workers.beat(connection, self._lease))
                )
                if not is_ours:
                    raise LeaseLost(f"worker {self._lease.worker_id}, epoch {self._lease.epoch}")
                self._parts.delivery.renewed(at)
            except StoreUnavailable:
                pause = _BEAT_AGAIN_SECONDS  # before the others take what we hold
            await asyncio.sleep(pause)

    async def _reclaim(self) -> None:
        """Take back what dead workers held, a little apart from the other processes."""
        vigil = workers.Vigil()
        while True:
            await asyncio.sleep(_RECLAIM_SECONDS * (0.5 + random.random()))  # noqa: S311
            try:
                count, _ = await asyncio.gather(  # in one transaction
                    self._parts.writer.submit(alone(lambda connection: workers.watch(connection, vigil))),
                    self._parts.delivery.return_strays(),
                )
            except StoreUnavailable:
                continue
            if count:
                self._log("reclaimed", recipients=count)

    async def _watch_machine(self) -> None:
        """How much disk is left, and how much memory we take."""
        while True:
            with suppress(OSError):  # no more files; what it was stands
                metrics.WORKER_MEMORY.set(_resident_bytes())
            free = _free_bytes(self._directory)
            was_low, self._parts.intake.low_disk = self._parts.intake.low_disk, free < self._low_disk_bytes
            if was_low != self._parts.intake.low_disk:
                self._log("disk", level="warning", is_low=not was_low, free_bytes=free)
            await asyncio.sleep(_MACHINE_SECONDS)


def _spare_the_lasting() -> None:
    """Modules, settings and compiled statements stay for good: the collector need not look at them, and what
    a message makes has no cycles, so it may look seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTION)


def _free_bytes(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _resident_bytes() -> int:
    """proc_pid_statm(5): the second number is the pages in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def _of(sockets: dict[Endpoint, socket.socket], protocol: str) -> list[tuple[socket.socket, bool]]:
    return [(sock, end.implicit_tls) for end, sock in sockets.items() if end.protocol == protocol]
