"""The relay beside Postfix in one run, as a Markdown table.

    sudo .venv/bin/python -m tests.bench.bench_table [-n 20000] [-k 3]

Each of k rounds starts every server once, one after another, looks that what arrives is signed, warms it up
and measures it; a figure is the median of its rounds.  Postfix, which is slower, gets a fifth of the
messages.  A rate is of messages accepted and delivered: until the last one has left, client and next hop on
the same processors.  CPU is of all processes of a server; PostgreSQL's own stands behind a plus.  Progress
is told on standard error, the table printed at the end.

Needs what ``bench_relay`` and ``bench_peer`` need, and ``openssl``.  PostgreSQL is the one that tests start;
the files of its log are made before anything is measured, as in a server that has run for a while.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytest

from relay.app.recorder import Recorder
from tests.bench import bench_peer, bench_relay, machine
from tests.bench.load import Load, compile_client, message_of
from tests.bench.measuring import Measured, Server, arguments, check_signature, measure
from tests.bench.processes import cpu_seconds
from tests.bench.sink import Sink
from tests.support.stores import PostgreSQL, server_directory

SMALL, LARGE = 4_000, 50_000
FEW, MANY = 10, 40
_WARM_UP = 400
_LOG_MEGABYTES = 1536  # more than PostgreSQL writes in a round


@dataclass(frozen=True)
class Running:
    server: Server
    database: int = 0  # the process that those of a database server are below


Start = Callable[[ExitStack, Path, Sink, str], Running]


@dataclass(frozen=True)
class Row:
    name: str
    start: Start
    share: int = 1  # of the messages it gets one in so many


@dataclass(frozen=True)
class Run:
    """A server's figures under one load."""

    measured: Measured
    database_cpu_ms: float


Round = dict[tuple[int, int], Run]  # by size and connections


# ------------------------------------------------------------ servers


def on_sqlite(stack: ExitStack, directory: Path, sink: Sink, probe: str) -> Running:
    return Running(stack.enter_context(bench_relay.running(directory, sink, probe=probe)))


def under_tls(stack: ExitStack, directory: Path, sink: Sink, probe: str) -> Running:
    return Running(stack.enter_context(bench_relay.running(directory, sink, probe=probe, tls=True)))


def on_postgresql(stack: ExitStack, directory: Path, sink: Sink, probe: str) -> Running:
    server = stack.enter_context(postgresql())
    server.make_log(_LOG_MEGABYTES)
    url = stack.enter_context(server.database(empty=True))
    relay = stack.enter_context(bench_relay.running(directory, sink, probe=probe, url=url))
    return Running(relay, server.postmaster_pid if server.is_ours else 0)


def postfix(stack: ExitStack, _: Path, sink: Sink, probe: str) -> Running:
    return Running(stack.enter_context(bench_peer.running(sink, probe)))


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    directory = server_directory()
    try:
        try:
            server = PostgreSQL(directory)
        except pytest.skip.Exception as absent:
            raise SystemExit(str(absent)) from None
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


# ------------------------------------------------------------ runs


def loads(directory: Path, count: int) -> dict[tuple[int, int], Load]:
    small, large = (message_of(size, directory) for size in (SMALL, LARGE))
    return {
        (SMALL, FEW): Load(small, FEW, count),
        (SMALL, MANY): Load(small, MANY, count),
        (LARGE, MANY): Load(large, MANY, count),
    }


def run(running: Running, client: Path, load: Load) -> Run:
    before = cpu_seconds(running.database)
    measured = measure(running.server, client, load)
    database = cpu_seconds(running.database) - before
    return Run(measured, database / load.count * 1000)


