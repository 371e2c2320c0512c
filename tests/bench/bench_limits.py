"""What the relay needs of a machine beside time: memory of idle clients and of large messages, and its start.

    python -m tests.bench.bench_limits

Prints, as a Markdown table, the time from ``relay serve`` to the first 220; the memory that 1,000 idle
connections take, in clear and logged in under TLS; and the most that a worker has while it takes 10 messages
of 40 MB at once.  Needs what ``bench_relay`` needs.
"""

from __future__ import annotations

import resource
import smtplib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.bench_relay import Relay, running
from tests.bench.load import Load, compile_client, message_of
from tests.bench.measuring import arguments, measure
from tests.bench.processes import all_memory_bytes, peak_memory_bytes
from tests.bench.sink import Sink

_STARTS = 3
_LARGE, _LARGE_BYTES = 10, 40_000_000
_FILES = 4096


def start_seconds(relay: Relay) -> float:
    """The store is there already: as after a restart."""
    taken = []
    for _ in range(_STARTS):
        relay.gateway.stop()
        started = time.perf_counter()
        relay.gateway.start()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def idle_bytes(relay: Relay, connect: Callable[[], smtplib.SMTP], count: int) -> int:
    """What ``count`` clients that say nothing take of a relay that was just started."""
    relay.gateway.stop()
    relay.gateway.start()
    before = all_memory_bytes(relay.root)
    with ExitStack() as stack:
        for _ in range(count):
            stack.callback(connect().close)
        return all_memory_bytes(relay.root) - before


def greeted(relay: Relay) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", relay.port, "load.example", timeout=20)
    client.ehlo()
    return client


def peak_bytes(relay: Relay, program: Path, directory: Path) -> int:
    """Of the one worker, large messages having come at once."""
    measure(relay, program, Load(message_of(_LARGE_BYTES, directory), _LARGE, _LARGE))
    return peak_memory_bytes(relay.root)


def print_row(name: str, figure: str) -> None:
    print(f"| {name} | {figure} |", flush=True)


def main() -> None:
    options = arguments(__doc__, count=1_000, counted="idle connections").parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most), most))
    limits = {"RELAY_SMTP__MAX_CONNECTIONS_PER_ADDRESS": "2000"}
    sink = Sink()
    try:
        with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
            directory = Path(name)
            program = compile_client(options.client, directory)
            with running(directory / "two", sink, **limits) as relay:
                print("| `tests.bench.bench_limits` | |\n|---|---|")
                print_row("start to the first 220", f"{start_seconds(relay):.2f} s")
                clear = idle_bytes(relay, lambda: greeted(relay), options.count)
                print_row(f"{options.count:,} idle connections", f"{clear / 1e6:.0f} MB")
                login = relay.login
                secure = idle_bytes(relay, lambda: relay.gateway.client(login), options.count)
                print_row("the same logged in under TLS", f"{secure / 1e6:.0f} MB")
            with running(directory / "one", sink, workers=1) as relay:
                large = f"a worker that takes {_LARGE} messages of {_LARGE_BYTES / 1e6:.0f} MB at once"
                print_row(large, f"at most {peak_bytes(relay, program, directory) / 1e6:.0f} MB")
    finally:
        sink.close()


if __name__ == "__main__":
    main()
