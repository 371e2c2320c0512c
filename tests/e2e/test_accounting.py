"""R10 and R16 through real SMTP: who is billed, whose reputation moves, what the owner is told for good."""

from __future__ import annotations

import csv
import io
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import DELEGATE, OWNER, STRANGER, Gateway, Login, arn, grant, user_arn

APP = {"AWS": user_arn("app")}
FIRST = ("--from", "2020-01-01")
COUNTS = ("messages", "recipients", "delivered", "hard_bounces", "soft_bounces", "complaints")
# Each bounces once; then it is on the account's suppression list.
GONE = [f"gone{n}@customer.example" for n in range(10)]
_gone = iter(GONE)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    one = Recorder(refused=frozenset(GONE))
    yield one
    one.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Gateway]:
    """One that judges every second and pauses at half; little mail is enough."""
    directory: Path = tmp_path_factory.mktemp("relay")
    one = Gateway(
        directory,
        recorder,
        RELAY_REPUTATION__BOUNCE_PAUSE="50",
        RELAY_REPUTATION__MINIMUM_RECIPIENTS="4",
        RELAY_REPUTATION__CHECK_SECONDS="1",
    )
    one.run("init", str(directory))
    for account in (OWNER, DELEGATE, STRANGER):
        one.account(account)
    one.start()
    yield one
    assert one.stop() == 0, one.log()
    assert "Traceback" not in one.log(), one.log()


@pytest.fixture
def lent(gateway: Gateway, app: Login) -> str:
    """A fresh domain, lent to the delegate's user; its name."""
    name = f"lent{next(_numbers)}.example"
    gateway.identity(name)
    gateway.policy(arn(name), grant(APP, arn(name), Sid="LendAll"))
    return name


def send_as(gateway: Gateway, login: Login, name: str, *rcpts: str, **more: str) -> tuple[int, str]:
    address = f"alerts@{name}"
    headers = {"From": address, **more}
    return gateway.send(login, mail_from=address, rcpt=list(rcpts), headers=headers, arns=arn(name))


def usage_of(gateway: Gateway, name: str, *options: str) -> list[dict]:
    return gateway.run("usage", "--identity", arn(name), *FIRST, *options)


def wait_until(condition, seconds: float = 20) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come true in time"
        time.sleep(0.05)


def reputation(gateway: Gateway, account: str) -> dict:
    return gateway.run("account", "show", account)["reputation"]


# ---------------------------------------------------------------- R16


def test_r16_usage_is_billed_to_the_delegate_with_the_owners_identity_on_the_line(gateway, app, lent):
    gone = next(_gone)
    assert send_as(gateway, app, lent, "a@customer.example", gone)[0] == 250
    wait_until(lambda: usage_of(gateway, lent)[0]["hard_bounces"] == 1)
    assert send_as(gateway, app, lent, gone, "bounce@simulator.amazonses.com")[0] == 250
    wait_until(lambda: usage_of(gateway, lent)[0]["delivered"] == 1)
    wait_until(lambda: gateway.run("queue", "list") == [])
    [line] = usage_of(gateway, lent)
    assert (line["account_id"], line["identity_arn"]) == (DELEGATE, arn(lent))
    # Who is suppressed by now, and the simulator, are billed and have no fate.
    assert [line[name] for name in COUNTS] == [2, 4, 1, 1, 0, 0]
    sizes = [
        gateway.run("message", "show", one["detail"]["message_id"])["size_bytes"]
        for one in gateway.run("ledger", "show", "--identity", arn(lent))
        if one["kind"] == "accepted"
    ]
    assert line["bytes"] == sum(sizes)
    assert gateway.run("usage", "--account", OWNER, *FIRST) == []


def test_r16_csv_has_a_header_and_the_same_numbers(gateway, app, lent):
    assert send_as(gateway, app, lent, "a@customer.example")[0] == 250
    wait_until(lambda: usage_of(gateway, lent)[0]["delivered"] == 1)
    code, out, _ = gateway.invoke("usage", "--identity", arn(lent), *FIRST, "--csv", "--by", "month")
    assert code == 0
    [row] = csv.DictReader(io.StringIO(out))
    [line] = usage_of(gateway, lent, "--by", "month")
    assert row == {name: str(value) for name, value in line.items()}
    assert out.splitlines()[0] == (
        "period,account_id,identity_arn,messages,recipients,bytes,delivered,hard_bounces,soft_bounces,complaints"
    )
    [by_day] = usage_of(gateway, lent)
    assert by_day["period"][:7] == line["period"]
    code, out, _ = gateway.invoke("usage", "--to", "2020-01-31", "--csv")
    assert (code, len(out.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--account", "123"], 1, "no account 123"),
        (["--identity", "nonsense"], 1, "is not an identity's ARN"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], 2, "--from 2026-02-01 is after 2026-01-01"),
        (["--from", "yesterday"], 2, "yesterday"),
        (["--csv", "--json"], 2, "--csv or --json"),
    ],
)
def test_bad_questions_are_answered_with_what_to_do(gateway, options, code, said):
    found, _, err = gateway.invoke("usage", *options)
    assert found == code
    assert said in err


