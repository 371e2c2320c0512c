"""Behind a real HAProxy: PROXY headers of both versions before both kinds of listener."""

from __future__ import annotations

import json
import smtplib
import ssl
import time
from collections.abc import Iterator

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import OWNER, Gateway, Login, free_ports, transact
from tests.support.haproxy import HAProxy
from tests.support.peers import require

CLIENT = "127.0.0.77"

_CONFIGURATION = """
global
    log stderr format raw local0
    stats socket {directory}/stats
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    default-server inter 200ms
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Gateway]:
    require("haproxy")
    one = Gateway(tmp_path_factory.mktemp("relay"), recorder, RELAY_SMTP__PROXY_FROM="127.0.0.1")
    one.run("init", str(one.directory))
    one.account(OWNER)
    one.preface = b"PROXY UNKNOWN\r\n"
    one.start()
    yield one
    assert one.stop() == 0, one.log()
    assert "Traceback" not in one.log(), one.log()


@pytest.fixture(scope="module")
def ports() -> dict[tuple[str, bool], int]:
    """One for each version of the header and kind of listener."""
    kinds = [(version, implicit) for version in ("send-proxy", "send-proxy-v2") for implicit in (False, True)]
    return dict(zip(kinds, free_ports(len(kinds)), strict=True))


@pytest.fixture(scope="module")
def haproxy(
    gateway: Gateway, ports: dict[tuple[str, bool], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HAProxy]:
    """It checks each listener every 200 ms."""
    directory = tmp_path_factory.mktemp("haproxy")
    configuration = _CONFIGURATION.format(directory=directory)
    for number, ((version, implicit), port) in enumerate(ports.items()):
        target = gateway.tls_port if implicit else gateway.port
        configuration += (
            f"listen l{number}\n    bind 127.0.0.1:{port}\n"
            f"    server relay 127.0.0.1:{target} {version} check\n"
        )
    one = HAProxy(directory, configuration, [("127.0.0.1", port) for port in ports.values()])
    yield one
    one.close()


@pytest.fixture(scope="module")
def owner(gateway: Gateway, domain: str) -> Login:
    return gateway.login("owner", account=OWNER)


def client_of(gateway: Gateway, port: int, implicit: bool) -> smtplib.SMTP:
    context = ssl.create_default_context(cafile=str(gateway.directory / "relay.crt"))
    context.check_hostname = False
    source = (CLIENT, 0)
    if implicit:
        return smtplib.SMTP_SSL("127.0.0.1", port, timeout=20, context=context, source_address=source)
    client = smtplib.SMTP("127.0.0.1", port, timeout=20, source_address=source)
    client.starttls(context=context)
    return client


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
@pytest.mark.usefixtures("haproxy")
def test_mail_through_haproxy_is_its_clients(gateway, ports, owner, recorder, version, implicit):
    rcpt = f"{version}-{implicit}@customer.example"
    with client_of(gateway, ports[version, implicit], implicit) as client:
        client.login(owner.username, owner.password)
        code, text = transact(client, "a@owner.example", [rcpt], "From: a@owner.example\r\n\r\nHello.\r\n")
    assert code == 250, text
    recorder.wait_for(rcpt, 10)
    shown = json.dumps(gateway.run("message", "show", text.split()[-1]))
    assert json.dumps(CLIENT) in shown
    assert json.dumps("127.0.0.1") not in shown


def test_haproxys_checks_find_the_gateway_up_and_leave_no_complaint(gateway, haproxy):
    give_up_at = time.monotonic() + 20
    while [row["check_status"] for row in haproxy.servers()] != ["L4OK"] * 4:
        assert time.monotonic() < give_up_at, haproxy.log()
        time.sleep(0.05)
    assert "is DOWN" not in haproxy.log()
    assert "PROXY header refused" not in gateway.log()


def test_check_knows_the_gateway_from_a_named_peers_address_too(gateway):
    _, out, _ = gateway.invoke("check")
    for port in (gateway.port, gateway.tls_port):
        assert f"port 127.0.0.1:{port}: the gateway answers" in out, out
