"""Worker processes beside each other: their share of the connections, and the death of one."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from relay.app.recorder import Arrived, Recorder
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login
from tests.support.wire import Wire

WORKERS = 2
SECONDS = 20.0
_LISTENS = "0A"


@pytest.fixture
def gateway(tmp_path: Path, recorder: Recorder) -> Iterator[Gateway]:
    one = Gateway(tmp_path, recorder, RELAY_RELAY__WORKERS=str(WORKERS))
    one.run("init", str(tmp_path))
    yield one
    assert one.stop() == 0, one.log()
    assert "Traceback" not in one.log(), one.log()


def workers_of(gateway: Gateway) -> list[int]:
    assert gateway.process is not None
    listed = subprocess.run(
        ["ps", "--ppid", str(gateway.process.pid), "-o", "pid="], capture_output=True, text=True, check=True
    )
    return [int(pid) for pid in listed.stdout.split()]


def connections(pid: int, port: int) -> int:
    """How many TCP connections with that port at either end the process has open, closed ones included that
    it has not noticed yet."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = {int(end.partition(":")[2], 16) for end in fields[1:3]}
        if port in ports and fields[3] != _LISTENS:
            inodes.add(f"socket:[{fields[9]}]")
    held = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            held.add(os.readlink(fd))
    return len(inodes & held)


def wait_for(condition: Callable[[], bool], gateway: Gateway) -> None:
    give_up_at = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, gateway.log()
        time.sleep(0.02)


def greeted(stack: ExitStack, gateway: Gateway, count: int) -> list[socket.socket]:
    """Connections that are opened at once and greeted."""
    found = []
    for _ in range(count):
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), SECONDS))
        found.append(sock)
    assert all(sock.recv(3) == b"220" for sock in found)
    return found


@pytest.mark.parametrize("more", [0, 1])
def test_each_worker_has_a_processor_of_its_own_if_there_are_as_many(
    tmp_path: Path, recorder: Recorder, more: int
):
    processors = os.sched_getaffinity(0)
    gateway = Gateway(tmp_path, recorder, RELAY_RELAY__WORKERS=str(len(processors) + more))
    gateway.run("init", str(tmp_path))
    gateway.start()
    wait_for(lambda: " ready workers=" in gateway.log(), gateway)
    stays = [os.sched_getaffinity(pid) for pid in workers_of(gateway)]
    assert gateway.stop() == 0, gateway.log()
    if more:
        assert all(on == processors for on in stays), "none of them may be left to share one"
    else:
        assert all(len(on) == 1 for on in stays)
        assert set().union(*stays) == processors


def test_each_worker_gets_as_many_connections(gateway: Gateway):
    gateway.start()
    wait_for(lambda: "ready" in gateway.log(), gateway)
    pids = workers_of(gateway)

    def shares() -> list[int]:
        return [connections(pid, gateway.port) for pid in pids]

    def are_even() -> bool:
        # A machine that lets a worker wait for its turn longer than others wait for it costs one or two.
        return all(4 <= share <= 6 for share in shares())

    wait_for(lambda: shares() == [0, 0], gateway)
    for _ in range(5):
        with ExitStack() as stack:
            socks = greeted(stack, gateway, 10)
            assert are_even(), shares()
            gone = [sock for sock in socks if _is_of(pids[0], sock)][:4]
            for sock in gone:
                sock.close()
            wait_for(lambda: sum(shares()) == 6, gateway)
            greeted(stack, gateway, 4)  # whoever lost some gets them
            assert are_even(), shares()
        wait_for(lambda: shares() == [0, 0], gateway)


def _is_of(pid: int, sock: socket.socket) -> bool:
    return connections(pid, sock.getsockname()[1]) == 1


