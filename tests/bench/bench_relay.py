"""End to end: load client -> relay -> smtp-sink, on this machine's loopback interface.

    python -m tests.bench.bench_relay [--message FILE.eml] [-c 40] [-n 20000] [--tls] [--store-url URL]

Prints messages per second accepted and delivered, accept latency, CPU per message of the relay alone,
and its memory.  The client is ``load.c`` beside this file; another one, given by ``--client``, takes the same
options and prints one line of figures.  Needs a C compiler, OpenSSL's headers, and Postfix's smtp-sink as the
next hop.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from relay.queue.views import count_by_state
from relay.store.engine import Store
from tests.bench.load import compile_client
from tests.bench.measuring import PROBE_DOMAIN, add_loads, arguments, loads, measure, print_measured
from tests.bench.processes import cpu_seconds, memory_bytes
from tests.bench.sink import Sink
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, grant, user_arn


@dataclass(frozen=True)
class Relay:
    """A gateway under load; ``root`` is the process that all its others are below."""

    gateway: Gateway
    login: Login
    store: Store
    tls: bool

    @property
    def port(self) -> int:
        return self.gateway.port

    @property
    def root(self) -> int:
        assert self.gateway.process is not None
        return self.gateway.process.pid

    @property
    def records(self) -> Mapping[str, str]:
        return self.gateway.records

    def is_waiting(self) -> bool:
        with self.store.read() as connection:
            states = count_by_state(connection)
        return bool(states.get("queued") or states.get("leased"))

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.root)

    def memory_bytes(self) -> int:
        return memory_bytes(self.root)


@contextmanager
def running(
    directory: Path,
    sink: Sink,
    *,
    workers: int = 2,
    url: str = "",
    tls: bool = False,
    probe: str = "",
    **settings: str,
) -> Iterator[Relay]:
    """A relay on SQLite in ``directory``, or on ``url``; mail to the probe's domain goes to ``probe``."""
    if tls:
        settings["RELAY_SMTP__ALLOW_PLAINTEXT_AUTH"] = "false"
    if probe:
        route = {"domain": PROBE_DOMAIN, "smarthost": probe, "tls": "none"}
        settings["RELAY_DELIVERY__ROUTES"] = json.dumps([route])
    gateway, login = set_up(directory, sink, workers, url, **settings)
    store = Store(gateway.environment.get("RELAY_STORE__URL") or f"sqlite:///{directory / 'relay.db'}")
    try:
        yield Relay(gateway, login, store, tls)
    finally:
        store.dispose()
        gateway.stop()


def set_up(directory: Path, sink: Sink, workers: int, url: str | None, **more: str) -> tuple[Gateway, Login]:
    """A started gateway with a lent identity, and the login of who borrows it."""
    settings = {"RELAY_RELAY__WORKERS": str(workers), "RELAY_SMTP__ALLOW_PLAINTEXT_AUTH": "true", **more}
    if url:
        settings["RELAY_STORE__URL"] = url
    gateway = Gateway(directory, sink, **settings)  # type: ignore[arg-type]
    gateway.run("init", str(directory))
    for account in (OWNER, DELEGATE):
        gateway.run(
            "account", "create", account, "--id", account, "--production",
            "--max-24h-send", "100000000", "--max-send-rate", "1000000",
        )  # fmt: skip
    identity = gateway.identity("owner.example")
    login = gateway.login("app")
    gateway.policy(identity, grant({"AWS": user_arn("app")}, identity))
    gateway.start()
    await_workers(gateway)
    return gateway, login


def await_workers(gateway: Gateway, starts: int = 1) -> None:
    """Until all serve: the first one greets before the others listen, and would have all connections.

    ``starts`` is how often the gateway was started by now.
    """
    while gateway.log().count(" ready workers=") < starts:
        time.sleep(0.02)


def listen(gateway: Gateway) -> str:
    """An event destination for every type, told in a file; the field that names its set."""
    topic = gateway.run("topic", "create", "events", "--account", DELEGATE)
    assert isinstance(topic, dict)
    gateway.run("topic", "subscribe", topic["arn"], "--protocol", "file", "events.jsonl")
    gateway.run("configuration-set", "create", "all", "--account", DELEGATE)
    events = "send,reject,bounce,complaint,delivery,delivery-delay"
    where = ("--account", DELEGATE, "--topic", topic["arn"], "--events", events)
    gateway.run("configuration-set", "destination", "all", "file", *where)
    return "X-SES-CONFIGURATION-SET: all\n"


def untold(gateway: Gateway) -> tuple[int, int]:
    """Events of which nobody was told yet, and notifications that were not posted yet."""
    with sqlite3.connect(gateway.directory / "relay.db") as connection:
        query = (
            "SELECT (SELECT count(*) FROM outbox WHERE {0}), (SELECT count(*) FROM notification WHERE {0})"
        )
        waiting = "state IN ('queued', 'leased')"
        events, notifications = connection.execute(query.format(waiting)).fetchone()
    return events, notifications


def print_telling(relay: Relay, cpu_before: float, count: int) -> None:
    """How far behind the telling was when all was delivered, how long it took to come after, and what
    accepting, delivering and telling cost together."""
    started, behind = time.perf_counter(), untold(relay.gateway)
    while any(untold(relay.gateway)):
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    cpu = relay.cpu_seconds() - cpu_before
    print(
        f"  behind then: {behind[0]} events, {behind[1]} notifications; all told {seconds:.1f} s later,"
        f" {cpu / count * 1000:.3f} ms CPU a message in all"
    )


def main() -> None:
    parser = arguments(__doc__)
    add_loads(parser)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tls", action="store_true", help="the clients use STARTTLS")
    parser.add_argument("--store-url", default="", help="default is SQLite in the temporary directory")
    parser.add_argument("--events", action="store_true", help="SQLite only: a destination for every type")
    options = parser.parse_args()
    if options.events and options.message:
        parser.error("--events needs a message that names its configuration set: leave --message out")
    sink = Sink()
    try:
        with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
            directory = Path(name)
            client = compile_client(options.client, directory)
            store = {"workers": options.workers, "url": options.store_url}
            with running(directory / "relay", sink, tls=options.tls, **store) as relay:
                fields = listen(relay.gateway) if options.events else ""
                for load in loads(options, directory, fields):
                    before = relay.cpu_seconds()
                    print_measured(load, measure(relay, client, load))
                    if options.events:
                        print_telling(relay, before, load.count)
    finally:
        sink.close()


if __name__ == "__main__":
    main()