def one_round(row: Row, client: Path, count: int) -> Round:
    """Started, looked at, warmed up, measured under each load, stopped."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-")))
        sink, probe = Sink(), Recorder(frozenset())
        stack.callback(sink.close)
        stack.callback(probe.close)
        running = row.start(stack, directory / "relay", sink, probe.address)
        check_signature(running.server, probe)
        each = loads(directory, max(count // row.share, MANY))
        measure(running.server, client, Load(each[SMALL, MANY].message, MANY, _WARM_UP))
        return {key: tell(row, run(running, client, load), load) for key, load in each.items()}


def tell(row: Row, one: Run, load: Load) -> Run:
    print(
        f"{row.name}, {load.message.name}, {load.connections} connections:"
        f" {one.measured.delivered_rate:.0f}/s, {one.measured.cpu_ms:.3f} ms CPU;"
        f" client {one.measured.figures.line}",
        file=sys.stderr,
        flush=True,
    )
    return one


# ------------------------------------------------------------ the table

_HEAD = (
    "| | 4 KB, messages/s | x Postfix | 50 KB | x Postfix | CPU a message, 4 KB | 50 KB"
    " | p50 / p99 at 10 connections | at 40 |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Medians:
    """A row's figures, each the median of its rounds."""

    rounds: list[Round]

    def of(self, size: int, connections: int, figure: Callable[[Run], float]) -> float:
        return statistics.median(figure(one[size, connections]) for one in self.rounds)

    def rate(self, size: int) -> float:
        return self.of(size, MANY, lambda one: one.measured.delivered_rate)

    def cpu(self, size: int) -> str:
        own = self.of(size, MANY, lambda one: one.measured.cpu_ms)
        database = self.of(size, MANY, lambda one: one.database_cpu_ms)
        return f"{own:.2f}" + (f" + {database:.2f}" if database else "") + " ms"

    def latency(self, connections: int) -> str:
        p50 = self.of(SMALL, connections, lambda one: one.measured.figures.p50_ms)
        p99 = self.of(SMALL, connections, lambda one: one.measured.figures.p99_ms)
        return f"{p50:.1f} / {p99:.1f} ms"


def line(name: str, own: Medians, peer: Medians) -> str:
    rates = [
        text
        for size in (SMALL, LARGE)
        for text in (f"{own.rate(size):,.0f}", f"{own.rate(size) / peer.rate(size):.1f}")
    ]
    cells = [name, *rates, own.cpu(SMALL), own.cpu(LARGE), own.latency(FEW), own.latency(MANY)]
    return f"| {' | '.join(cells)} |"


def table(rows: list[Row], results: dict[str, list[Round]]) -> str:
    peer = Medians(results[rows[0].name])
    return "\n".join([_HEAD, *(line(row.name, Medians(results[row.name]), peer) for row in rows)])


def caption(options: argparse.Namespace, rsa: list[float], sync: list[float]) -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {machine.processor()}: RSA-2048 signature"
        f" {statistics.median(rsa):.2f} ms (`openssl speed rsa2048`), {machine.together()}, sync to disk"
        f" {statistics.median(sync):.2f} ms; medians,"
        f" `python -m tests.bench.bench_table -n {options.count} -k {options.rounds}`"
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("-k", "--rounds", type=int, default=3)
    options = parser.parse_args()
    if lacking := bench_peer.missing():
        raise SystemExit(f"Postfix cannot be measured here, there is no {', no '.join(lacking)}")
    rows = [
        Row(f"Postfix {bench_peer.version()} + Cyrus SASL + OpenDKIM", postfix, share=5),
        Row("relay, SQLite", on_sqlite),
        Row("relay, PostgreSQL", on_postgresql),
        Row("relay, SQLite, STARTTLS", under_tls),
    ]
    results: dict[str, list[Round]] = {row.name: [] for row in rows}
    rsa, sync = [], []
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        client = compile_client(options.client, Path(name))
        for _ in range(options.rounds):
            rsa.append(machine.rsa_ms())
            sync.append(machine.sync_ms())
            for row in rows:
                results[row.name].append(one_round(row, client, options.count))
    print(f"{caption(options, rsa, sync)}\n\n{table(rows, results)}")


if __name__ == "__main__":
    main()
