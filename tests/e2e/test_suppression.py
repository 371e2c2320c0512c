"""The suppression list through real SMTP, and its commands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, arn, grant, user_arn

DOMAIN = "owner.example"
SANDBOX = "444444444444"


@pytest.fixture(scope="module")
def sender(gateway: Gateway, domain: str) -> Login:
    login = gateway.login("app")
    gateway.policy(domain, grant({"AWS": user_arn("app")}, domain))
    return login


@pytest.fixture
def emptied(gateway: Gateway) -> Iterator[None]:
    yield
    for one in listed(gateway):
        gateway.run("suppression", "remove", one["address"], "--account", DELEGATE)


def listed(gateway: Gateway, *options: str) -> list[dict]:
    return gateway.run("suppression", "list", "--account", DELEGATE, *options)


def wait_until(holds: Callable[[], object], seconds: float = 20) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def send(gateway: Gateway, sender: Login, *rcpt: str, **options) -> str:
    code, text = gateway.send(sender, rcpt=list(rcpt), arns=arn(DOMAIN), **options)
    assert code == 250, text
    return text.split()[1]


def recipients(gateway: Gateway, message: str) -> dict[str, str]:
    return {one["address"]: one["state"] for one in gateway.run("message", "show", message)["recipients"]}


def sent_24h(gateway: Gateway) -> int:
    return gateway.run("account", "show", DELEGATE)["sent_24h"]


def arrived(recorder: Recorder, address: str) -> int:
    return sum(address in message.recipients for message in list(recorder.arrived))


# ---------------------------------------------------------------- through SMTP


def test_hard_bounce_is_the_last_one(gateway, recorder, sender, emptied):
    """The second message to it is accepted, counted and reported, and never leaves."""
    first = send(gateway, sender, "nobody@customer.example", mail_from="first@owner.example")
    recorder.wait_for("first@owner.example", 20)
    [entry] = listed(gateway)
    assert (entry["address"], entry["reason"]) == ("nobody@customer.example", "BOUNCE")
    assert entry["message_id"] == first

    before = sent_24h(gateway)
    second = send(
        gateway, sender, "Nobody@customer.example", "user@customer.example", mail_from="second@owner.example"
    )
    assert sent_24h(gateway) == before + 2
    report = message_from_bytes(recorder.wait_for("second@owner.example", 20).data, policy=policy.default)
    [block] = report.get_payload()[1].get_payload()[1:]
    assert block["Final-Recipient"] == "rfc822; Nobody@customer.example"
    assert block["Status"] == "5.1.1"
    assert "Amazon SES has suppressed sending to this address" in block["Diagnostic-Code"]
    assert f"list of account {DELEGATE}" in block["Diagnostic-Code"]
    wait_until(lambda: recipients(gateway, second)["user@customer.example"] == "delivered")
    shown = gateway.run("message", "show", second)
    assert recipients(gateway, second)["Nobody@customer.example"] == "bounced"
    assert {one["number"] for one in shown["attempts"]} == {1}
    assert f"bounced id={second} to=Nobody@customer.example" in gateway.log()


def test_message_of_which_all_are_suppressed_never_leaves(gateway, recorder, sender, emptied):
    gateway.run("suppression", "add", "out@customer.example", "--account", DELEGATE)
    message = send(gateway, sender, "out@customer.example", mail_from="all@owner.example")
    recorder.wait_for("all@owner.example", 20)
    assert recipients(gateway, message) == {"out@customer.example": "bounced"}
    assert not arrived(recorder, "out@customer.example")
    assert gateway.run("queue", "list", "--message", message) == []


def test_large_message_of_which_all_are_suppressed_never_leaves(gateway, recorder, sender, emptied):
    gateway.run("suppression", "add", "out@customer.example", "--account", DELEGATE)
    body = ("x" * 98 + "\r\n") * 6000
    send(gateway, sender, "out@customer.example", mail_from="large@owner.example", body=body)
    recorder.wait_for("large@owner.example", 20)
    assert not arrived(recorder, "out@customer.example")


def test_removed_address_is_sent_to_again(gateway, recorder, sender, emptied):
    gateway.run("suppression", "add", "back@customer.example", "--account", DELEGATE)
    gateway.run("suppression", "remove", "BACK@customer.example", "--account", DELEGATE)
    send(gateway, sender, "back@customer.example")
    recorder.wait_for("back@customer.example", 20)


def test_account_says_for_which_reasons(gateway, recorder, sender, emptied):
    gateway.run("suppression", "add", "c@customer.example", "--account", DELEGATE, "--reason", "complaint")
    shown = gateway.run("account", "update", DELEGATE, "--suppress", "bounce")
    assert shown["suppressed_reasons"] == ["BOUNCE"]
    try:
        send(gateway, sender, "c@customer.example")
        recorder.wait_for("c@customer.example", 20)
    finally:
        shown = gateway.run("account", "update", DELEGATE, "--suppress", "bounce,complaint")
    assert shown["suppressed_reasons"] == ["BOUNCE", "COMPLAINT"]


def test_configuration_set_has_a_mode_of_its_own(gateway, recorder, sender, emptied):
    gateway.run("configuration-set", "create", "quiet", "--account", DELEGATE)
    shown = gateway.run("configuration-set", "suppress", "quiet", "none", "--account", DELEGATE)
    assert shown["suppressed_reasons"] == []
    named = {"headers": {"X-SES-CONFIGURATION-SET": "quiet"}}
    gateway.run("suppression", "add", "set@customer.example", "--account", DELEGATE)
    send(gateway, sender, "set@customer.example", **named)
    recorder.wait_for("set@customer.example", 20)
    send(gateway, sender, "nobody@customer.example", mail_from="set@owner.example", **named)
    recorder.wait_for("set@owner.example", 20)
    assert [one["address"] for one in listed(gateway)] == ["set@customer.example"]
    shown = gateway.run("configuration-set", "suppress", "quiet", "account", "--account", DELEGATE)
    assert shown["suppressed_reasons"] is None
    message = send(gateway, sender, "set@customer.example", **named)
    assert recipients(gateway, message) == {"set@customer.example": "bounced"}


def test_list_of_the_owner_is_not_the_delegates(gateway, recorder, sender):
    gateway.run("suppression", "add", "own@customer.example", "--account", OWNER)
    send(gateway, sender, "own@customer.example")
    recorder.wait_for("own@customer.example", 20)


# ---------------------------------------------------------------- commands


def test_import_and_export_go_round(gateway, emptied, tmp_path: Path):
    file = tmp_path / "list"
    file.write_text(
        "a@x.example,BOUNCE\r\n"
        '"b@x.example","complaint"\n'
        "\n"
        '{"address": "c@x.example", "reason": "BOUNCE"}\n'
        '{"EmailAddress": "d@x.example", "Reason": "COMPLAINT", "LastUpdateTime": "2026-01-01"}\n'
        "A@x.example,COMPLAINT\n"
    )
    assert gateway.run("suppression", "import", str(file), "--account", DELEGATE) == {"imported": 4}
    expected = "A@x.example,COMPLAINT\nb@x.example,COMPLAINT\nc@x.example,BOUNCE\nd@x.example,COMPLAINT\n"
    _, out, _ = gateway.invoke("suppression", "export", "--account", DELEGATE)
    assert out == expected
    _, lines, _ = gateway.invoke("suppression", "export", "--account", DELEGATE, "--json")
    assert json.loads(lines.splitlines()[2]) == {"address": "c@x.example", "reason": "BOUNCE"}
    for text in (out, lines):
        assert gateway.run("suppression", "import", "-", "--account", DELEGATE, stdin=text) == {"imported": 4}
    assert len(listed(gateway, "--reason", "bounce")) == 1
    assert len(listed(gateway, "--limit", "3")) == 3
    assert listed(gateway, "--since", "2999-01-01") == []
    entries = gateway.run("audit", "--action", "ImportSuppressedDestinations", "--limit", "1")
    assert entries[0]["detail"] == {"addresses": 4}


def test_bad_lines_are_all_named_and_nothing_is_imported(gateway):
    lines = [
        "good@x.example,BOUNCE",
        "no-reason@x.example",
        "a@x.example,SPAM",
        "not an address,BOUNCE",
        "{broken",
        '{"reason": "BOUNCE"}',
        '{"address": "a@x.example", "reason": null}',
        'a"b,c@x.example,BOUNCE',
        "\x00,BOUNCE",
    ]
    code, _, err = gateway.invoke("suppression", "import", "-", "--account", DELEGATE, stdin="\n".join(lines))
    assert code == 1
    assert [line.split(":")[0] for line in err.splitlines()[1:]] == [f"line {n}" for n in range(2, 10)]
    assert listed(gateway) == []


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        (["add", "a@b@c", "--account", DELEGATE], None, 1, "'a@b@c'"),
        (["add", "a@x.example", "--account", "999999999999"], None, 1, "relay account list"),
        (["remove", "a@x.example", "--account", DELEGATE], None, 1, "is not on the list"),
        (["list", "--account", "999999999999"], None, 1, "relay account list"),
        (["import", "-", "--account", DELEGATE], "\n", 1, "no line to import"),
        (["import", "-", "--account", DELEGATE], "a@x.example,BOUNCE\n" * 100_001, 1, "import it in parts"),
        (["import", "nowhere", "--account", DELEGATE], None, 2, "No such file"),
        (["list"], None, 2, "--account"),
    ],
)
def test_what_cannot_be_done_says_why(gateway, arguments, stdin, code, words):
    result = gateway.invoke("suppression", *arguments, stdin=stdin)
    assert (result[0], words in result[2]) == (code, True), result


def test_account_in_the_sandbox_only_takes_from_its_list(gateway):
    gateway.account(SANDBOX, production=True)
    gateway.run("suppression", "add", "a@x.example", "--account", SANDBOX)
    gateway.run("account", "update", SANDBOX, "--sandbox")
    for arguments in (["add", "b@x.example"], ["import", "-"]):
        code, _, err = gateway.invoke(
            "suppression", *arguments, "--account", SANDBOX, stdin="b@x.example,BOUNCE"
        )
        assert code == 1
        assert "is in the sandbox" in err
    gateway.run("suppression", "remove", "a@x.example", "--account", SANDBOX)
    assert gateway.run("suppression", "list", "--account", SANDBOX) == []


def test_people_read_the_list_too(gateway, emptied):
    assert gateway.invoke("suppression", "list", "--account", DELEGATE)[1] == "none\n"
    gateway.run("suppression", "add", "a@x.example", "--account", DELEGATE)
    _, out, _ = gateway.invoke("suppression", "list", "--account", DELEGATE)
    assert out.startswith("BOUNCE     20")
    assert out.endswith(" UTC  a@x.example\n")


@pytest.mark.parametrize("value", ["", "spam", "none,bounce"])
def test_unclear_reasons_are_refused(gateway, value):
    assert gateway.invoke("account", "update", DELEGATE, "--suppress", value)[0] == 2
