"""A relay with a full store beside one with an empty store, on this machine.

    python -m tests.bench.bench_scale [--engine postgresql] [-n 10000] [-k 3] [--only rate,polls]

Fills a store with a queue of a million recipients, 100,000 identities of 10,000 accounts and some delivered
mail, and prints what that does to the start, to commands, to the rate, to the polls of a worker that has
nothing to do and to the cache of the directory; then what a message costs the store, from which docs/scale.md
computes.  PostgreSQL is the one that tests start, or RELAY_TEST_PG.

Filling takes minutes and some 4 GB in the temporary directory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sqlalchemy import select, update

from relay.outcome.transitions import State
from relay.queue import views
from relay.queue.steering import OPERATOR
from relay.queue.workers import now
from relay.store.engine import Store
from relay.store.secrets import load_key_file
from relay.store.tables import message, recipient
from tests.bench import bench_relay, many_senders, store_costs
from tests.bench.load import Load, compile_client, message_of
from tests.bench.measuring import Measured, arguments, measure
from tests.bench.processes import cpu_seconds, memory_bytes, tree
from tests.bench.sink import Sink
from tests.support.full_store import (
    Letter,
    Tenants,
    fill_history,
    fill_queue,
    fill_tenants,
    put,
    settle_down,
    store_bytes,
)
from tests.support.gateway import Gateway, Login, arn, free_ports
from tests.support.stores import PostgreSQL, server_directory

SECTIONS = ("start", "commands", "rate", "memory", "senders", "polls", "directory", "costs")
_CONNECTIONS = 40
_WARM_UP = 400
_DUE = 100_000
_MEMORY_SECONDS = 30.0
_IDLE_SECONDS = 20.0


@dataclass
class Site:
    """A relay that is started and stopped in turn with another; ``db`` is the database server's process."""

    name: str
    gateway: Gateway
    login: Login
    store: Store
    db: int = 0
    tls: bool = False

    @property
    def port(self) -> int:
        return self.gateway.port

    @property
    def records(self) -> Mapping[str, str]:
        return self.gateway.records

    @property
    def root(self) -> int:
        assert self.gateway.process is not None
        return self.gateway.process.pid

    def is_waiting(self) -> bool:
        """Whether something is in hand or due; what is held or due in hours is not waited for."""
        with self.store.read() as connection:
            if views.depth(connection, State.LEASED.value)[0]:
                return True
            due = recipient.c.state == State.QUEUED.value, recipient.c.due_at <= now(connection)
            return connection.execute(select(recipient.c.number).where(*due).limit(1)).first() is not None

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.root)

    def memory_bytes(self) -> int:
        return memory_bytes(self.root)

    @contextmanager
    def serving(self) -> Iterator[float]:
        """Runs within the block; gives the seconds from the start to the first 220."""
        take_ports(self.gateway)
        starts = self.gateway.log().count(" ready workers=") + 1
        started = time.perf_counter()
        self.gateway.start()
        seconds = time.perf_counter() - started
        bench_relay.await_workers(self.gateway, starts)
        try:
            yield seconds
        finally:
            self.gateway.stop()


def take_ports(gateway: Gateway) -> None:
    """Others may have taken those of before while it was stopped."""
    gateway.port, gateway.tls_port, gateway.http_port = free_ports(3)
    gateway.environment |= {
        "RELAY_SMTP__LISTEN": f"127.0.0.1:{gateway.port}",
        "RELAY_SMTP__LISTEN_TLS": f"127.0.0.1:{gateway.tls_port}",
        "RELAY_HTTP__LISTEN": f"127.0.0.1:{gateway.http_port}",
    }


def make_site(name: str, directory: Path, sink: Sink, workers: int, url: str, db: int) -> Site:
    directory.mkdir()
    gateway, login = bench_relay.set_up(directory, sink, workers, url or None)
    gateway.stop()
    return Site(name, gateway, login, Store(url or f"sqlite:///{directory / 'relay.db'}"), db)


def fill(site: Site, tenants: Tenants, recipients: int, history: int) -> None:
    letter = letter_of(site)
    secrets = load_key_file(site.gateway.directory / "relay.key")
    print(f"\n## The store: {tenants.identities} identities, {tenants.accounts} accounts")
    for what, work in (
        ("accounts, identities", lambda: fill_tenants(site.store, secrets, tenants)),
        ("queue, held", lambda: fill_queue(site.store, tenants, recipients, letter, State.HELD)),
        ("delivered, with an event each", lambda: fill_history(site.store, tenants, history, letter)),
        ("vacuumed", lambda: settle_down(site.store)),
    ):
        before, started = store_bytes(site.store), time.perf_counter()
        work()
        grown = (store_bytes(site.store) - before) / 1e6
        print(f"{what}: {time.perf_counter() - started:.0f} s, {grown:.0f} MB", flush=True)


