"""One run: a load sent to a server and delivered by it, and what that took.

A server is whatever takes mail under a login, signs it and hands it on: the relay, or another one beside it.
"""

from __future__ import annotations

import argparse
import smtplib
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relay.app.recorder import Recorder
from tests.bench import load as client
from tests.bench.load import Figures, Load
from tests.support.dkim_verifier import verifies
from tests.support.gateway import Login, arn, transact

# Mail to this domain goes to a next hop that keeps it, so that the signature can be looked at.
PROBE_DOMAIN = "probe.example"
_DRAIN_SECONDS = 120.0
_POLL_SECONDS = 0.02


class Server(Protocol):
    @property
    def port(self) -> int: ...
    @property
    def login(self) -> Login: ...
    @property
    def tls(self) -> bool:
        """Whether clients use STARTTLS."""

    @property
    def records(self) -> Mapping[str, str]:
        """The TXT records that verify its signatures, by name."""

    def is_waiting(self) -> bool:
        """Whether something is still to be delivered."""

    def cpu_seconds(self) -> float:
        """Of all its processes since their start, a database server's not counted."""

    def memory_bytes(self) -> int:
        """Of its largest process."""


@dataclass(frozen=True)
class Measured:
    figures: Figures
    delivered_rate: float  # messages a second until the last one was delivered
    cpu_ms: float  # of the server, a message
    memory_bytes: int


def measure(server: Server, program: Path, load: Load) -> Measured:
    before, started = server.cpu_seconds(), time.perf_counter()
    figures = client.send(program, server.port, server.login, server.tls, load)
    seconds = _drain(server, started)
    cpu = server.cpu_seconds() - before
    return Measured(figures, load.count / seconds, cpu / load.count * 1000, server.memory_bytes())


def _drain(server: Server, started: float) -> float:
    """Seconds from ``started`` until nothing waits to be delivered."""
    give_up_at = time.perf_counter() + _DRAIN_SECONDS
    while time.perf_counter() < give_up_at:
        if not server.is_waiting():
            return time.perf_counter() - started
        time.sleep(_POLL_SECONDS)
    raise SystemExit("the queue did not drain")


def print_measured(load: Load, measured: Measured) -> None:
    print(f"{load.message.name}, {load.connections} connections: {measured.figures.line}")
    print(
        f"  accepted {measured.figures.rate:.0f}/s, delivered {measured.delivered_rate:.0f}/s end to end,"
        f" {measured.cpu_ms:.3f} ms CPU a message, {measured.memory_bytes / 1e6:.0f} MB in the largest"
        " process"
    )


def check_signature(server: Server, probe: Recorder) -> None:
    """One message to the probe: it must arrive, under a signature that verifies."""
    recipient, name = f"user@{PROBE_DOMAIN}", arn("owner.example")
    message = (
        f"From: Acme Alerts <alerts@owner.example>\r\nTo: {recipient}\r\nSubject: Probe\r\n"
        f"X-SES-SOURCE-ARN: {name}\r\n\r\nHello.\r\n"
    )
    with smtplib.SMTP("127.0.0.1", server.port, "load.example", timeout=20) as session:
        if server.tls:
            session.starttls(context=ssl._create_unverified_context())
        session.login(server.login.username, server.login.password)
        code, text = transact(session, client.MAIL_FROM, [recipient], message)
    if code != 250:
        raise SystemExit(f"the probe was refused: {code} {text}")
    arrived = probe.wait_for(recipient, 20).data
    if not verifies(arrived, server.records):
        raise SystemExit(f"what arrives has no good signature:\n{arrived.decode(errors='replace')}")


def arguments(
    description: str | None, count: int = 20_000, counted: str = "messages a run"
) -> argparse.ArgumentParser:
    """What every benchmark of a server is told."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=form)
    parser.add_argument(
        "--client", type=Path, default=client.SOURCE, help="another load client, or its C source"
    )
    parser.add_argument("-n", "--count", type=int, default=count, help=counted)
    return parser


def add_loads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--message", type=Path, action="append", help="a message file; default 4 KB and 50 KB"
    )
    parser.add_argument("-c", "--connections", type=int, action="append", help="default 10 and 40")
    parser.add_argument("--pipeline", action="store_true", help="MAIL, RCPT and DATA in one write")
    parser.add_argument("--reconnect", type=int, default=0, help="messages over one connection; 0: all")


def loads(options: argparse.Namespace, directory: Path, fields: str = "") -> list[Load]:
    messages = options.message or [client.message_of(size, directory, fields) for size in (4_000, 50_000)]
    return [
        Load(message, connections, options.count, options.pipeline, options.reconnect)
        for message in messages
        for connections in options.connections or [10, 40]
    ]
