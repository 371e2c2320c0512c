"""``relay check``: a sound installation has nothing wrong, and each planted fault is named alone."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import text

from relay.app.certificate import self_signed
from relay.app.findings import Ok, Wrong
from relay.app.probes import judge_certificate
from relay.app.recorder import Recorder
from relay.store.engine import Store
from tests.support.bind import Bind, txt
from tests.support.gateway import OWNER, Gateway, free_ports
from tests.support.lying_dns import LyingDNS, silent

NAME = "relay.example"
SPF = txt("owner.example", "v=spf1 -all")
ADDRESS = ["@ IN A 127.0.0.1"]


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    zones = {NAME: ADDRESS, "owner.example": [], "127.in-addr.arpa": [], "nowhere.example": []}
    with closing(Bind(tmp_path_factory.mktemp("bind"), zones)) as one:
        one.publish("127.in-addr.arpa", f"1.0.0 IN PTR {NAME}.")
        yield one


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, bind: Bind) -> Iterator[Gateway]:
    """An installation as it should be: a domain with its records, a next hop that answers."""
    recorder = Recorder(refused=frozenset())
    one = Gateway(
        tmp_path_factory.mktemp("sound"),
        recorder,
        RELAY_DNS__SERVERS=bind.address,
        RELAY_DNS__TIMEOUT_SECONDS="2",
        RELAY_STORE__LOW_DISK_BYTES="1048576",
    )
    one.run("init", str(one.directory), "--hostname", NAME)
    one.account(OWNER)
    one.identity("owner.example")
    bind.publish("owner.example", SPF, *records(one))
    yield one
    recorder.close()


def records(one: Gateway) -> list[str]:
    return [txt(name, value) for name, value in one.records.items()]


@pytest.fixture
def relay(sound: Gateway, tmp_path: Path) -> Gateway:
    """A copy to be broken."""
    directory = tmp_path / "relay"
    shutil.copytree(sound.directory, directory)
    one = Gateway(directory, sound.recorder)
    one.port, one.tls_port, one.records = sound.port, sound.tls_port, sound.records
    kept = {name: value for name, value in sound.environment.items() if name != "RELAY_CONFIG"}
    one.environment = {**kept, "RELAY_CONFIG": str(directory / "relay.toml")}
    return one


def wrong(relay: Gateway) -> list[str]:
    """The subjects of what is wrong; the exit code agrees."""
    code, out, _ = relay.invoke("check", "--json")
    found = [one["subject"] for one in json.loads(out) if one["result"] == "wrong"]
    assert code == (1 if found else 0)
    return found


def test_sound_installation_has_nothing_wrong(relay):
    code, out, _ = relay.invoke("check")
    assert (code, [line for line in out.splitlines() if not line.startswith("ok ")]) == (0, [])
    for subject in (
        "settings",
        "key file",
        "store",
        "certificate",
        "disk",
        "clock",
        "DNS",
        "port",
        "next hop",
    ):
        assert f"ok       {subject}" in out
    assert "identity owner.example" in out


def test_running_gateway_is_told_from_another_program(relay):
    relay.start()
    try:
        assert wrong(relay) == []
        assert "the gateway answers" in relay.invoke("check")[1]
    finally:
        relay.stop()


def set_up(relay: Gateway, **environment: str) -> None:
    relay.environment.update(environment)


def in_future(relay: Gateway) -> None:
    store = Store(f"sqlite:///{relay.directory}/relay.db")
    with store.write() as connection:
        connection.execute(text("UPDATE change SET at = at + 3600000000"))
    store.dispose()


def older_schema(relay: Gateway) -> None:
    store = Store(f"sqlite:///{relay.directory}/relay.db")
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    store.dispose()


def other_certificate(relay: Gateway) -> None:
    (relay.directory / "relay.pem").write_bytes(self_signed(NAME)[1])


def wrong_name(relay: Gateway) -> None:
    certificate, key = self_signed("another.example")
    (relay.directory / "relay.crt").write_bytes(certificate)
    (relay.directory / "relay.pem").write_bytes(key)


def other_key(relay: Gateway) -> None:
    (relay.directory / "relay.key").unlink()
    elsewhere = relay.directory / "elsewhere"
    relay.run("init", str(elsewhere))
    shutil.copy(elsewhere / "relay.key", relay.directory / "relay.key")


FAULTS: dict[str, tuple[Callable[[Gateway], object], str]] = {
    "unknown setting": (
        lambda r: (r.directory / "relay.toml").write_text("[smtp]\nlisen = []\n"),
        "settings",
    ),
    "key file missing": (lambda r: (r.directory / "relay.key").unlink(), "key file"),
    "key file open to others": (lambda r: (r.directory / "relay.key").chmod(0o644), "key file"),
    "key of another store": (other_key, "store"),
    "store missing": (lambda r: (r.directory / "relay.db").unlink(), "store"),
    "schema of an older release": (older_schema, "store"),
    "region of another store": (lambda r: set_up(r, RELAY_RELAY__REGION="eu-west-1"), "store"),
    "certificate missing": (lambda r: (r.directory / "relay.crt").unlink(), "certificate"),
    "certificate of another key": (other_certificate, "certificate"),
    "certificate of another name": (wrong_name, "certificate"),
    "disk nearly full": (lambda r: set_up(r, RELAY_STORE__LOW_DISK_BYTES=str(1 << 60)), "disk"),
    "clock behind": (in_future, "clock"),
    "next hop away": (
        lambda r: set_up(r, RELAY_DELIVERY__SMARTHOST=f"127.0.0.1:{free_ports(1)[0]}"),
        "next hop",
    ),
    "next hop without TLS": (lambda r: set_up(r, RELAY_DELIVERY__SMARTHOST_TLS="require"), "next hop"),
    "address not ours": (lambda r: set_up(r, RELAY_SMTP__LISTEN="192.0.2.1:2587"), "port"),
    "host name unknown": (lambda r: renamed(r, "mail.nowhere.example"), "host name"),
}


def renamed(relay: Gateway, name: str) -> None:
    """With a certificate for that name, so that only the name itself is at fault."""
    set_up(relay, RELAY_RELAY__HOSTNAME=name)
    certificate, key = self_signed(name)
    (relay.directory / "relay.crt").write_bytes(certificate)
    (relay.directory / "relay.pem").write_bytes(key)


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_named_and_nothing_else(relay, fault):
    plant, subject = FAULTS[fault]
    plant(relay)
    [found] = wrong(relay)
    assert found.startswith(subject)


def test_dns_faults_are_named_and_nothing_else(relay, bind):
    owner = records(relay)
    try:
        bind.publish("owner.example", SPF, *[line for line in owner if "_domainkey" not in line])
        assert wrong(relay) == ["DKIM of owner.example"]
        bind.publish("owner.example", *owner)
        assert wrong(relay) == ["SPF of owner.example"]
        bind.publish("owner.example", SPF, *owner)
        bind.publish("127.in-addr.arpa", "1.0.0 IN PTR another.example.")
        assert wrong(relay) == ["PTR"]
    finally:
        bind.publish("owner.example", SPF, *owner)
        bind.publish("127.in-addr.arpa", f"1.0.0 IN PTR {NAME}.")
    with closing(LyingDNS(silent)) as server:
        set_up(relay, RELAY_DNS__SERVERS=server.address)
        assert wrong(relay) == ["DNS"]


def test_bounce_domain_and_mail_from_domains_lead_to_us(relay, bind):
    port = free_ports(1)[0]
    set_up(relay, RELAY_BOUNCE__DOMAIN="bounces.owner.example", RELAY_BOUNCE__LISTEN=f"127.0.0.1:{port}")
    relay.run("identity", "mail-from", "owner.example", "--account", OWNER, "--domain", "mf.owner.example")
    owner = [SPF, *records(relay)]
    spf = [txt(f"{name}.owner.example", "v=spf1 a:relay.example ~all") for name in ("bounces", "mf")]
    right = [*spf, f"bounces IN MX 10 {NAME}.", f"mf IN MX 10 {NAME}."]
    try:
        bind.publish("owner.example", *owner, *right)
        assert wrong(relay) == []
        assert f"port 127.0.0.1:{port}" in relay.invoke("check")[1]
        bind.publish("owner.example", *owner, *spf, "bounces IN MX 10 other.example.", right[-1])
        assert wrong(relay) == ["bounce domain"]
        bind.publish("owner.example", *owner, *right[:-1])
        assert wrong(relay) == ["MAIL FROM of owner.example"]
        bind.publish("owner.example", *owner, *right[2:])
        assert sorted(wrong(relay)) == ["SPF of bounces.owner.example", "SPF of mf.owner.example"]
        bind.publish("owner.example", *owner, *right)
        set_up(relay, RELAY_BOUNCE__DOMAIN="", RELAY_BOUNCE__LISTEN="")
        assert wrong(relay) == ["MAIL FROM of owner.example"]
    finally:
        bind.publish("owner.example", *owner)


@pytest.mark.parametrize("variable", ["RELAY_SMTP__LISTEN", "RELAY_HTTP__LISTEN"])
def test_port_of_another_program_is_named(relay, variable):
    with socket.create_server(("127.0.0.1", 0)) as other:
        thread = threading.Thread(target=_greet, args=(other,), daemon=True)
        thread.start()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        set_up(relay, **{variable: address})
        assert wrong(relay) == [f"port {address}"]


def _greet(server: socket.socket) -> None:
    for _ in range(2):
        with server.accept()[0] as sock:
            try:
                sock.sendall(b"220 other.example ESMTP Postfix\r\n")
            except OSError:
                pass


def test_many_faults_at_once_are_each_named_and_nothing_else(relay, bind):
    together = ["key file open to others", "certificate of another name", "disk nearly full", "next hop away"]
    together += ["address not ours", "clock behind"]
    for fault in together:
        FAULTS[fault][0](relay)
    owner = records(relay)
    bind.publish("owner.example", *[line for line in owner if "_domainkey" not in line])
    bind.publish("127.in-addr.arpa", "1.0.0 IN PTR another.example.")
    try:
        found = wrong(relay)
    finally:
        bind.publish("owner.example", SPF, *owner)
        bind.publish("127.in-addr.arpa", f"1.0.0 IN PTR {NAME}.")
    expected = [FAULTS[fault][1] for fault in together] + ["DKIM of", "SPF of", "PTR"]
    assert len(found) == len(expected)
    assert all(any(one.startswith(subject) for one in found) for subject in expected)


@pytest.mark.parametrize(
    ("days", "problem"),
    [(-1, "valid only from"), (100, None), (825 - 13, "expires at"), (826, "expired at")],
)
def test_certificate_in_time(days, problem):
    certificate = x509.load_pem_x509_certificate(self_signed(NAME)[0])
    finding = judge_certificate(certificate, NAME, datetime.now(UTC) + timedelta(days=days))
    if problem is None:
        assert isinstance(finding, Ok)
    else:
        assert isinstance(finding, Wrong)
        assert finding.problem.startswith(problem)
        assert finding.mend