def test_refused_message_is_billed_to_nobody(gateway, app, lent):
    other = gateway.identity(f"other-{lent}")
    assert send_as(gateway, app, f"other-{lent}", "a@customer.example")[0] == 554
    assert gateway.run("usage", "--identity", other, *FIRST) == []


# ---------------------------------------------------------------- R10


def test_r10_bounces_move_the_delegates_reputation_and_not_the_owners(gateway, app, lent):
    stranger = gateway.login("stranger", STRANGER)
    document = grant({"AWS": user_arn("stranger", STRANGER)}, arn(lent))
    gateway.policy(arn(lent), document, "stranger")
    before = reputation(gateway, OWNER)
    assert send_as(gateway, stranger, lent, "bounce@simulator.amazonses.com")[0] == 250
    for _ in range(3):
        assert send_as(gateway, stranger, lent, next(_gone))[0] == 250
    assert send_as(gateway, stranger, lent, "a@customer.example")[0] == 250

    wait_until(lambda: gateway.run("account", "show", STRANGER)["paused"])
    shown = gateway.run("account", "show", STRANGER)
    assert shown["pause_reason"] == "bounce rate 75.00 % of 4 recipients in 14 days, the limit is 50 %"
    assert shown["reputation"] == {
        "status": "PAUSE",
        "reason": shown["pause_reason"],
        "recipients": 4,
        "bounce_percent": 75.0,
        "complaint_percent": 0.0,
    }
    [line] = shown["identities"]
    assert (line["identity_arn"], line["hard_bounces"], line["bounce_percent"]) == (arn(lent), 3, 75.0)
    assert reputation(gateway, OWNER) == before
    assert not gateway.run("account", "show", OWNER)["paused"]

    def refused() -> bool:
        code, text = send_as(gateway, stranger, lent, "a@customer.example")
        return code == 554 and "Sending paused for this account" in text

    wait_until(refused)
    assert f"account={STRANGER} status=PAUSE" in gateway.log()
    [audited] = gateway.run("audit", "--action", "PauseAccount", "--subject", STRANGER)
    assert (audited["actor"], audited["detail"]["pause_reason"]) == (
        "relay:reputation",
        shown["pause_reason"],
    )

    # The operator resumes it: the old numbers count no more.
    assert gateway.run("account", "resume", STRANGER)["reputation"]["status"] == "HEALTHY"
    wait_until(lambda: send_as(gateway, stranger, lent, "a@customer.example")[0] == 250)
    wait_until(lambda: reputation(gateway, STRANGER)["recipients"] >= 1)
    time.sleep(2.5)  # two more looks
    assert not gateway.run("account", "show", STRANGER)["paused"]

    # The owner sees who sent how much in its name, the bill forgets nothing.
    [seen] = [
        one
        for one in gateway.run("identity", "show", lent, "--account", OWNER)["senders"]
        if one["account_id"] == STRANGER
    ]
    assert (seen["messages"], seen["hard_bounces"], seen["delivered"]) == (6, 3, 2)


# ---------------------------------------------------------------- the ledger


def ledger_of(gateway: Gateway, name: str) -> list[dict]:
    return gateway.run("ledger", "show", "--identity", arn(name))


