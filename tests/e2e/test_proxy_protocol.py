"""The PROXY protocol on both kinds of listener: whom it names is the client, and who may name one."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import OWNER, Gateway, Login
from tests.support.proxy import SIGNATURE, addresses, tlv, v2
from tests.support.wire import Wire

# The balancer may name clients; the rest of the loopback network is anyone.
BALANCER, ANYONE = "127.0.0.9", "127.0.0.1"
CLIENT, CLIENT_V6 = "203.0.113.7", "2001:db8:1:2::7"
V1 = f"PROXY TCP4 {CLIENT} 198.51.100.1 40000 587\r\n".encode()
V1_V6 = f"PROXY TCP6 {CLIENT_V6} 2001:db8::1 40000 587\r\n".encode()
V2 = v2(0x21, 0x11, addresses(CLIENT, "198.51.100.1"))
V2_V6 = v2(0x21, 0x21, addresses(CLIENT_V6, "2001:db8::1") + tlv(0x03, bytes(4)) + tlv(0xE0, b"x" * 100))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Gateway]:
    one = Gateway(
        tmp_path_factory.mktemp("relay"),
        recorder,
        RELAY_SMTP__PROXY_FROM=f"{BALANCER},10.0.0.0/8",
        RELAY_SMTP__MAX_CONNECTIONS_PER_ADDRESS="3",
    )
    one.run("init", str(one.directory))
    one.account(OWNER)
    one.start()
    yield one
    assert one.stop() == 0, one.log()
    assert "Traceback" not in one.log(), one.log()


@pytest.fixture(scope="module")
def owner(gateway: Gateway, domain: str) -> Login:
    return gateway.login("owner", account=OWNER)


@contextmanager
def connected(gateway: Gateway, implicit: bool, sender: str = BALANCER) -> Iterator[socket.socket]:
    port = gateway.tls_port if implicit else gateway.port
    with socket.create_connection(("127.0.0.1", port), 20, (sender, 0)) as sock:
        yield sock


def received(sock: socket.socket) -> bytes:
    """Everything until the other side closes."""
    data = b""
    try:
        while more := sock.recv(4096):
            data += more
    except ConnectionResetError:
        pass
    return data


def attempt(user: str) -> bytes:
    """A login that fails; its answer is not worth waiting for, the log has it at once."""
    return b"AUTH PLAIN " + base64.b64encode(f"\0{user}\0x".encode()) + b"\r\n"


def last_line(gateway: Gateway, words: str, seconds: float = 10) -> str:
    """The newest line of the log with those words, once there is one."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        found = [line for line in gateway.log().splitlines() if words in line]
        if found:
            return found[-1]
        time.sleep(0.02)
    raise AssertionError(f"{words!r} is not in the log:\n{gateway.log()}")


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
@pytest.mark.parametrize(
    ("header", "client"),
    [(V1, CLIENT), (V1_V6, CLIENT_V6), (V2, CLIENT), (V2_V6, CLIENT_V6)],
    ids=["v1", "v1 IPv6", "v2", "v2 IPv6 with parameters"],
)
class TestNamedClient:
    def test_mail_is_taken_and_recorded_as_from_that_address(self, gateway, owner, implicit, header, client):
        with Wire(gateway, implicit=implicit, sender=BALANCER, preface=header) as wire:
            wire.log_in(owner)
            wire.envelope("a@owner.example")
            wire.send(b"From: a@owner.example\r\n\r\nx\r\n.\r\n")
            reply = wire.reply()
        assert reply.startswith("250 Ok "), reply
        shown = gateway.run("message", "show", reply.split()[-1])
        assert json.dumps(client) in json.dumps(shown)
        assert BALANCER not in json.dumps(shown)

    def test_failed_login_is_logged_as_from_that_address(self, gateway, implicit, header, client):
        user = f"nobody{implicit}{len(header)}{header[0]}"
        with Wire(gateway, implicit=implicit, sender=BALANCER, preface=header) as wire:
            wire.say("EHLO x")
            wire.send(attempt(user))
            assert f"client={client} user={user}" in last_line(gateway, f"user={user}")


