"""Custom MAIL FROM domains with a real BIND: used from when their MX is seen, until it is gone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.bind import Bind, txt
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, arn, free_ports, grant, user_arn
from tests.support.reports import bring, failure

OURS = "bounces.relay.example"
ZONES = ("lent.example", "strict.example", "several.example", "person.example")
MX = "bounce IN MX 10 relay.example."
REFUSED = "Mail FROM domain is not verified"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with closing(Bind(tmp_path_factory.mktemp("bind"), {zone: [] for zone in ZONES})) as one:
        yield one


@pytest.fixture(scope="module")
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, recorder: Recorder, bind: Bind, port: int
) -> Iterator[Gateway]:
    """Looks every second; how long it waits before it gives up is not for a test of minutes."""
    directory: Path = tmp_path_factory.mktemp("relay")
    settings = {
        "RELAY_BOUNCE__DOMAIN": OURS,
        "RELAY_BOUNCE__LISTEN": f"127.0.0.1:{port}",
        "RELAY_DNS__SERVERS": bind.address,
        "RELAY_DNS__TIMEOUT_SECONDS": "2",
        "RELAY_VERIFICATION__PENDING_SECONDS": "1",
        "RELAY_VERIFICATION__VERIFIED_SECONDS": "1",
    }
    one = Gateway(directory, recorder, **settings)
    one.run("init", str(directory))
    one.account(OWNER)
    one.account(DELEGATE)
    one.start()
    yield one
    assert one.stop() == 0, one.log()
    assert "Traceback" not in one.log()


@pytest.fixture(scope="module")
def app(gateway: Gateway) -> Login:
    return gateway.login("app")


def lend(gateway: Gateway, name: str) -> None:
    """A vouched identity that the delegate may send from."""
    gateway.identity(name)
    gateway.policy(arn(name), grant({"AWS": user_arn("app")}, arn(name)))


def wait_until(holds: Callable[[], object], seconds: float = 30) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def mail_from(gateway: Gateway, name: str, *options: str) -> dict:
    found = gateway.run("identity", "mail-from", name, "--account", OWNER, *options)
    assert isinstance(found, dict)
    return found


def status(gateway: Gateway, name: str) -> str | None:
    shown = gateway.run("identity", "show", name, "--account", OWNER)
    assert isinstance(shown, dict)
    return shown["mail_from"]["status"]


def send(gateway: Gateway, app: Login, sender: str) -> tuple[int, str, str]:
    """One message; its recipient besides the reply."""
    rcpt = f"user{next(_numbers)}@customer.example"
    name = sender if sender.startswith("ann@") else sender.partition("@")[2]
    code, text = gateway.send(app, mail_from=sender, rcpt=rcpt, headers={"From": sender}, arns=arn(name))
    return code, text, rcpt


def on_the_wire(gateway: Gateway, app: Login, sender: str) -> str:
    """The domain of the envelope sender."""
    code, text, rcpt = send(gateway, app, sender)
    assert code == 250, text
    return gateway.recorder.wait_for(rcpt, 20).reverse_path.partition("@")[2]


def test_domain_is_used_from_when_its_mx_is_seen_until_it_is_gone(gateway, app, bind, port):
    lend(gateway, "lent.example")
    made = mail_from(gateway, "lent.example", "--domain", "Bounce.lent.example")
    assert made["mail_from"] == {
        "domain": "bounce.lent.example",
        "status": "PENDING",
        "on_mx_failure": "USE_DEFAULT_VALUE",
    }
    assert made["dns_records"] == [
        {"type": "MX", "name": "bounce.lent.example", "value": "10 relay.example"},
        {"type": "TXT", "name": "bounce.lent.example", "value": "v=spf1 a:relay.example ~all"},
    ]
    assert on_the_wire(gateway, app, "a@lent.example") == OURS

    bind.publish("lent.example", MX, txt("bounce.lent.example", "v=spf1 a:relay.example ~all"))
    wait_until(lambda: status(gateway, "lent.example") == "SUCCESS")
    wait_until(lambda: on_the_wire(gateway, app, "a@lent.example") == "bounce.lent.example")
    assert "mail_from=SUCCESS" in gateway.log()

    bind.publish("lent.example")
    wait_until(lambda: status(gateway, "lent.example") == "TEMPORARY_FAILURE")
    wait_until(lambda: on_the_wire(gateway, app, "a@lent.example") == OURS)

    bind.publish("lent.example", MX)
    wait_until(lambda: status(gateway, "lent.example") == "SUCCESS")
    wait_until(lambda: on_the_wire(gateway, app, "a@lent.example") == "bounce.lent.example")
    report_comes_back(gateway, app, port)

    mail_from(gateway, "lent.example", "--remove")
    wait_until(lambda: on_the_wire(gateway, app, "a@lent.example") == OURS)


def report_comes_back(gateway: Gateway, app: Login, port: int) -> None:
    """At the owner's domain as at ours, and at no other."""
    code, text, rcpt = send(gateway, app, "a@lent.example")
    assert code == 250
    token = gateway.recorder.wait_for(rcpt, 20).reverse_path
    assert bring(port, token.replace("bounce.lent.example", OURS), failure(rcpt))[0] == 550
    assert bring(port, token, failure(rcpt))[0] == 250
    wait_until(lambda: [one for one in gateway.recorder.arrived if "a@lent.example" in one.recipients])


