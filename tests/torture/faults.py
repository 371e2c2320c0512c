"""What is done to the program while clients send: one function a fault.

Each takes the ground and a source of chance, does its harm, undoes what does not undo itself, and returns
when the program should be on its feet again.  ``Kind`` says what the harm may excuse; most excuse nothing.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace

import dns.rcode
from psycopg.errors import DeadlockDetected
from sqlalchemy import Engine, create_engine, func, make_url, select, text, update
from sqlalchemy.exc import OperationalError

from relay.queue.workers import HEARTBEAT_SECONDS, LEASE_SECONDS
from relay.store.engine import Store, StoreUnavailable
from relay.store.tables import worker
from tests.support.lying_dns import fails, garbage, silent
from tests.torture.ground import Ground, kill
from tests.torture.values import Event, Kind

# Within so long the other workers look for what dead ones held.
_RECLAIMED_SECONDS = 5.0
_RELOADED_SECONDS = 2.0
_HOP_ODDS = 0.06
_HOP_SECONDS = 5.0


class Impossible(Exception):
    """This machine or engine has no such fault; the text says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``inflict`` does it; ``kind`` is what it may excuse."""

    inflict: Callable[[Ground, random.Random], None]
    kind: Kind = Kind.NOTHING


def inflict(name: str, ground: Ground, chance: random.Random) -> None:
    """Do it and enter it in the journal."""
    at = time.time()
    FAULTS[name].inflict(ground, chance)
    ground.events.append(Event(name, FAULTS[name].kind, at, time.time()))


# ---------------------------------------------------------------- deaths


def _kill_worker(ground: Ground, chance: random.Random) -> None:
    """kill -9 of one worker; its supervisor replaces it."""
    kill(chance.choice(ground.workers()), signal.SIGKILL)


def _kill_supervisor(ground: Ground, chance: random.Random) -> None:
    """kill -9 of the supervisor; its workers notice, and it is started again."""
    node = chance.choice(ground.nodes)
    assert node.process is not None
    node.process.kill()
    ground.restart(node)


def _kill_all(ground: Ground, _: random.Random) -> None:
    """kill -9 of every process at once."""
    _kill_nodes(ground)
    ground.restart()


def _kill_nodes(ground: Ground) -> None:
    for node in ground.nodes:
        node.kill()


def _kill_node(ground: Ground, chance: random.Random) -> None:
    """kill -9 of one node of several, which comes back before the others take what it held, or after."""
    _require_nodes(ground)
    node = chance.choice(ground.nodes)
    node.kill()
    time.sleep(chance.uniform(0, LEASE_SECONDS + _RECLAIMED_SECONDS))
    ground.restart(node)


def _require_nodes(ground: Ground) -> None:
    if ground.balancer is None:
        raise Impossible("there is one node; see --nodes")


def _power_cut(ground: Ground, _: random.Random) -> None:
    """The disk keeps what was synced and nothing else; everything that used it is gone."""
    if ground.disk is None:
        raise Impossible("only root with ext4 and a loop device can cut the power of a disk")
    if ground.server is not None and not ground.server.is_ours:
        raise Impossible("RELAY_TEST_PG is somebody else's server")
    ground.disk.cut()
    _kill_nodes(ground)
    if ground.server is not None:
        ground.server.kill()
    ground.disk.repower()
    if ground.server is not None:
        ground.server.start_again()
    ground.restart()


def _stall(ground: Ground, chance: random.Random) -> None:
    """SIGSTOP of one worker until long after others may take what it held."""
    with _stopped(ground, chance):
        time.sleep(LEASE_SECONDS + _RECLAIMED_SECONDS)


def _short_stall(ground: Ground, chance: random.Random) -> None:
    """The same in less time: it is declared dead as soon as it misses a heartbeat."""
    with _stopped(ground, chance):
        time.sleep(HEARTBEAT_SECONDS * 1.5)
        with suppress(StoreUnavailable):  # it was stopped in a transaction: nobody can take anything
            _retire_the_silent(ground)
            time.sleep(_RECLAIMED_SECONDS)


@contextmanager
def _stopped(ground: Ground, chance: random.Random) -> Iterator[None]:
    """Afterwards it goes on with what it has in hand, until its next heartbeat tells it that it may not."""
    pid = chance.choice(ground.workers())
    kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        kill(pid, signal.SIGCONT)
    give_up_at = time.monotonic() + HEARTBEAT_SECONDS * 2
    while pid in ground.workers() and time.monotonic() < give_up_at:
        time.sleep(0.1)


def _retire_the_silent(ground: Ground) -> None:
    store = Store(ground.url)
    try:
        with store.write() as connection:
            oldest = select(func.min(worker.c.heartbeat_at)).where(worker.c.running).scalar_subquery()
            silent = update(worker).where(worker.c.running, worker.c.heartbeat_at == oldest)
            connection.execute(silent.values(running=False))
    finally:
        store.dispose()


# ---------------------------------------------------------------- in good order


def _restart(ground: Ground, _: random.Random) -> None:
    """SIGTERM, and started again: no fault at all.  Of several nodes one after another."""
    for node in ground.nodes:
        node.stop()
        ground.restart(node)
        ground.await_ready()


def _reload(ground: Ground, chance: random.Random) -> None:
    """SIGHUP: new workers take over."""
    node = chance.choice(ground.nodes)
    assert node.process is not None
    kill(node.process.pid, signal.SIGHUP)
    time.sleep(_RELOADED_SECONDS)


# ---------------------------------------------------------------- the store


def _lock_store(ground: Ground, chance: random.Random) -> None:
    """Somebody else holds the store's own lock for longer than we wait for it, or not quite so long."""
    seconds = chance.uniform(2, 7)
    if ground.server is None:
        with closing(sqlite3.connect(ground.state_directory / "relay.db", isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            blocker.execute("ROLLBACK")
        return
    engine = create_engine(make_url(ground.url).set(drivername="postgresql+psycopg"))
    try:
        while not _hold_tables(engine, seconds):
            pass
    finally:
        engine.dispose()


def _hold_tables(engine: Engine, seconds: float) -> bool:
    """False where the server ended us, not the gateway, to undo the deadlock of both."""
    try:
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLE message, recipient, outbox IN ACCESS EXCLUSIVE MODE"))
            time.sleep(seconds)
    except OperationalError as error:
        if isinstance(error.orig, DeadlockDetected):
            return False
        raise
    return True


def _kill_server(ground: Ground, chance: random.Random) -> None:
    """kill -9 of PostgreSQL, which comes back after a while."""
    if ground.server is None:
        raise Impossible("SQLite has no server")
    if not ground.server.is_ours:
        raise Impossible("RELAY_TEST_PG is somebody else's server")
    ground.server.kill()
    time.sleep(chance.uniform(0, 2))
    ground.server.start_again()


def _fill_disk(ground: Ground, chance: random.Random) -> None:
    """No room at all, without the warning that low space is."""
    if ground.disk is None:
        raise Impossible("only root with ext4 and a loop device has a disk to fill")
    ground.disk.fill()
    time.sleep(chance.uniform(2, 4))
    ground.disk.empty()
    if ground.server is not None and ground.server.is_ours:
        ground.server.start_again()  # it ends itself when its log has no room


def _few_files(ground: Ground, chance: random.Random) -> None:
    """Every worker may open no more files than it has open, or a few."""
    before = {}
    for pid in ground.workers():
        try:
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            few = len(os.listdir(f"/proc/{pid}/fd")) + chance.randint(0, 3)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, hard))
        except (ProcessLookupError, FileNotFoundError):
            continue
        before[pid] = soft, hard
    time.sleep(chance.uniform(2, 4))
    for pid, limits in before.items():
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        except ProcessLookupError:
            continue