def test_header_that_comes_in_pieces_with_tls_right_behind_is_read_to_its_end(gateway):
    """The handshake's first octets come in one segment with the header's last."""
    context = ssl.create_default_context(cafile=str(gateway.directory / "relay.crt"))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="relay.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with connected(gateway, implicit=True) as sock:
        for octet in V2[:-1]:
            sock.sendall(bytes([octet]))
        sock.sendall(V2[-1:] + outgoing.read())
        while True:
            incoming.write(sock.recv(4096))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        sock.sendall(outgoing.read())
        while True:
            try:
                assert tls.read(3) == b"220"
                break
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(4096))


def test_commands_behind_the_header_are_read_as_commands(gateway):
    with connected(gateway, implicit=False) as sock:
        sock.sendall(V1 + b"NOOP\r\nQUIT\r\n")
        assert [line[:3] for line in received(sock).splitlines()] == [b"220", b"250", b"221"]


@pytest.mark.parametrize(
    "header",
    [b"PROXY UNKNOWN\r\n", v2(0x20, 0x00, b""), v2(0x21, 0x00, b"")],
    ids=["v1", "LOCAL", "no family"],
)
@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
def test_health_check_is_the_balancers_own_connection(gateway, implicit, header):
    user = f"health{implicit}{len(header)}{header[12:13].hex()}"
    with Wire(gateway, implicit=implicit, sender=BALANCER, preface=header) as wire:
        wire.say("EHLO x")
        wire.send(attempt(user))
        assert f"client={BALANCER} " in last_line(gateway, f"user={user}")


def test_connections_are_counted_for_the_client_and_not_for_the_balancer(gateway):
    many = b"PROXY TCP4 203.0.113.99 198.51.100.1 40000 587\r\n"
    wires = [Wire(gateway, tls=False, sender=BALANCER, preface=many) for _ in range(4)]
    assert [wire.greeting[:3] for wire in wires] == ["220", "220", "220", "421"]
    with Wire(gateway, tls=False, sender=BALANCER, preface=V1) as other:
        assert other.greeting.startswith("220")
    for wire in wires:
        wire.sock.close()
    assert "client=203.0.113.99" in last_line(gateway, "too many connections")


def test_credential_bound_to_a_network_is_judged_by_the_client(gateway, domain):
    login = gateway.login("bound", account=OWNER)
    gateway.run("credential", "update", login.username, "--network", "203.0.113.200/32")
    plain = base64.b64encode(f"\0{login.username}\0{login.password}".encode()).decode()
    for client, code in ((b"203.0.113.200", "235"), (b"203.0.113.201", "535")):
        with Wire(gateway, sender=BALANCER, preface=V1.replace(CLIENT.encode(), client)) as wire:
            wire.say("EHLO x")
            assert wire.say(f"AUTH PLAIN {plain}")[:3] == code