def test_owner_may_have_mail_refused_instead(gateway, app, bind, tmp_path):
    lend(gateway, "strict.example")
    bind.publish("strict.example", MX)
    options = ("--domain", "bounce.strict.example", "--on-mx-failure", "reject-message")
    mail_from(gateway, "strict.example", *options)
    wait_until(lambda: status(gateway, "strict.example") == "SUCCESS")
    wait_until(lambda: send(gateway, app, "a@strict.example")[0] == 250)
    assert on_the_wire(gateway, app, "a@strict.example") == "bounce.strict.example"

    bind.publish("strict.example")
    wait_until(lambda: status(gateway, "strict.example") == "TEMPORARY_FAILURE")
    wait_until(lambda: send(gateway, app, "a@strict.example")[0] == 554)
    _, text, _ = send(gateway, app, "a@strict.example")
    first, second = text.splitlines()
    assert first == REFUSED
    assert second.startswith(
        "the MX of bounce.strict.example, MAIL FROM domain of strict.example, is not seen in DNS; reference"
    )
    (tmp_path / "message.eml").write_text(
        f"From: a@strict.example\nX-SES-SOURCE-ARN: {arn('strict.example')}\n\nx\n"
    )
    _, out, _ = gateway.invoke(
        *("explain", str(tmp_path / "message.eml"), "--user", user_arn("app")),
        *("--mail-from", "a@strict.example", "--rcpt", "user@customer.example"),
    )
    assert out.startswith(f"Denied (mail_from_domain): {REFUSED}")

    mail_from(gateway, "strict.example", "--domain", "bounce.strict.example")
    wait_until(lambda: on_the_wire(gateway, app, "a@strict.example") == OURS)
    bind.publish("strict.example", MX)


def test_several_mail_exchangers_are_none_and_verify_says_so(gateway, bind):
    gateway.identity("several.example")
    bind.publish("several.example", MX, "bounce IN MX 20 backup.example.")
    mail_from(gateway, "several.example", "--domain", "bounce.several.example")
    out = gateway.invoke("identity", "verify", "several.example", "--account", OWNER)[1].splitlines()
    at = out.index("MX bounce.several.example: different")
    assert out[at + 1 : at + 4] == [
        "  expected  10 relay.example",
        "  DNS has   10 relay.example",
        "  DNS has   20 backup.example",
    ]
    assert "TXT bounce.several.example: missing (advice)" in out
    assert out[-1].split() == ["mail_from_status", "PENDING"]
    bind.publish("several.example", MX)
    wait_until(lambda: status(gateway, "several.example") == "SUCCESS")


def test_r01_most_specific_identitys_domain_applies(gateway, app, bind):
    """An address without one has none, whatever its domain has."""
    lend(gateway, "person.example")
    lend(gateway, "ann@person.example")
    bind.publish("person.example", MX, "ann IN MX 10 relay.example.")
    mail_from(gateway, "person.example", "--domain", "bounce.person.example")
    wait_until(lambda: status(gateway, "person.example") == "SUCCESS")
    wait_until(lambda: on_the_wire(gateway, app, "bob@person.example") == "bounce.person.example")
    assert on_the_wire(gateway, app, "ann@person.example") == OURS
    mail_from(gateway, "ann@person.example", "--domain", "ann.person.example")
    wait_until(lambda: status(gateway, "ann@person.example") == "SUCCESS")
    wait_until(lambda: on_the_wire(gateway, app, "ann@person.example") == "ann.person.example")


@pytest.mark.parametrize(
    ("name", "domain", "told"),
    [
        ("lent.example", "lent.example", "is no subdomain of lent.example"),
        ("lent.example", "bounce.other.example", "is no subdomain of lent.example"),
        ("lent.example", "notlent.example", "is no subdomain of lent.example"),
        ("lent.example", "a..lent.example", "is no domain"),
        ("waiting.example", "bounce.waiting.example", "waiting.example is not verified"),
        ("nobodys.example", "bounce.nobodys.example", "has no identity nobodys.example"),
    ],
)
def test_what_is_no_mail_from_domain(gateway, name, domain, told):
    if name == "waiting.example":
        gateway.identity(name, verified=False)
    code, _, err = gateway.invoke("identity", "mail-from", name, "--account", OWNER, "--domain", domain)
    assert (code, told in err) == (1, True), err


def test_nothing_listens_nothing_is_promised(gateway, monkeypatch):
    monkeypatch.delitem(gateway.environment, "RELAY_BOUNCE__LISTEN")
    monkeypatch.delitem(gateway.environment, "RELAY_BOUNCE__DOMAIN")
    command = ("identity", "mail-from", "lent.example", "--account", OWNER, "--domain", "b.lent.example")
    code, _, err = gateway.invoke(*command)
    assert code == 1
    assert "set [bounce] listen, such as 0.0.0.0:25" in err


def test_changes_are_in_the_audit(gateway):
    entries = gateway.run("audit", "--action", "PutEmailIdentityMailFromAttributes")
    assert {one["subject"] for one in entries} >= {
        f"identity:{OWNER}:lent.example",
        f"identity:{OWNER}:ann@person.example",
    }
