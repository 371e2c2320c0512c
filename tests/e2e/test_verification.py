"""R2: only a verified identity sends; DNS and mailed codes verify, and DNS takes it back.  A real BIND."""

from __future__ import annotations

import email
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from email.policy import default
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.bind import Bind, txt
from tests.support.dkim_verifier import verifies
from tests.support.gateway import OWNER, Gateway, Login
from tests.support.stores import ENGINES

UNVERIFIED = "Message rejected: Email address is not verified."
ZONES = ("first.example", "second.example", "rotated.example", "shown.example")


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with closing(Bind(tmp_path_factory.mktemp("bind"), {zone: [] for zone in ZONES})) as one:
        yield one


@pytest.fixture(scope="module", params=ENGINES)
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bind: Bind
) -> Iterator[Gateway]:
    """Two workers that look every second, and give up after three."""
    directory: Path = tmp_path_factory.mktemp("relay")
    recorder = Recorder(refused=frozenset())
    settings = {
        "RELAY_RELAY__WORKERS": "2",
        "RELAY_DNS__SERVERS": bind.address,
        "RELAY_DNS__TIMEOUT_SECONDS": "2",
        "RELAY_VERIFICATION__PENDING_SECONDS": "1",
        "RELAY_VERIFICATION__VERIFIED_SECONDS": "1",
        "RELAY_VERIFICATION__GIVE_UP_SECONDS": "3",
    }
    with ExitStack() as stack:
        stack.callback(recorder.close)
        if request.param == "postgresql":
            database = request.getfixturevalue("postgresql").database(empty=True)
            settings["RELAY_STORE__URL"] = stack.enter_context(database)
        one = Gateway(directory, recorder, **settings)
        one.run("init", str(directory))
        one.account(OWNER)
        one.start()
        yield one
        assert one.stop() == 0, one.log()
        assert "Traceback" not in one.log()


@pytest.fixture(scope="module")
def app(gateway: Gateway) -> Login:
    return gateway.login("app", OWNER)


def records(gateway: Gateway, name: str) -> list[str]:
    """What the owner was told to publish, as lines of a zone file."""
    shown = gateway.run("identity", "show", name, "--account", OWNER)
    assert isinstance(shown, dict)
    return [txt(one["name"], one["value"]) for one in shown["dns_records"]]


def status(gateway: Gateway, name: str) -> tuple[str, str]:
    shown = gateway.run("identity", "show", name, "--account", OWNER)
    assert isinstance(shown, dict)
    return shown["verification_status"], shown["dkim_status"]


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def send(gateway: Gateway, login: Login, sender: str, rcpt: str = "user@customer.example") -> tuple[int, str]:
    return gateway.send(login, mail_from=sender, rcpt=rcpt, headers={"From": sender})


def test_r02_domain_sends_from_when_dns_has_its_records_until_they_are_gone(gateway, app, bind):
    gateway.identity("first.example", verified=False)
    code, reply = send(gateway, app, "alerts@first.example")
    assert code == 554
    assert reply.startswith(
        f"{UNVERIFIED} The following identities failed the check in region US-EAST-1: alerts@first"
    )

    published = records(gateway, "first.example")
    bind.publish("first.example", *published)
    # It may have failed while the test was slow; the owner's word begins the wait anew.
    gateway.invoke("identity", "verify", "first.example", "--account", OWNER)
    wait_until(lambda: status(gateway, "first.example") == ("SUCCESS", "SUCCESS"))
    wait_until(lambda: send(gateway, app, "alerts@first.example")[0] == 250)

    bind.publish("first.example")
    wait_until(lambda: status(gateway, "first.example") == ("FAILED", "FAILED"))
    wait_until(lambda: send(gateway, app, "alerts@first.example")[0] == 554)
    assert "status=TEMPORARY_FAILURE" in gateway.log()
    assert "status=FAILED" in gateway.log()


def test_r02_ownership_token_alone_verifies_and_mail_goes_unsigned(gateway, app, bind):
    gateway.identity("second.example", verified=False)
    token = [line for line in records(gateway, "second.example") if line.startswith("_amazonses.")]
    bind.publish("second.example", *token)
    gateway.invoke("identity", "verify", "second.example", "--account", OWNER)
    wait_until(lambda: status(gateway, "second.example")[0] == "SUCCESS")
    wait_until(lambda: send(gateway, app, "a@second.example", "unsigned@customer.example")[0] == 250)
    arrived = gateway.recorder.wait_for("unsigned@customer.example", 20)
    assert b"DKIM-Signature" not in arrived.data
    bind.publish("second.example")


def test_r02_name_server_that_is_away_is_held_against_nobody(gateway, bind):
    """The look finds no answer; the status stays, far beyond the time after which it would fail."""
    gateway.identity("elsewhere.test", verified=False)
    code, out, _ = gateway.invoke("identity", "verify", "elsewhere.test", "--account", OWNER, "--json")
    assert code == 1
    assert '"result": "unavailable"' in out
    time.sleep(5)
    assert status(gateway, "elsewhere.test") == ("PENDING", "PENDING")