def test_owner_sees_grants_messages_and_refusals_with_what_granted_them(gateway, app, lent):
    code, text = send_as(gateway, app, lent, "a@customer.example", "b@customer.example")
    assert code == 250
    gateway.run("policy", "delete", "lend", "--identity", arn(lent))
    _, refusal = send_as(gateway, app, lent, "a@customer.example")
    reference = refusal.split("relay message show ")[1].rstrip(")")
    found = ledger_of(gateway, lent)
    assert [(one["kind"], one["detail"].get("action")) for one in found] == [
        ("refused", None),
        ("change", "DeleteIdentityPolicy"),
        ("accepted", None),
        ("change", "PutIdentityPolicy"),
        ("change", "PutEmailIdentityDkimSigningAttributes"),
        ("change", "CreateEmailIdentity"),
    ]
    sender = {
        "account": DELEGATE,
        "user": user_arn("app"),
        "from": f"alerts@{lent}",
        "return_path": f"alerts@{lent}",
    }
    accepted, refused = found[2]["detail"], found[0]["detail"]
    size = gateway.run("message", "show", text.split()[-1])["size_bytes"]
    granted = {"address": f"alerts@{lent}", "policy": "lend", "statement": 0, "sid": "LendAll"}
    assert accepted == {
        **sender,
        "recipients": 2,
        "message_id": text.split()[-1],
        "size_bytes": size,
        "grants": [{"role": "From", **granted}, {"role": "Return-Path", **granted}],
    }
    assert {name: refused[name] for name in (*sender, "reference", "reason")} == {
        **sender,
        "reference": reference,
        "reason": "access_denied",
    }
    assert "customer.example" not in json.dumps(found)
    document = json.loads(found[3]["detail"]["detail"]["document"])
    assert document["Statement"][0]["Sid"] == "LendAll"


def test_each_owner_sees_what_its_own_identity_was_used_for(gateway, app, lent):
    back = f"back-{lent}"
    gateway.identity(back)
    gateway.policy(arn(back), grant(APP, arn(back)))
    headers = {"From": f"a@{lent}", "X-SES-SOURCE-ARN": arn(lent), "X-SES-RETURN-PATH-ARN": arn(back)}
    assert gateway.send(app, mail_from=f"b@{back}", headers=headers)[0] == 250
    assert [one["role"] for one in ledger_of(gateway, lent)[0]["detail"]["grants"]] == ["From"]
    assert [one["role"] for one in ledger_of(gateway, back)[0]["detail"]["grants"]] == ["Return-Path"]


def test_refusal_that_names_no_identity_here_is_in_no_ledger(gateway, app, lent):
    before = len(ledger_of(gateway, lent))
    foreign = f"alerts@elsewhere-{lent}"
    assert (
        gateway.send(app, mail_from=foreign, headers={"From": foreign}, arns=arn(f"elsewhere-{lent}"))[0]
        == 554
    )
    assert gateway.send(app, mail_from=foreign, headers={"From": foreign}, arns=arn(lent))[0] == 554
    assert len(ledger_of(gateway, lent)) == before
    code, _, err = gateway.invoke("ledger", "show", "--identity", arn(f"elsewhere-{lent}"))
    assert (code, "nothing ever happened" in err) == (1, True)


def test_ledger_is_sealed_verified_and_exported(gateway, app, lent):
    assert send_as(gateway, app, lent, "a@customer.example")[0] == 250
    wait_until(lambda: gateway.run("ledger", "verify", "--identity", arn(lent))["not_sealed_yet"] == 0)
    verified = gateway.run("ledger", "verify", "--identity", arn(lent))
    assert (verified["intact"], verified["fault"]) == (True, None)
    code, out, _ = gateway.invoke("ledger", "export", "--identity", arn(lent))
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["seq"] for line in lines] == list(range(1, verified["entries"] + 1))
    assert lines[-1]["hash"] == verified["hash"]
    newest = ledger_of(gateway, lent)[0]
    assert {name: newest[name] for name in lines[-1]} == lines[-1]
    assert len(gateway.run("ledger", "show", "--identity", arn(lent), "--limit", "2")) == 2
    assert gateway.run("ledger", "show", "--identity", arn(lent), "--since", "2999-01-01") == []


def test_deleted_identitys_ledger_stays(gateway, app, lent):
    gateway.run("identity", "delete", lent, "--account", OWNER)
    assert ledger_of(gateway, lent)[0]["detail"]["action"] == "DeleteEmailIdentity"


def test_verify_names_the_entry_that_was_changed_behind_our_back(gateway, app, lent):
    import sqlite3

    wait_until(lambda: gateway.run("ledger", "verify", "--identity", arn(lent))["not_sealed_yet"] == 0)
    connection = sqlite3.connect(gateway.directory / "relay.db", timeout=10)
    [(trigger,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'ledger_refuses_update'")
    connection.execute("DROP TRIGGER ledger_refuses_update")
    connection.execute(
        "UPDATE ledger SET detail = replace(detail, 'CreateEmail', 'DeleteEmail')"
        " WHERE identity_arn = ? AND seq = 1",
        (arn(lent),),
    )
    connection.execute(trigger)
    connection.commit()
    connection.close()
    code, out, _ = gateway.invoke("ledger", "verify", "--identity", arn(lent), "--json")
    assert code == 1
    assert json.loads(out)["fault"].startswith("entry 1 is not as it was sealed")
