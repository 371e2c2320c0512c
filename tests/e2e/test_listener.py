"""Between a connection and its session: handshakes that hang, too many connections, no more files."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import Gateway
from tests.support.peers import require
from tests.support.wire import Wire


@pytest.fixture
def gateway(tmp_path, recorder: Recorder) -> Iterator[Gateway]:
    one = Gateway(tmp_path, recorder, RELAY_SMTP__MAX_CONNECTIONS_PER_ADDRESS="3")
    one.run("init", str(tmp_path))
    yield one
    assert one.stop() == 0, one.log()
    assert "Traceback" not in one.log(), one.log()


def silent(stack: ExitStack, gateway: Gateway, sender: str) -> socket.socket:
    """A connection to the TLS listener on which no handshake begins."""
    address = ("127.0.0.1", gateway.tls_port)
    return stack.enter_context(socket.create_connection(address, 20, (sender, 0)))


def await_line(gateway: Gateway, words: str) -> None:
    give_up_at = time.monotonic() + 10
    while words not in gateway.log():
        assert time.monotonic() < give_up_at, gateway.log()
        time.sleep(0.02)


def test_connection_counts_for_its_address_before_the_handshake(gateway):
    gateway.start()
    with ExitStack() as stack:
        for _ in range(3):
            silent(stack, gateway, "127.0.0.50")
        assert silent(stack, gateway, "127.0.0.50").recv(1) == b"", "closed without a handshake"
        await_line(gateway, "too many connections client=127.0.0.50")
        with Wire(gateway, tls=False, sender="127.0.0.50") as wire:
            assert wire.greeting == "421 Too many concurrent SMTP connections"
        with Wire(gateway, implicit=True, sender="127.0.0.51") as wire:
            assert wire.greeting.startswith("220 ")
    with Wire(gateway, implicit=True, sender="127.0.0.52") as wire:
        assert wire.greeting.startswith("220 ")


def test_handshake_that_failed_counts_no_more(gateway):
    gateway.start()
    for _ in range(5):
        with ExitStack() as stack:
            sock = silent(stack, gateway, "127.0.0.60")
            sock.sendall(b"EHLO client.example\r\n")
            while sock.recv(4096):
                pass
    with Wire(gateway, implicit=True, sender="127.0.0.60") as wire:
        assert wire.greeting.startswith("220 ")


def test_handshake_that_hangs_does_not_hold_up_the_end(gateway):
    gateway.start()
    with ExitStack() as stack:
        silent(stack, gateway, "127.0.0.70")
        with Wire(gateway, tls=False) as wire:
            assert wire.greeting.startswith("220 ")
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 8


def test_listener_that_ran_out_of_files_goes_on_when_there_are_some(gateway):
    gateway.start(require("prlimit"), "--nofile=60:60")
    with ExitStack() as stack:
        for number in range(60):
            silent(stack, gateway, f"127.0.1.{number}")
        await_line(gateway, "cannot accept connections")
    with Wire(gateway, tls=False) as wire:
        assert wire.greeting.startswith("220 ")