def test_verify_shows_what_is_expected_and_what_dns_has(gateway, bind):
    gateway.identity("shown.example", verified=False)
    dkim, token = records(gateway, "shown.example")
    bind.publish("shown.example", txt(dkim.split(". ")[0], "v=DKIM1; p=another"))
    code, out, _ = gateway.invoke("identity", "verify", "shown.example", "--account", OWNER)
    lines = out.splitlines()
    assert code == 1
    assert lines[0] == f"TXT {dkim.split('. ')[0]}: different"
    assert lines[2] == "  DNS has   v=DKIM1; p=another"
    assert lines[3] == "TXT _amazonses.shown.example: missing"
    assert lines[5] == "  DNS has   (no such name)"
    bind.publish("shown.example", dkim, token)
    wait_until(lambda: gateway.invoke("identity", "verify", "shown.example", "--account", OWNER)[0] == 0)


def test_old_key_signs_until_dns_has_the_new_one(gateway, app, bind):
    gateway.identity("rotated.example", verified=False)
    old = records(gateway, "rotated.example")
    bind.publish("rotated.example", *old)
    gateway.invoke("identity", "verify", "rotated.example", "--account", OWNER)
    wait_until(lambda: status(gateway, "rotated.example") == ("SUCCESS", "SUCCESS"))
    before, *_ = gateway.run("identity", "show", "rotated.example", "--account", OWNER)["keys"]

    gateway.run("identity", "dkim", "rotated.example", "--account", OWNER, "--rotate")
    both = gateway.run("identity", "show", "rotated.example", "--account", OWNER)["keys"]
    assert [key["status"] for key in both] == ["signing", "pending"]
    assert selector_of(gateway, app, "before@customer.example") == before["selector"]

    bind.publish("rotated.example", *old, *records(gateway, "rotated.example"))
    new = both[1]["selector"]
    wait_until(
        lambda: (
            [
                key["selector"]
                for key in gateway.run("identity", "show", "rotated.example", "--account", OWNER)["keys"]
            ]
            == [new]
        )
    )
    wait_until(lambda: selector_of(gateway, app, f"after{time.monotonic_ns()}@customer.example") == new)
    assert status(gateway, "rotated.example") == ("SUCCESS", "SUCCESS")


def selector_of(gateway: Gateway, app: Login, rcpt: str) -> str:
    """The selector that a message of ours was signed under; the signature holds."""
    shown = gateway.run("identity", "show", "rotated.example", "--account", OWNER)
    published = {one["name"]: one["value"] for one in shown["dns_records"]}
    assert send(gateway, app, "a@rotated.example", rcpt)[0] == 250
    data = gateway.recorder.wait_for(rcpt, 20).data
    match = re.search(rb"DKIM-Signature:.*?\bs=([^;]+);", data, re.DOTALL)
    assert match is not None
    selector = match[1].decode()
    if f"{selector}._domainkey.rotated.example" in published:
        assert verifies(data, published)
    return selector


class TestAddress:
    def mailed_code(self, gateway: Gateway, address: str, after: int = 0) -> str:
        """The code in the newest mail to the address, once there are more than ``after``."""

        def mails() -> list[bytes]:
            return [one.data for one in gateway.recorder.arrived if address in one.recipients]

        wait_until(lambda: len(mails()) > after)
        mail = email.message_from_bytes(mails()[-1], policy=default)
        assert mail["From"] == "Mail relay <no-reply@relay.example>"
        assert mail["Auto-Submitted"] == "auto-generated"
        return re.search(r"relay identity confirm (\w+)", mail.get_content())[1]

    def test_r02_address_sends_from_when_its_code_is_confirmed_once(self, gateway, app):
        gateway.identity("ann@person.example", verified=False)
        assert send(gateway, app, "ann@person.example")[0] == 554
        code = self.mailed_code(gateway, "ann@person.example")
        done = gateway.run("identity", "confirm", code)
        assert done["verification_status"] == "SUCCESS"
        wait_until(lambda: send(gateway, app, "ann@person.example")[0] == 250)
        again = gateway.invoke("identity", "confirm", code)
        assert (again[0], "no address waits for this code" in again[2]) == (1, True)

    @pytest.mark.parametrize("code", ["", "A" * 32, "'; DROP TABLE identity; --"])
    def test_forged_code_verifies_nothing(self, gateway, code):
        exit_code, _, err = gateway.invoke("identity", "confirm", code)
        assert (exit_code, "no address waits for this code" in err) == (1, True)

    def test_new_code_ends_the_old_one(self, gateway):
        gateway.identity("bob@person.example", verified=False)
        old = self.mailed_code(gateway, "bob@person.example")
        assert gateway.invoke("identity", "verify", "bob@person.example", "--account", OWNER)[0] == 1
        new = self.mailed_code(gateway, "bob@person.example", after=1)
        assert gateway.invoke("identity", "confirm", old)[0] == 1
        assert gateway.invoke("identity", "confirm", new)[0] == 0

    def test_late_code_verifies_nothing(self, gateway, monkeypatch):
        gateway.identity("late@person.example", verified=False)
        code = self.mailed_code(gateway, "late@person.example")
        monkeypatch.setitem(gateway.environment, "RELAY_VERIFICATION__CONFIRM_SECONDS", "1")
        time.sleep(1.1)
        assert gateway.invoke("identity", "confirm", code)[0] == 1
        assert status(gateway, "late@person.example")[0] == "PENDING"