def test_worker_that_hangs_leaves_its_share_to_the_others(gateway: Gateway):
    gateway.start()
    wait_for(lambda: "ready" in gateway.log(), gateway)
    hanging = workers_of(gateway)[0]
    os.kill(hanging, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            greeted(stack, gateway, 10)
    finally:
        os.kill(hanging, signal.SIGCONT)


def test_account_leaves_connections_to_others(gateway: Gateway):
    gateway.environment |= {"RELAY_RELAY__WORKERS": "1", "RELAY_SMTP__MAX_CONNECTIONS": "8"}
    for account in (OWNER, DELEGATE):
        gateway.account(account)
    bulk, small = gateway.login("bulk", DELEGATE), gateway.login("small", OWNER)
    gateway.start()
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(gateway.client(bulk))
        with Wire(gateway) as wire:
            wire.say("EHLO client.example")
            plain = base64.b64encode(f"\0{bulk.username}\0{bulk.password}".encode()).decode()
            reply = wire.say(f"AUTH PLAIN {plain}")
            assert reply == "421 Too many concurrent SMTP connections of your account"
            assert wire.is_closed()
        stack.enter_context(gateway.client(small))
    wait_for(lambda: "too many connections account=222222222222" in gateway.log(), gateway)
    with gateway.client(bulk) as client:
        assert client.noop()[0] == 250


class Hanging(list[Arrived]):
    """What arrived at a next hop that does not answer the first message until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()

    def append(self, message: Arrived) -> None:
        super().append(message)
        if len(self) == 1:
            self.may_answer.wait(SECONDS)


def test_mail_in_the_hands_of_a_worker_that_dies_goes_on_at_once(gateway: Gateway):
    """Not after the lease time: the supervisor says that it is dead."""
    hop, hanging = Recorder(frozenset()), Hanging()
    hop.arrived = hanging
    gateway.environment["RELAY_DELIVERY__SMARTHOST"] = hop.address
    port = int(hop.address.rpartition(":")[2])
    try:
        gateway.account(OWNER)
        gateway.identity("owner.example")
        login = gateway.login("app", OWNER)
        gateway.start()
        assert gateway.send(login, rcpt="a@customer.example")[0] == 250
        wait_for(lambda: len(hanging) == 1, gateway)
        [holder] = [pid for pid in workers_of(gateway) if connections(pid, port)]
        os.kill(holder, signal.SIGKILL)
        wait_for(lambda: len(hanging) == 2, gateway)
        assert hanging[0].data == hanging[1].data
        wait_for(lambda: gateway.run("queue", "list") == [], gateway)
        assert gateway.log().count("worker died") == 1
    finally:
        hanging.may_answer.set()
        hop.close()


# ---------------------------------------------------------------- memory


@pytest.fixture
def sender(gateway: Gateway) -> Login:
    """A user who may send as owner.example, through one worker."""
    gateway.environment["RELAY_RELAY__WORKERS"] = "1"
    gateway.account(OWNER)
    gateway.identity("owner.example")
    return gateway.login("app", OWNER)


def test_more_mail_than_there_is_memory_for_is_put_off(gateway: Gateway, sender: Login):
    gateway.environment["RELAY_SMTP__MAX_ARRIVING_BYTES"] = "500000"
    gateway.start()
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(gateway)).log_in(sender) for _ in range(5)]
        for wire in wires:
            wire.envelope("bounces@owner.example")
        for wire in wires:
            wire.send(b"From: a@owner.example\r\n\r\n" + b"x\r\n" * 80_000)
        late = stack.enter_context(Wire(gateway)).log_in(sender)
        refused = "452 Too much mail is arriving at once; try again later"
        wait_for(lambda: _answer_to_mail(late) == refused, gateway)
    with Wire(gateway) as wire:
        wire.log_in(sender)
        wait_for(lambda: _answer_to_mail(wire) == "250 Ok", gateway)


def _answer_to_mail(wire: Wire) -> str:
    wire.say("RSET")
    return wire.say("MAIL FROM:<bounces@owner.example>")


def test_ten_large_messages_at_once_take_no_more_memory_than_allowed(gateway: Gateway, sender: Login):
    """Each as large as SES takes it; none is ever whole in memory."""
    gateway.start()
    [pid] = workers_of(gateway)
    line = b"x" * 76 + b"\r\n"
    body = line * (39 * 1024 * 1024 // len(line))

    def send(_: int) -> int:
        with gateway.client(sender) as client:
            client.mail("bounces@owner.example")
            client.rcpt("user@customer.example")
            client.putcmd("DATA")
            client.getreply()
            client.send(b"From: a@owner.example\r\n\r\n" + body + b".\r\n")
            return client.getreply()[0]

    with ThreadPoolExecutor(10) as clients:
        assert list(clients.map(send, range(10))) == [250] * 10
    assert _peak_mebibytes(pid) < 300


def _peak_mebibytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024  # type: ignore[index]
