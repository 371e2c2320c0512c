"""The share of CPU of each stage in one run: load client -> relay -> smtp-sink.

    python -m tests.bench.bench_profile [--message FILE.eml] [-c 40] [-n 20000] [--store-url URL]

Each worker looks each millisecond at how much CPU its threads used and at where they are (``sampler``). A
stage is the innermost module of the relay at that moment, with what it calls, and stands behind its thread:
``main`` is the event loop, ``app.worker`` in it the loop itself with what it reads from sockets, ``writer``
the group commit. Looking costs a few per cent more.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.bench_relay import Relay, running
from tests.bench.load import Load, compile_client
from tests.bench.measuring import add_loads, arguments, loads, measure, print_measured
from tests.bench.sink import Sink

_SAMPLER = Path(__file__).with_name("sampler")
_WARM_UP = 400
_TOLD_SECONDS = 1.0  # by then they have told of all
_LEAST_SHARE = 0.002


def profile(relay: Relay, client: Path, load: Load, told: Path) -> None:
    measure(relay, client, Load(load.message, load.connections, _WARM_UP))
    before = _used(told)
    measured = measure(relay, client, load)
    used = _used(told)
    used.subtract(before)
    print_measured(load, measured)
    total = sum(used.values())
    for stage, nanoseconds in used.most_common():
        if nanoseconds >= total * _LEAST_SHARE:
            microseconds = nanoseconds / load.count / 1000
            print(f"  {nanoseconds / total:6.1%} {microseconds:7.1f} us  {stage}")
    print(f"  {total / load.count / 1000:14.1f} us  a message in all, looking not counted")


def _used(told: Path) -> Counter[str]:
    """What all workers have used so far, by stage, in nanoseconds."""
    time.sleep(_TOLD_SECONDS)
    used: Counter[str] = Counter()
    for file in told.glob("*.json"):
        used.update(json.loads(file.read_text()))
    return used


def main() -> None:
    parser = arguments(__doc__)
    add_loads(parser)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store-url", default="", help="default is SQLite in the temporary directory")
    options = parser.parse_args()
    sink = Sink()
    try:
        with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
            directory = Path(name)
            client, told = compile_client(options.client, directory), directory / "told"
            told.mkdir()
            os.environ |= {"SAMPLER_FOLDER": str(told), "PYTHONPATH": str(_SAMPLER)}
            store = {"workers": options.workers, "url": options.store_url}
            with running(directory / "relay", sink, **store) as relay:
                for load in loads(options, directory):
                    profile(relay, client, load, told)
    finally:
        sink.close()


if __name__ == "__main__":
    main()
