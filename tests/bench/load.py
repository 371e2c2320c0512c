"""The load client: built from ``load.c``, run once for each figure."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.gateway import Login, arn

SOURCE = Path(__file__).with_name("load.c")
MAIL_FROM, RCPT_TO = "bounces@owner.example", "user@customer.example"


@dataclass(frozen=True)
class Load:
    """What is sent, and how."""

    message: Path
    connections: int
    count: int
    pipeline: bool = False
    reconnect_after: int = 0


@dataclass(frozen=True)
class Figures:
    """What the client saw; latency from MAIL to the reply to the data, CPU of the client alone."""

    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    cpu_ms: float
    line: str


def compile_client(source: Path, directory: Path) -> Path:
    """The program; a file that does not end in .c is one already."""
    if source.suffix != ".c":
        return source.resolve()
    if shutil.which("cc") is None:
        raise SystemExit("no C compiler for the load client: apt-get install gcc libc6-dev libssl-dev")
    program = directory / source.stem
    command = ["cc", "-O2", "-pthread", "-o", str(program), str(source), "-lssl", "-lcrypto"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the load client does not compile (apt-get install libssl-dev):\n{done.stderr}")
    return program


def send(program: Path, port: int, login: Login, tls: bool, load: Load) -> Figures:
    """Everything sent; the run ends where a message did not get 250."""
    command = [
        str(program), "-h", "127.0.0.1", "-p", str(port), "-u", login.username, "-w", login.password,
        "-f", MAIL_FROM, "-t", RCPT_TO, "-c", str(load.connections), "-n", str(load.count),
        "-m", str(load.message), *["-T"] * tls, *["-P"] * load.pipeline,
    ]  # fmt: skip
    if load.reconnect_after:
        command += ["-r", str(load.reconnect_after)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"not every message was accepted:\n{done.stdout}{done.stderr}")
    return figures_of(done.stdout.strip())


def figures_of(line: str) -> Figures:
    """``rate=2300.1/s p50=3.21ms …``; what a client does not tell is 0."""
    told = {name: float(value) for name, value in re.findall(r"(\w+)=([0-9.]+)", line)}
    latencies = (told.get(name, 0.0) for name in ("p50", "p95", "p99", "max", "cpu"))
    return Figures(told.get("rate", 0.0), *latencies, line)


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
