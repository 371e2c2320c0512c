"""The process that the operator starts: it binds the sockets and keeps the workers running.

    SIGTERM, SIGINT  stop accepting, let the workers finish, end
    SIGHUP           read settings and certificates anew; new workers take over, old ones finish
    SIGCHLD          a worker ended: what it held is free at once, another takes its place

A reload is a change of generation and nothing else: the new workers inherit the same sockets, so no
connection is refused meanwhile, and settings that are wrong leave the old generation at work.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from relay import maillog, metrics
from relay.app.listen import Endpoint, ListenError, bind, endpoints
from relay.app.node import node_name, shared
from relay.app.notify import notify, watchdog_seconds
from relay.queue import nodes, workers
from relay.queue.values import Lease
from relay.settings import Settings, SettingsError
from relay.store.engine import Store, StoreUnavailable

# Longer than a worker's own drain, shorter than the unit's TimeoutStopSec.
STOP_SECONDS = 28.0
_LOCK_SECONDS = 5.0
_RESTART_SECONDS = 1.0
# To a worker, like SIGTERM, but others serve already.
GIVE_WAY = signal.SIGUSR1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

WorkerMain = Callable[[Settings, "dict[Endpoint, socket.socket]", int, int], int]


class StartError(Exception):
    """The gateway cannot start; the text says what to do."""


@dataclass(slots=True)
class _Child:
    """A worker process as the supervisor sees it.  ``ready_fd`` tells when it serves, and its lease.

    ``row`` is where it counts; two generations share indices for a while, but no row.
    """

    pid: int
    index: int
    row: int
    ready_fd: int
    lease: Lease | None = None
    is_ready: bool = False
    told_to_stop: bool = False
    _heard: bytes = field(default=b"")

    def hear(self) -> None:
        """Read what the worker says: one line, its worker number and epoch."""
        data = os.read(self.ready_fd, 64)
        self._heard += data
        if self._heard.endswith(b"\n"):
            worker_id, epoch = self._heard.split()
            self.lease = Lease(int(worker_id), int(epoch))
            self.is_ready = True
        if not data or self.is_ready:
            os.close(self.ready_fd)
            self.ready_fd = -1


class Supervisor:
    """Runs the workers until told to stop; ``run`` gives the exit code."""

    def __init__(
        self,
        settings: Settings,
        load_settings: Callable[[], Settings],
        worker_main: WorkerMain,
        count: int,
        installation: str,
    ) -> None:
        self._settings = settings
        self._installation = installation
        self._load_settings = load_settings
        self._worker_main = worker_main
        self._count = count
        self._log = maillog.open_log(settings.log.format, settings.log.level)
        self._children: dict[int, _Child] = {}
        self._sockets: dict[Endpoint, socket.socket] = {}
        self._stopping_at: float | None = None
        self._restart_at: float | None = None
        self._announced = False
        # Workers watch the read end: its end of file tells them that we are gone.
        self._life_read, self._life_write = os.pipe()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK)

    def run(self) -> int:
        """Serve until SIGTERM; 0 after an orderly stop."""
        self._catch_signals()
        self._sockets = bind(endpoints(self._settings))
        self._with_store(self._enter)
        for index in range(self._count):
            self._fork(index)
        while self._children or self._stopping_at is None:
            self._wait()
            self._announce()
            self._tend()
        return 0

    def _catch_signals(self) -> None:
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)

    def _enter(self, store: Store) -> None:
        """Be this node; what its former processes held is free."""
        name = node_name(self._settings)
        try:
            with store.write() as connection:
                nodes.enter(connection, name, self._installation, shared(self._settings))
                workers.retire_node(connection, name)
        except nodes.NameTaken:
            raise StartError(
                f"another relay on this store lives under the name {name}: give each machine its own [relay]"
                f" node; if this one replaces it, start again in {workers.LEASE_SECONDS} s"
            ) from None
        self._compare(store)

    def _enter_anew(self, store: Store) -> None:
        """With settings that were read anew."""
        with store.write() as connection:
            name = node_name(self._settings)
            nodes.enter(connection, name, self._installation, shared(self._settings))
        self._compare(store)

    def _compare(self, store: Store) -> None:
        """Nodes are changed one after another, so that a difference stops nobody."""
        with store.read() as connection:
            found = nodes.differences(connection, node_name(self._settings), shared(self._settings))
        for one in found:
            self._log(
                "nodes differ",
                level="warning",
                setting=one.setting,
                here=one.ours,
                there=one.theirs,
                node=one.node,
            )

    def _with_store(self, work: Callable[[Store], None]) -> None:
        """The supervisor opens the store only in passing: a connection must not cross a fork."""
        store = Store(self._settings.store_url)
        try:
            work(store)
        finally:
            store.dispose()

    # ------------------------------------------------------------ children

    def _fork(self, index: int) -> None:
        ready_read, ready_write = os.pipe()
        row = self._free_row()
        pid = os.fork()
        if pid == 0:
            os.close(ready_read)
            metrics.take_row(row)
            _stay_on_one(index, self._count)
            self._become_worker(ready_write)
        os.close(ready_write)
        self._children[pid] = _Child(pid, index, row, ready_read)

    def _free_row(self) -> int:
        """A row of the metrics that no living worker counts into; ours is 0."""
        taken = {child.row for child in self._children.values()}
        return next((row for row in range(1, metrics.ROWS) if row not in taken), metrics.ROWS - 1)

    def _become_worker(self, ready_fd: int) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            for fd in (self._life_write, self._wake_read, self._wake_write):
                os.close(fd)
            code = self._worker_main(self._settings, self._sockets, self._life_read, ready_fd)
        except BaseException as error:
            self._log("worker failed", level="error", error=f"{type(error).__name__}: {error}")
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is not None:
                self._bury(child, status)

    def _bury(self, child: _Child, status: int) -> None:
        if child.ready_fd >= 0:
            os.close(child.ready_fd)
        metrics.process_ended(child.row)
        lease = child.lease
        if lease is not None:
            self._retire(lease)
        if child.told_to_stop or self._stopping_at is not None:
            return
        metrics.WORKERS_DIED.inc()
        self._log("worker died", level="error", pid=child.pid, status=os.waitstatus_to_exitcode(status))
        self._restart_at = time.monotonic() + (_RESTART_SECONDS if not child.is_ready else 0)

    def _retire(self, lease: Lease) -> None:
        def work(store: Store) -> None:
            with store.write() as connection:
                workers.retire(connection, lease)

        try:
            self._with_store(work)
        except StoreUnavailable as error:  # its lease runs out by itself
            self._log("store unavailable", level="error", error=str(error))

    # ------------------------------------------------------------ the loop

    def _wait(self) -> None:
        fds = [self._wake_read, *(c.ready_fd for c in self._children.values() if c.ready_fd >= 0)]
        ready, _, _ = select.select(fds, [], [], self._patience())
        for child in list(self._children.values()):
            if child.ready_fd in ready:
                child.hear()
        if self._wake_read in ready:
            for number in os.read(self._wake_read, 4096):
                self._handle(number)
        notify("WATCHDOG=1")

    def _patience(self) -> float:
        waits = [watchdog_seconds() or 60.0]
        for moment in (self._restart_at, self._stopping_at):
            if moment is not None:
                waits.append(max(moment - time.monotonic(), 0.0) + 0.01)
        return min(waits)

    def _handle(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP:
            self._reload()
        else:
            self._stop()

    def _announce(self) -> None:
        if not self._announced and self._children and all(c.is_ready for c in self._children.values()):
            self._announced = True
            notify("READY=1", f"STATUS={self._count} workers")
            listen = {
                protocol: " ".join(str(one) for one in self._sockets if one.protocol == protocol) or None
                for protocol in ("smtp", "http", "bounce")
            }
            self._log(
                "ready",
                workers=self._count,
                listen=listen["smtp"],
                http=listen["http"],
                bounce=listen["bounce"],
            )

    def _tend(self) -> None:
        now = time.monotonic()
        if self._restart_at is not None and now >= self._restart_at and self._stopping_at is None:
            self._restart_at = None
            self._fill()
        if self._stopping_at is not None and now >= self._stopping_at:
            for child in self._children.values():
                self._log("worker killed", level="error", pid=child.pid)
                os.kill(child.pid, signal.SIGKILL)
            self._stopping_at = now + STOP_SECONDS

    def _fill(self) -> None:
        """Start what is missing of the present generation."""
        running = {child.index for child in self._children.values() if not child.told_to_stop}
        for index in set(range(self._count)) - running:
            self._fork(index)

    def _stop(self) -> None:
        if self._stopping_at is None:
            self._log("stopping")
            notify("STOPPING=1")
            self._stopping_at = time.monotonic() + STOP_SECONDS
            self._close_sockets()
        self._tell_to_stop(list(self._children.values()))

    def _close_sockets(self) -> None:
        """What a worker closes too is refused from then on, instead of waiting for nobody to answer it."""
        for sock in self._sockets.values():
            sock.close()

    @staticmethod
    def _tell_to_stop(children: list[_Child], how: signal.Signals = signal.SIGTERM) -> None:
        for child in children:
            child.told_to_stop = True
            os.kill(child.pid, how)

    def _reload(self) -> None:
        try:
            settings = self._load_settings()
            sockets = self._rebind(settings)
        except (SettingsError, ListenError, StartError) as error:
            for problem in str(error).splitlines():
                self._log("reload refused", level="error", problem=problem)
            return
        old = [child for child in self._children.values() if not child.told_to_stop]
        self._settings, self._sockets, self._announced = settings, sockets, False
        self._log("reloading")
        try:
            self._with_store(self._enter_anew)
        except (StoreUnavailable, nodes.NameTaken) as error:  # others hear of it at the next start
            self._log("store unavailable", level="error", error=str(error))
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        for index in range(self._count):
            self._fork(index)
        self._tell_to_stop(old, GIVE_WAY)

    def _rebind(self, settings: Settings) -> dict[Endpoint, socket.socket]:
        """The sockets for the new settings; those whose address stays are kept."""
        wanted = endpoints(settings)
        new = bind(endpoint for endpoint in wanted if endpoint not in self._sockets)
        for endpoint, sock in self._sockets.items():
            if endpoint not in wanted:
                sock.close()
        return {endpoint: new.get(endpoint) or self._sockets[endpoint] for endpoint in wanted}


def _stay_on_one(index: int, count: int) -> None:
    """Give each worker a processor of its own, if there are as many.

    Its event loop and its writer then share one cache instead of pulling every object to and fro, 5 % of what
    a message costs; whatever else runs here gives way to them.
    """
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) == count:
        with suppress(OSError):  # a sandbox may forbid it; it works without
            os.sched_setaffinity(0, {processors[index]})


def take_instance_lock(directory: Path) -> int:
    """Hold the lock of the state directory for as long as this process and its workers live.

    A former supervisor's workers end within a moment of it, so that is how long we wait.
    """
    fd = os.open(directory / "relay.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up_at = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                os.close(fd)
                raise StartError(f"{directory}: another relay runs from this directory") from None
            time.sleep(0.05)
        else:
            return fd