# ---------------------------------------------------------------- the world


def _next_hop(ground: Ground, _: random.Random) -> None:
    """The next hop refuses in every phase, lies, talks nonsense, is late, goes away."""
    ground.hop.plan = replace(ground.usual, odds=_HOP_ODDS)
    time.sleep(_HOP_SECONDS)
    ground.hop.plan = ground.usual


def _dns(ground: Ground, chance: random.Random) -> None:
    """Name servers that say nothing, an error, or nonsense."""
    ground.hop.names.lying = chance.choice((silent, fails(dns.rcode.SERVFAIL), garbage))
    time.sleep(chance.uniform(2, 4))
    ground.hop.names.lying = None


def _clock(ground: Ground, chance: random.Random) -> None:
    """The wall clock jumps, forth or back, and returns."""
    if ground.clock is None:
        raise Impossible("without a C compiler there is no clock that jumps")
    ground.clock.jump(chance.choice((-3600, -60, 60, 3600)))
    time.sleep(chance.uniform(2, 4))
    ground.clock.jump(0)


FAULTS = {
    "kill-worker": Fault(_kill_worker, Kind.DEATH),
    "kill-supervisor": Fault(_kill_supervisor, Kind.DEATH),
    "kill-all": Fault(_kill_all, Kind.DEATH),
    "kill-node": Fault(_kill_node, Kind.DEATH),
    "power-cut": Fault(_power_cut, Kind.DEATH),
    "stall": Fault(_stall, Kind.DEATH),
    "short-stall": Fault(_short_stall, Kind.DEATH),
    "restart": Fault(_restart),
    "reload": Fault(_reload),
    "lock-store": Fault(_lock_store, Kind.STORE),
    "kill-server": Fault(_kill_server, Kind.STORE),
    "fill-disk": Fault(_fill_disk, Kind.STORE),
    "few-files": Fault(_few_files, Kind.STORE),
    "next-hop": Fault(_next_hop),
    "dns": Fault(_dns),
    "clock": Fault(_clock),
}