def letter_of(site: Site) -> Letter:
    """Header and record as a message that was really accepted has them, with a body of 1 KB."""
    with site.serving():
        code, text = site.gateway.send(site.login, arns=arn("owner.example"))
        assert code == 250, text
    with site.store.read() as connection:
        row = connection.execute(select(message.c.header, message.c.record)).one()
    return Letter(bytes(row.header), Letter().body, row.record)


def put_all(site: Site, state: State) -> None:
    """The queue in its second form, or back: what was held is due in hours."""
    was = State.HELD if state is State.QUEUED else State.QUEUED
    with site.store.write() as connection:
        if not site.store.is_sqlite:
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        put(connection, state, was=was)
    settle_down(site.store)
    print(f"\n(the queue is {state.value} now)", flush=True)


# ---------------------------------------------------------------- start, commands


def print_starts(sites: list[Site], rounds: int) -> None:
    print("\n## Start to the first 220, and what an idle node takes")
    for site in sites:
        seconds = []
        for _ in range(rounds):
            with site.serving() as took:
                seconds.append(took)
        with site.serving():
            time.sleep(2)
            idle = _idle(site)
            told = ", ".join(f"{one:.2f}" for one in seconds)
            memory = site.memory_bytes() / 1e6
            print(f"{site.name}: {told} s; {memory:.0f} MB in the largest process; {idle}", flush=True)


def _idle(site: Site) -> str:
    """What a node and its database server do when nothing is to be done."""
    began, before = time.perf_counter(), _counters(site)
    time.sleep(_IDLE_SECONDS)
    passed = time.perf_counter() - began
    node, server, ended = ((now - then) / passed for now, then in zip(_counters(site), before, strict=True))
    if site.store.is_sqlite:
        return f"{node * 100:.1f} % of a core"
    with site.store.read() as connection:
        connections = store_costs.connections(connection)
    return (
        f"{node * 100:.1f} % of a core, {server * 100:.1f} % of one of the database server's,"
        f" {ended:.0f} transactions/s, {connections} connections"
    )


def _counters(site: Site) -> tuple[float, float, float]:
    server = cpu_seconds(site.db) if site.db else 0.0
    return site.cpu_seconds(), server, float(store_costs.transactions(site.store))


def print_commands(site: Site, tenants: Tenants) -> None:
    print("\n## Commands, start of the program included")
    account, identity = tenants.account_id(5), tenants.arn(5)
    with site.store.read() as connection:
        [first] = views.waiting(connection, views.Selection(), None, 1)
    for line in (
        "--version",
        "queue list",
        "queue list --state held",
        "queue list --by destination",
        "queue list --by account",
        "queue list --by identity",
        f"queue list --account {account}",
        "queue list --destination c5.example",
        f"queue list --identity {identity}",
        f"queue show --message {first.message_id}",
        f"message show {first.message_id}",
        "account list",
        f"account show {account}",
        "identity list",
        f"identity list --account {account}",
        f"credential list --account {account}",
        f"user list --account {account}",
        "usage",
        f"usage --account {account}",
        "audit",
        f"ledger show --identity {identity}",
        "event list",
        "check",
    ):
        seconds, lines = timed(site, line)
        print(f"relay {line}: {seconds:.2f} s, {lines} lines", flush=True)


def timed(site: Site, line: str) -> tuple[float, int]:
    """The faster of two runs."""
    command = [sys.executable, "-m", "relay", *line.split()]
    runs = []
    for _ in range(2):
        started = time.perf_counter()
        done = subprocess.run(command, env=site.gateway.environment, capture_output=True, check=False)
        runs.append(time.perf_counter() - started)
    if done.returncode not in (0, 1):
        raise SystemExit(f"relay {line}: {done.stderr.decode()}")
    return min(runs), done.stdout.count(b"\n")


# ---------------------------------------------------------------- rate


def print_rates(sites: list[Site], program: Path, load: Load, rounds: int) -> None:
    """Each in turn, so that what else the machine does falls on both."""
    print(f"\n## Rate: {load.message.name}, {load.connections} connections, {load.count} messages a run")
    found: dict[str, list[Measured]] = {site.name: [] for site in sites}
    for _ in range(rounds):
        for site in sites:
            with site.serving():
                measure(site, program, Load(load.message, load.connections, _WARM_UP))
                found[site.name].append(measure(site, program, load))
    rates = {}
    for site in sites:
        runs = found[site.name]
        rates[site.name] = statistics.median(one.delivered_rate for one in runs)
        all_of_them = ", ".join(f"{one.delivered_rate:.0f}" for one in runs)
        print(
            f"{site.name}: {rates[site.name]:.0f}/s (of {all_of_them}),"
            f" {statistics.median(one.cpu_ms for one in runs):.3f} ms CPU a message,"
            f" p99 {statistics.median(one.figures.p99_ms for one in runs):.1f} ms,"
            f" {max(one.memory_bytes for one in runs) / 1e6:.0f} MB",
            flush=True,
        )
    empty, full = (rates[site.name] for site in sites)
    print(f"lost: {(1 - full / empty) * 100:.1f} %")


