"""Mail to a real Postfix behind a real BIND: by MX, over TLS that an MTA-STS policy wants verified."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import trustme

from relay.app.recorder import Recorder
from tests.support.bind import Bind, txt
from tests.support.gateway import OWNER, Gateway, Login
from tests.support.policy_host import host_context, policy
from tests.support.postfix import Postfix

DOMAINS = ["direct.example", "second.example", "wrong.example"]
POSTFIX, DOWN = "127.0.0.11", "127.0.0.12"
# MTA-STS knows port 443 alone: each process that runs tests has an address of its own for it.
WEB = f"127.1.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
MX = "mx.direct.example"


@contextmanager
def policies(authority: trustme.CA) -> Iterator[None]:
    """The policy host of every domain; the MX of one is not what its policy says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            domain = self.headers["Host"].removeprefix("mta-sts.")
            text = policy("mail.wrong.example" if domain == "wrong.example" else MX, f"*.{domain}").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    try:
        server = http.server.ThreadingHTTPServer((WEB, 443), Handler)
    except PermissionError:
        pytest.skip("port 443 cannot be listened on here")
    context = host_context(authority, *(f"mta-sts.{domain}" for domain in DOMAINS))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def zones() -> dict[str, list[str]]:
    common = {
        domain: [txt(f"_mta-sts.{domain}", "v=STSv1; id=1;"), f"mta-sts IN A {WEB}"] for domain in DOMAINS
    }
    return {
        "direct.example": [*common["direct.example"], f"@ IN MX 10 {MX}.", f"mx IN A {POSTFIX}"],
        "second.example": [
            *common["second.example"],
            "@ IN MX 10 down.second.example.",
            f"@ IN MX 20 {MX}.",
            f"down IN A {DOWN}",
        ],
        "wrong.example": [*common["wrong.example"], "@ IN MX 10 mail", f"mail IN A {POSTFIX}"],
    }


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def postfix(authority: trustme.CA) -> Iterator[Postfix]:
    with closing(Postfix(authority, MX, POSTFIX, DOMAINS)) as one:
        yield one


@pytest.fixture(scope="module")
def sender(
    tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA, postfix: Postfix
) -> Iterator[tuple[Gateway, Login]]:
    directory: Path = tmp_path_factory.mktemp("relay")
    (directory / "ca.pem").write_bytes(authority.cert_pem.bytes())
    with ExitStack() as stack:
        stack.enter_context(policies(authority))
        bind = stack.enter_context(closing(Bind(tmp_path_factory.mktemp("bind"), zones())))
        recorder = stack.enter_context(closing(Recorder(refused=frozenset())))
        settings = {
            "RELAY_DELIVERY__SMARTHOST": "",
            "RELAY_DELIVERY__SMARTHOST_TLS": "opportunistic",
            "RELAY_DELIVERY__PORT": str(postfix.port),
            "RELAY_DELIVERY__CA_FILE": "ca.pem",
            "RELAY_DELIVERY__MTA_STS": "private",
            "RELAY_DNS__SERVERS": bind.address,
        }
        gateway = Gateway(directory, recorder, **settings)
        gateway.run("init", str(directory))
        gateway.account(OWNER)
        gateway.identity("owner.example")
        login = gateway.login("app", OWNER)
        gateway.start()
        yield gateway, login
        assert gateway.stop() == 0, gateway.log()
        assert "Traceback" not in gateway.log()


def send(sender: tuple[Gateway, Login], domain: str) -> None:
    gateway, login = sender
    code, text = gateway.send(login, rcpt=f"user@{domain}", headers={"Subject": domain})
    assert code == 250, text


def test_mail_arrives_by_mx_over_verified_tls(sender, postfix: Postfix):
    send(sender, "direct.example")
    arrived = postfix.wait_for("direct.example")
    assert "using TLSv1.3" in arrived
    assert "\nDKIM-Signature:" in arrived
    assert "mta-sts policy domain=direct.example mode=enforce" in sender[0].log()


def test_second_mx_gets_it_when_the_first_is_down(sender, postfix: Postfix):
    send(sender, "second.example")
    assert "using TLSv1.3" in postfix.wait_for("second.example")


def test_host_without_the_certificate_that_the_policy_wants_gets_nothing(sender, postfix: Postfix):
    send(sender, "wrong.example")
    give_up_at = time.monotonic() + 30
    while "wants verified TLS" not in sender[0].log() and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert "the MTA-STS policy of wrong.example (enforce) wants verified TLS" in sender[0].log()
    [waiting] = sender[0].run("queue", "list")
    assert "wrong.example" in str(waiting)
