"""End to end: load client -> relay -> smtp-sink, on this machine's loopback interface.

    python tests/bench/bench_relay.py --client smtpload.c [--message FILE.eml] [-c 40] [-n 20000]

Prints messages per second accepted and delivered, accept latency, CPU per message of the relay alone,
and its memory.  The client is a C program that sends MAIL, RCPT and DATA over kept connections with
AUTH PLAIN and prints one line of figures (options -h -p -u -w -f -t -c -n -m); a file that ends in .c is
compiled first.  Needs a C compiler for that, and Postfix's smtp-sink as the next hop.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, arn, free_ports, grant, user_arn

_SINK_DIRECTORIES = ("/usr/sbin", "/usr/lib/postfix/sbin", "/usr/local/sbin")
_TICKS = 100  # of /proc/PID/stat, on every Linux we run on
_DRAIN_SECONDS = 60.0


class Sink:
    """smtp-sink as the next hop; ``address`` as the settings want it."""

    def __init__(self) -> None:
        program = shutil.which("smtp-sink", path=":".join(_SINK_DIRECTORIES))
        if program is None:
            raise SystemExit("smtp-sink not found: apt-get install postfix")
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        self.refused: frozenset[str] = frozenset()
        self.process = subprocess.Popen(
            [program, "-u", "nobody", "-h", "sink.example", f"inet:{self.address}", "1000"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def compile_client(source: Path, directory: Path) -> Path:
    if source.suffix != ".c":
        return source.resolve()
    program = directory / "load"
    subprocess.run(["cc", "-O2", "-pthread", "-o", str(program), str(source)], check=True)
    return program


def message_of(size: int, directory: Path, fields: str = "") -> Path:
    """A message of about ``size`` octets with the ARN fields a delegate sends."""
    name = arn("owner.example")
    head = (
        "From: Acme Alerts <alerts@owner.example>\nTo: user@customer.example\nSubject: Load @SEQ@\n"
        "Date: Mon, 23 Nov 2026 10:00:00 +0000\nMessage-ID: <@SEQ@.load@owner.example>\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        f"X-SES-SOURCE-ARN: {name}\nX-SES-FROM-ARN: {name}\nX-SES-RETURN-PATH-ARN: {name}\n{fields}\n"
    )
    line = "the quick brown fox jumps over the lazy dog and carries a letter\n"
    path = directory / f"message-{size}.eml"
    path.write_text(head + line * (size // len(line)))
    return path


def cpu_seconds(session: int) -> float:
    """CPU of every process of the session the gateway was started in."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def memory_bytes(session: int) -> int:
    """The largest resident set among the gateway's processes."""
    largest = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            largest = max(largest, int(fields[21]) * 4096)
    return largest


def session_of(gateway: Gateway) -> int:
    """The session that the gateway's processes are in."""
    assert gateway.process is not None
    return gateway.process.pid


def set_up(directory: Path, sink: Sink, workers: int, url: str | None) -> tuple[Gateway, Login]:
    settings = {"RELAY_RELAY__WORKERS": str(workers), "RELAY_SMTP__ALLOW_PLAINTEXT_AUTH": "true"}
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
    return gateway, login


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


def measure(
    gateway: Gateway, login: Login, client: Path, message: Path, connections: int, count: int
) -> None:
    session = session_of(gateway)
    before, started = cpu_seconds(session), time.perf_counter()
    done = subprocess.run(
        [
            str(client), "-h", "127.0.0.1", "-p", str(gateway.port), "-u", login.username,
            "-w", login.password, "-f", "bounces@owner.example", "-t", "user@customer.example",
            "-c", str(connections), "-n", str(count), "-m", str(message),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    accepted = time.perf_counter() - started
    drained = drain(gateway, started)
    cpu = cpu_seconds(session) - before
    print(f"{message.name}, {connections} connections: {done.stdout.strip()}")
    rate = re.search(r"rate=([0-9.]+)", done.stdout)
    print(
        f"  accepted {float(rate[1]) if rate else 0:.0f}/s in {accepted:.2f} s, delivered"
        f" {count / drained:.0f}/s end to end, {cpu / count * 1000:.3f} ms CPU a message,"
        f" {memory_bytes(session) / 1e6:.0f} MB in the largest process"
    )


def print_telling(gateway: Gateway, cpu_before: float, count: int) -> None:
    """How far behind the telling was when all was delivered, how long it took to come after, and what
    accepting, delivering and telling cost together."""
    started, behind = time.perf_counter(), untold(gateway)
    while any(untold(gateway)):
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    cpu = cpu_seconds(session_of(gateway)) - cpu_before
    print(
        f"  behind then: {behind[0]} events, {behind[1]} notifications; all told {seconds:.1f} s later,"
        f" {cpu / count * 1000:.3f} ms CPU a message in all"
    )


def drain(gateway: Gateway, started: float) -> float:
    """Seconds from ``started`` until nothing waits to be delivered."""
    from relay.queue.views import count_by_state
    from relay.store.engine import Store

    url = gateway.environment.get("RELAY_STORE__URL") or f"sqlite:///{gateway.directory / 'relay.db'}"
    store = Store(url)
    try:
        while time.perf_counter() - started < _DRAIN_SECONDS:
            with store.read() as connection:
                states = count_by_state(connection)
            if not states.get("queued") and not states.get("leased"):
                return time.perf_counter() - started
            time.sleep(0.05)
    finally:
        store.dispose()
    raise SystemExit("the queue did not drain")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--client", type=Path, required=True, help="the load client, or its C source")
    parser.add_argument(
        "--message", type=Path, action="append", help="a message file; default 4 KB and 50 KB"
    )
    parser.add_argument("-c", "--connections", type=int, action="append")
    parser.add_argument("-n", "--count", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store-url", help="default is SQLite in the temporary directory")
    parser.add_argument("--events", action="store_true", help="SQLite only: a destination for every type")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        directory = Path(name)
        sink = Sink()
        gateway, login = set_up(directory, sink, options.workers, options.store_url)
        try:
            client = compile_client(options.client, directory)
            fields = listen(gateway) if options.events else ""
            usual = [message_of(size, directory, fields) for size in (4_000, 50_000)]
            for message in options.message or usual:
                for connections in options.connections or [10, 40]:
                    before = cpu_seconds(session_of(gateway))
                    measure(gateway, login, client, message, connections, options.count)
                    if options.events:
                        print_telling(gateway, before, options.count)
        finally:
            gateway.stop()
            sink.close()


if __name__ == "__main__":
    main()
