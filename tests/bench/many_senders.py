"""Mail from thousands of senders in turn, each with a credential, an identity and a session of its own."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.full_store import Tenants
from tests.support.gateway import Login

if TYPE_CHECKING:
    from tests.bench.bench_scale import Site

_SENDERS = 10_000
_SESSIONS = 16  # at once
_MOST_TRIES = 5
_BODY = "the quick brown fox jumps over the lazy dog\r\n" * 80


@dataclass(frozen=True, slots=True)
class Sender:
    """Who logs in, and the identity that it borrows."""

    login: Login
    name: str
    arn: str


def sender(tenants: Tenants, number: int) -> Sender:
    return Sender(tenants.login_for(number), tenants.name(number), tenants.arn(number))


def print_senders(site: Site, tenants: Tenants) -> None:
    print(f"\n## {_SENDERS} sessions of one message each")
    many = [sender(tenants, number) for number in range(min(_SENDERS, tenants.accounts))]
    with site.serving():
        for name, senders in (
            ("one sender", many[:1] * len(many)),
            ("each another sender, for the first time", many),
            ("the same again", many),
        ):
            _print_run(site, name, senders)


def _print_run(site: Site, name: str, senders: Sequence[Sender]) -> None:
    cpu, started = site.cpu_seconds(), time.perf_counter()
    with ThreadPoolExecutor(_SESSIONS) as pool:
        put_off = sum(pool.map(lambda one: send_until_taken(site.port, one), senders))
    seconds = time.perf_counter() - started
    while site.is_waiting():
        time.sleep(0.05)
    cpu = site.cpu_seconds() - cpu
    print(
        f"{name}: {len(senders) / seconds:.0f}/s, {cpu / len(senders) * 1000:.2f} ms CPU a session,"
        f" {site.memory_bytes() / 1e6:.0f} MB in the largest process; answered 451: {put_off}",
        flush=True,
    )


def send_until_taken(port: int, one: Sender) -> int:
    """How often it was put off before."""
    for put_off in range(_MOST_TRIES):
        if send(port, one):
            return put_off
    raise SystemExit(f"{one.name} was answered 451 {_MOST_TRIES} times")


def send(port: int, one: Sender) -> bool:
    """A session of one message; False if it is to be tried again."""
    told = base64.b64encode(f"\0{one.login.username}\0{one.login.password}".encode()).decode()
    head = (
        f"From: Alerts <alerts@{one.name}>\r\nTo: user@customer.example\r\nSubject: Hello\r\n"
        f"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@{one.name}>\r\n"
        f"X-SES-SOURCE-ARN: {one.arn}\r\nX-SES-FROM-ARN: {one.arn}\r\nX-SES-RETURN-PATH-ARN: {one.arn}\r\n"
    )
    envelope = f"MAIL FROM:<bounces@{one.name}>\r\nRCPT TO:<user@customer.example>\r\nDATA\r\n"
    with socket.create_connection(("127.0.0.1", port), 30) as sock, sock.makefile("rwb") as stream:
        _expect(stream.readline, b"220")
        for said, lines, answer in (
            ("EHLO load.example\r\n", 0, b"250"),
            (f"AUTH PLAIN {told}\r\n", 1, b"235"),
            (envelope, 3, b"354"),
            (f"{head}\r\n{_BODY}.\r\n", 1, b"250"),
        ):
            stream.write(said.encode())
            stream.flush()
            for _ in range(lines - 1):
                _expect(stream.readline, b"250")
            if _expect(stream.readline, answer) == b"451":
                return False
    return True


def _expect(readline: Callable[[], bytes], answer: bytes) -> bytes:
    """The code of the reply: the one wanted, or that of a passing failure."""
    while (line := readline())[3:4] == b"-":
        pass
    if not line.startswith((answer, b"451")):
        raise SystemExit(f"wanted {answer.decode()}: {line.decode(errors='replace')}")
    return line[:3]
