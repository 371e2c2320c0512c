"""A disk that fills: 452 before trouble, deliveries go on, and space that comes back is enough."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import OWNER, Gateway, Login
from tests.support.peers import absent
from tests.support.web import Answer, ask

MEGABYTE = 1024 * 1024
LOW = 32 * MEGABYTE


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    if os.geteuid() != 0:
        absent("only root can mount the small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this kernel mounts no tmpfs for us")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.fixture
def gateway(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """On the small disk, but for its log; the next hop is away at first."""
    recorder = Recorder(refused=frozenset())
    recorder.close()
    one = Gateway(disk, recorder, RELAY_STORE__LOW_DISK_BYTES=str(LOW), RELAY_RELAY__WORKERS="2")
    one.run("init", str(disk))
    one.account(OWNER)
    one.identity("owner.example")
    (disk / "serve.log").symlink_to(tmp_path_factory.mktemp("log") / "serve.log")
    one.start()
    yield one
    assert one.stop() == 0, one.log()


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path, until: int) -> None:
    """Leave so many octets free, or none."""
    with (disk / "filler").open("ab") as file:
        while free(disk) > until:
            try:
                file.write(b"\0" * min(MEGABYTE, max(free(disk) - until, 1)))
                file.flush()
            except OSError:
                break  # full


# A next hop that was away is tried again after up to a minute.
def wait_until(holds: Callable[[], bool], seconds: float = 100) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def send(gateway: Gateway, login: Login, rcpt: str) -> int:
    return gateway.send(login, rcpt=rcpt, mail_from="a@owner.example")[0]


def states(gateway: Gateway) -> list[str]:
    return [row["state"] for row in gateway.run("queue", "list")]


def is_drained(gateway: Gateway) -> bool:
    """Nothing waits; what a worker had in hand at the first order is told again."""
    gateway.invoke("queue", "retry", "--all")
    return states(gateway) == []


@pytest.mark.timeout(600)
def test_disk_that_fills_refuses_in_time_delivers_and_recovers(gateway, disk):
    app = gateway.login("app", OWNER)
    for number in range(3):
        assert send(gateway, app, f"early{number}@customer.example") == 250
    wait_until(lambda: states(gateway) == ["queued"] * 3)

    ready = f"http://127.0.0.1:{gateway.http_port}/readyz"
    assert ask(ready).status == 200
    fill(disk, LOW // 2)
    wait_until(lambda: send(gateway, app, "low@customer.example") == 452)
    wait_until(lambda: ask(ready) == Answer(503, "relay: disk: less is free than [store] low_disk_bytes\n"))

    shown = ask(ready.replace("readyz", "metrics")).text
    assert re.search(r'relay_refused_total{reason="low_disk"} [1-9]', shown)
    next_hop = Recorder(refused=frozenset(), port=int(gateway.recorder.address.rpartition(":")[2]))
    try:
        wait_until(lambda: is_drained(gateway))
        assert sum(len(one.recipients) for one in next_hop.arrived) >= 3

        fill(disk, 0)
        for _ in range(5):
            assert send(gateway, app, "full@customer.example") in (451, 452)

        (disk / "filler").unlink()
        wait_until(lambda: send(gateway, app, "after@customer.example") == 250)
        wait_until(lambda: ask(ready).status == 200)
        next_hop.wait_for("after@customer.example", 100)
        wait_until(lambda: is_drained(gateway))
    finally:
        next_hop.close()