class TestAnyoneElse:
    @pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
    def test_header_is_an_unknown_command(self, gateway, header):
        with connected(gateway, implicit=False, sender=ANYONE) as sock:
            sock.sendall(header + b"\r\nQUIT\r\n")
            lines = received(sock).splitlines()
        assert lines[0].startswith(b"220 "), "greeted at once"
        assert {line[:3] for line in lines[1:-1]} == {b"500"}
        assert lines[-1].startswith(b"221 ")

    @pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
    def test_header_is_no_tls(self, gateway, header):
        with connected(gateway, implicit=True, sender=ANYONE) as sock:
            sock.sendall(header)
            assert b"220" not in received(sock)
        assert f"client={ANYONE}" in last_line(gateway, "TLS failed")


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"EHLO client.example\r\n", "does not begin"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "does not begin"),
        (b"PROXY TCP4 " + b"1" * 200, "107 octets"),
        (V1.replace(b"TCP4", b"TCP6"), "not one of TCP6"),
        (V1.replace(b"TCP4", b"UDP4"), "neither TCP4"),
        (v2(0x21, 0x12, addresses(CLIENT, CLIENT)), "neither TCP over"),
        (v2(0x21, 0x21, addresses(CLIENT, CLIENT)), "too short"),
        (v2(0x21, 0x11, addresses(CLIENT, CLIENT) + tlv(4, b"abc")[:-1]), "past the end"),
        (SIGNATURE + b"\x21\x11\xff\xff", "longer than"),
    ],
    ids=["SMTP", "TLS", "too long", "family", "UDP", "v2 UDP", "v2 family", "v2 parameter", "v2 too long"],
)
def test_bad_header_ends_the_connection_with_a_line_in_the_log(gateway, implicit, data, reason):
    with connected(gateway, implicit) as sock:
        sock.sendall(data)
        assert received(sock) == b"", "not even a greeting"
    line = last_line(gateway, reason)
    assert re.search(rf"warning PROXY header refused peer={BALANCER} ", line)


class TestSlowHeader:
    def test_balancer_that_says_nothing_is_disconnected(self, gateway):
        with connected(gateway, implicit=False) as sock:
            began = time.monotonic()
            assert received(sock) == b""
            assert 4 < time.monotonic() - began < 10
        assert "5 s" in last_line(gateway, "no whole header")

    def test_header_that_trickles_past_the_deadline_is_refused(self, gateway):
        with connected(gateway, implicit=True) as sock:
            began = time.monotonic()
            sock.settimeout(0.3)
            for octet in V2:
                sock.sendall(bytes([octet]))
                try:
                    if sock.recv(1) == b"":
                        break
                except TimeoutError:
                    pass
                except ConnectionResetError:
                    break
            assert 4 < time.monotonic() - began < 7

    def test_half_a_header_is_named(self, gateway):
        with connected(gateway, implicit=False) as sock:
            sock.sendall(V2[:20])
            sock.shutdown(socket.SHUT_WR)
            assert received(sock) == b""
        last_line(gateway, "ended within the header")

    def test_bare_look_at_the_port_is_no_event(self, gateway):
        before = gateway.log().count("PROXY header refused")
        for _ in range(3):
            with connected(gateway, implicit=False):
                pass
        with Wire(gateway, tls=False, sender=BALANCER, preface=V1) as wire:
            assert wire.greeting.startswith("220")
        assert gateway.log().count("PROXY header refused") == before


def test_plaintext_login_takes_more_than_a_header_that_names_loopback(
    tmp_path: Path, recorder: Recorder, gateway: Gateway
):
    """A client beyond this machine has no loopback address, whatever a balancer says of it."""
    one = Gateway(
        tmp_path,
        recorder,
        RELAY_SMTP__PROXY_FROM=BALANCER,
        RELAY_SMTP__ALLOW_PLAINTEXT_AUTH="true",
    )
    one.run("init", str(tmp_path))
    one.start()
    try:
        with Wire(one, tls=False, sender=BALANCER, preface=V1) as wire:
            assert "AUTH" not in wire.say("EHLO x")
        with Wire(one, tls=False, sender=BALANCER, preface=b"PROXY UNKNOWN\r\n") as wire:
            assert "AUTH" in wire.say("EHLO x")
    finally:
        one.stop()


@pytest.mark.parametrize("networks", ["balancer.example", "10.0.0.1/8", "10.0.0.0/40"])
def test_setting_that_is_no_network_stops_the_start_and_is_named(gateway, networks):
    gateway.environment["RELAY_SMTP__PROXY_FROM"], kept = (
        networks,
        gateway.environment["RELAY_SMTP__PROXY_FROM"],
    )
    code, _, err = gateway.invoke("serve")
    gateway.environment["RELAY_SMTP__PROXY_FROM"] = kept
    assert code != 0
    assert f"'{networks}' is no network such as 10.0.0.0/8" in err