def print_memory(site: Site) -> None:
    """Recipients that are due, and a next hop that takes connections and says nothing."""
    print(f"\n## Memory with {_DUE} recipients due and a next hop that does not answer")
    some = select(recipient.c.message_id).where(recipient.c.state == State.HELD.value).limit(_DUE)
    due = {"state": State.QUEUED.value, "held_because": None, "due_at": 0}
    held = {"state": State.HELD.value, "held_because": OPERATOR}
    with site.store.write() as connection:
        connection.execute(update(recipient).where(recipient.c.message_id.in_(some)).values(due))
    with toward_nobody(site.gateway), site.serving():
        most, until = 0, time.monotonic() + _MEMORY_SECONDS
        while time.monotonic() < until:
            most = max(most, site.memory_bytes())
            time.sleep(0.2)
        in_all = sum(one.resident_bytes for one in tree(site.root))
    print(f"{most / 1e6:.0f} MB at most in the largest process, {in_all / 1e6:.0f} MB in all", flush=True)
    with site.store.write() as connection:
        queued = recipient.c.state == State.QUEUED.value
        connection.execute(update(recipient).where(queued).values(held))


@contextmanager
def toward_nobody(gateway: Gateway) -> Iterator[None]:
    """A next hop that takes connections and says nothing."""
    before = gateway.environment["RELAY_DELIVERY__SMARTHOST"]
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as mute:
        gateway.environment["RELAY_DELIVERY__SMARTHOST"] = f"127.0.0.1:{mute.getsockname()[1]}"
        yield
    gateway.environment["RELAY_DELIVERY__SMARTHOST"] = before


# ---------------------------------------------------------------- all of it


@contextmanager
def databases(engine: str) -> Iterator[tuple[Callable[[], str], int]]:
    """Makes the URLs of new stores, empty for SQLite's own; the process of the server, 0 for none of ours."""
    if engine == "sqlite":
        yield lambda: "", 0
        return
    directory = server_directory()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        server = PostgreSQL(directory)
        stack.callback(server.stop)
        process = server.postmaster_pid if server.is_ours else 0
        yield lambda: stack.enter_context(server.database(empty=True)), process


def run(options: argparse.Namespace, directory: Path, url: Callable[[], str], db: int, sink: Sink) -> None:
    tenants = Tenants(options.accounts, options.identities)
    empty, full = (
        make_site(name, directory / name, sink, options.workers, url(), db) for name in ("empty", "full")
    )
    fill(full, tenants, options.recipients, options.history)
    program = compile_client(options.client, directory)
    load = Load(message_of(4_000, directory), _CONNECTIONS, options.count)
    secrets = load_key_file(full.gateway.directory / "relay.key")
    wanted = options.only.split(",")
    sections: dict[str, Callable[[], None]] = {
        "start": lambda: print_starts([empty, full], options.rounds),
        "commands": lambda: print_commands(full, tenants),
        "rate": lambda: print_rates([empty, full], program, load, options.rounds),
        "memory": lambda: print_memory(full),
        "senders": lambda: many_senders.print_senders(full, tenants),
        "polls": lambda: store_costs.print_polls(full.store),
        "directory": lambda: store_costs.print_directory(full.store, secrets, tenants),
        "costs": lambda: store_costs.print_costs(empty, tenants, program, load),
    }
    for name, print_section in sections.items():
        if name in wanted:
            print_section()
    if "rate" in wanted:
        put_all(full, State.QUEUED)
        print_starts([full], 1)
        sections["rate"]()
        store_costs.print_polls(full.store)


def main() -> None:
    parser = arguments(__doc__, count=10_000)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--recipients", type=int, default=1_000_000)
    parser.add_argument("--identities", type=int, default=100_000)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--history", type=int, default=200_000, help="messages that were delivered")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-k", "--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    options = parser.parse_args()
    sink = Sink()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="relay-scale-") as name,
            databases(options.engine) as (url, db),
        ):
            print(f"# {options.engine}, {len(os.sched_getaffinity(0))} cores")
            run(options, Path(name), url, db, sink)
    finally:
        sink.close()


if __name__ == "__main__":
    main()
