"""Certificates that are renewed, broken or old while the gateway runs: no reload, nobody refused."""

from __future__ import annotations

import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from relay.app.recorder import Recorder
from tests.support.gateway import Gateway

AUTHORITY = trustme.CA()


def renew(gateway: Gateway, days: float = 90) -> bytes:
    """Replace certificate and key; the new certificate, as clients get it."""
    made = AUTHORITY.issue_cert("relay.example", not_after=datetime.now(UTC) + timedelta(days=days))
    chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
    for name, content in (("relay.crt", chain), ("relay.pem", made.private_key_pem.bytes())):
        fresh = gateway.directory / f"{name}.new"
        fresh.write_bytes(content)
        fresh.replace(gateway.directory / name)
    return x509.load_pem_x509_certificate(chain).public_bytes(Encoding.DER)


def client(gateway: Gateway, implicit: bool) -> smtplib.SMTP:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is only looked at
    if implicit:
        return smtplib.SMTP_SSL("127.0.0.1", gateway.tls_port, timeout=20, context=context)
    one = smtplib.SMTP("127.0.0.1", gateway.port, timeout=20)
    one.starttls(context=context)
    return one


def served(gateway: Gateway) -> set[bytes]:
    """The certificates that new clients get, on both listeners."""
    found = set()
    for implicit in (False, True):
        with client(gateway, implicit) as one:
            assert one.noop()[0] == 250
            found.add(one.sock.getpeercert(binary_form=True))  # type: ignore[union-attr]
    return found


def await_that(what: Callable[[], bool], gateway: Gateway, seconds: float = 20) -> None:
    give_up_at = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up_at, gateway.log()
        time.sleep(0.05)


@pytest.fixture
def gateway(tmp_path, recorder: Recorder) -> Iterator[Gateway]:
    one = Gateway(tmp_path, recorder)
    one.run("init", str(tmp_path))
    yield one
    assert one.stop() == 0, one.log()
    assert "Traceback" not in one.log(), one.log()


def test_renewed_certificate_is_served_without_a_reload(gateway):
    first = renew(gateway)
    gateway.start()
    assert served(gateway) == {first}
    with client(gateway, implicit=False) as before:
        second = renew(gateway)
        await_that(lambda: served(gateway) == {second}, gateway)
        assert before.noop()[0] == 250, "sessions go on"
    assert gateway.log().count("certificate renewed") == 1
    assert "reloading" not in gateway.log()


def test_broken_and_missing_files_leave_the_former_certificate_and_are_named(gateway):
    first = renew(gateway)
    gateway.start()
    (gateway.directory / "relay.pem").write_text("not a key")
    await_that(lambda: "certificate not usable" in gateway.log(), gateway)
    assert served(gateway) == {first}
    (gateway.directory / "relay.pem").unlink()
    await_that(lambda: gateway.log().count("certificate not usable") == 2, gateway)
    assert served(gateway) == {first}
    line = gateway.log().splitlines()[-1]
    assert " error certificate not usable " in line
    assert f"{gateway.directory}/relay.pem" in line
    assert 'cure="put a certificate and its own key there' in line
    second = renew(gateway)
    await_that(lambda: served(gateway) == {second}, gateway)


@pytest.mark.parametrize(
    ("days", "words"),
    [(5, " warning certificate expires "), (-0.01, " error certificate not valid ")],
    ids=["expiring", "expired"],
)
def test_old_certificate_is_named_in_the_log_and_served(gateway, days, words):
    old = renew(gateway, days)
    gateway.start()
    await_that(lambda: words in gateway.log(), gateway)
    line = next(line for line in gateway.log().splitlines() if words in line)
    assert f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" in line
    assert "renew it" in line
    assert served(gateway) == {old}
