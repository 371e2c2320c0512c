"""The mailbox simulator through real SMTP: with a smart host, from the sandbox, over a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from sqlalchemy import update

from relay.app.recorder import Recorder
from relay.store.engine import Store
from relay.store.tables import recipient
from relay.submission.identifiers import parse_ses_message_id
from tests.support.gateway import OWNER, Gateway, Login

DOMAIN = "simulator.amazonses.com"
SANDBOX = "555555555555"


@pytest.fixture(scope="module")
def sender(gateway: Gateway) -> Login:
    """In the sandbox: it reaches its own verified domain and the simulator."""
    gateway.account(SANDBOX, production=False)
    gateway.identity("tryout.example", SANDBOX)
    return gateway.login("tryout", SANDBOX)


def send(gateway: Gateway, sender: Login, *locals_: str, mail_from: str, **headers: str) -> str:
    code, text = gateway.send(
        sender,
        mail_from=mail_from,
        rcpt=[f"{local}@{DOMAIN}" if "@" not in local else local for local in locals_],
        headers={"From": "app@tryout.example", **headers},
    )
    assert code == 250, text
    return text.split()[1]


def settled(gateway: Gateway, message: str) -> dict[str, tuple[str, str]]:
    """State and last reply of each recipient, once none waits any longer."""
    give_up_at = time.monotonic() + 20
    while True:
        rows = gateway.run("message", "show", message)["recipients"]
        if all(row["state"] in ("delivered", "bounced") for row in rows):
            return {row["address"].partition("@")[0]: (row["state"], row["last_reply"]) for row in rows}
        assert time.monotonic() < give_up_at, rows
        time.sleep(0.05)


def mail_for(recorder: Recorder, address: str) -> EmailMessage:
    return message_from_bytes(recorder.wait_for(address, 20).data, policy=policy.default)


@pytest.fixture(autouse=True)
def _nothing_leaves(recorder: Recorder) -> Iterator[None]:
    yield
    assert not [one for one in recorder.arrived if any(to.endswith(DOMAIN) for to in one.recipients)]


def test_each_mailbox_does_as_it_is_called(gateway, recorder, sender):
    message = send(
        gateway,
        sender,
        "success",
        "Success+x",
        "complaint",
        "bounce",
        "somebody",
        mail_from="b@tryout.example",
    )
    rows = settled(gateway, message)
    taken = ("delivered", "250 2.6.0 Message received")
    assert rows["success"] == rows["Success+x"] == rows["complaint"] == taken
    assert rows["bounce"] == ("bounced", "550 5.1.1 user unknown")
    assert rows["somebody"] == ("bounced", "550 5.1.1 unknown user")
    shown = gateway.run("message", "show", message)
    assert sorted(one["kind"] for one in shown["notices"]) == ["bounce", "complaint"]
    assert {one["host"] for one in shown["attempts"]} == {DOMAIN}
    assert "tryout.example" in shown["record"]["signed_by"]


def test_several_bounces_come_back_in_one_report_and_on_no_list(gateway, recorder, sender):
    """Signed and queued like any mail, it bounces to the Return-Path like any mail."""
    send(gateway, sender, "bounce+1", "suppressionlist", "bounce+2", mail_from="several@tryout.example")
    report = mail_for(recorder, "several@tryout.example")
    blocks = report.get_payload()[1].get_payload()[1:]
    assert [block["Final-Recipient"] for block in blocks] == [
        f"rfc822; bounce+1@{DOMAIN}",
        f"rfc822; suppressionlist@{DOMAIN}",
        f"rfc822; bounce+2@{DOMAIN}",
    ]
    assert blocks[0]["Diagnostic-Code"] == "smtp; 550 5.1.1 user unknown"
    assert {block["Status"] for block in blocks} == {"5.1.1"}
    assert gateway.run("suppression", "list", "--account", SANDBOX) == []


def test_the_one_that_is_away_answers(gateway, recorder, sender):
    message = send(
        gateway, sender, "ooto", mail_from="away@tryout.example", **{"Message-ID": "<o1@app.example>"}
    )
    reply = mail_for(recorder, "away@tryout.example")
    assert reply["Auto-Submitted"] == "auto-replied"
    assert reply["In-Reply-To"] == "<o1@app.example>"
    assert settled(gateway, message)["ooto"][0] == "delivered"
    [arrived] = [one for one in recorder.arrived if "away@tryout.example" in one.recipients]
    assert arrived.reverse_path == ""


def test_day_is_not_charged_and_the_other_recipients_are_sent_to(gateway, recorder, sender):
    before = gateway.run("account", "show", SANDBOX)["sent_24h"]
    message = send(gateway, sender, "success", "user@tryout.example", mail_from="m@tryout.example")
    recorder.wait_for("user@tryout.example", 20)
    assert gateway.run("account", "show", SANDBOX)["sent_24h"] == before + 1
    assert {state for state, _ in settled(gateway, message).values()} == {"delivered"}


# ---------------------------------------------------------------- other gateways


@pytest.fixture
def other(tmp_path: Path, recorder: Recorder) -> Iterator[Callable[..., tuple[Gateway, Login]]]:
    """A gateway with settings of its own."""
    made: list[Gateway] = []

    def make(**settings: str) -> tuple[Gateway, Login]:
        one = Gateway(tmp_path / "other", recorder, **settings)
        one.run("init", str(tmp_path / "other"))
        one.account(OWNER)
        one.identity("tryout.example", OWNER)
        made.append(one)
        one.start()
        return one, one.login("app", OWNER)

    yield make
    for one in made:
        assert one.stop() == 0, one.log()


def test_domain_is_a_setting(other, recorder):
    gateway, login = other(RELAY_SIMULATOR__DOMAIN="Try.example")
    message = send(gateway, login, "bounce@try.example", mail_from="own@tryout.example")
    assert settled(gateway, message)["bounce"][0] == "bounced"
    mail_for(recorder, "own@tryout.example")
    assert not [one for one in recorder.arrived if "bounce@try.example" in one.recipients]


def test_without_a_domain_there_is_none(other, recorder):
    gateway, login = other(RELAY_SIMULATOR__DOMAIN="")
    send(gateway, login, "success@off.example", mail_from="own@tryout.example")
    recorder.wait_for("success@off.example", 20)


def test_what_waited_goes_the_same_way_when_it_is_claimed(other, recorder):
    """Held by the operator and released; in hand when the gateway was killed and taken up again."""
    gateway, login = other()
    held, in_hand = (send(gateway, login, "success", mail_from="r@tryout.example") for _ in range(2))
    for message in (held, in_hand):
        settled(gateway, message)
    gateway.kill()
    put_back(gateway, held, state="held", held_because="operator")
    put_back(gateway, in_hand, state="leased")
    gateway.start()
    assert settled(gateway, in_hand)["success"][0] == "delivered"
    assert gateway.run("queue", "list", "--message", held)[0]["state"] == "held"
    gateway.run("queue", "release", "--message", held)
    assert settled(gateway, held)["success"][0] == "delivered"


def put_back(gateway: Gateway, message: str, **values: str) -> None:
    """As if it had not been settled."""
    store = Store(f"sqlite:///{gateway.directory}/relay.db")
    with store.write() as connection:
        of = recipient.c.message_id == parse_ses_message_id(message)
        connection.execute(update(recipient).where(of).values(settled_at=None, **values))
    store.dispose()


def test_domain_that_is_none_stops_the_start(tmp_path: Path, recorder: Recorder):
    gateway = Gateway(tmp_path / "bad", recorder)
    gateway.run("init", str(tmp_path / "bad"))
    gateway.environment["RELAY_SIMULATOR__DOMAIN"] = "not a domain"
    code, _, err = gateway.invoke("account", "list")
    assert code == 1
    assert "RELAY_SIMULATOR__DOMAIN" in err
    assert "is not a domain in ASCII" in err
