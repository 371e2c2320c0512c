"""Who is told of what becomes of mail: every line of SES's table, with SMTP, a next hop, HTTP receivers.

Owner and delegate are different accounts, each with a receiver of its own.
"""

from __future__ import annotations

import itertools
import json
import socketserver
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from relay.app.recorder import Recorder
from relay.store.engine import Store
from relay.store.tables import configuration_set
from tests.e2e.test_durability import Load
from tests.support.gateway import (
    DELEGATE,
    OWNER,
    CommandFailed,
    Gateway,
    Login,
    arn,
    free_ports,
    grant,
    user_arn,
)
from tests.support.hooks import Hooks
from tests.support.reports import bring, complaint

DOMAIN = "owner.example"
_numbers = itertools.count(1)
# Each is suppressed once it has bounced.
_REFUSED = [f"nobody{number}@customer.example" for number in range(50)]
NOBODY = iter(_REFUSED)
LOCAL = {"RELAY_WEBHOOKS__ALLOW": '["127.0.0.1/32"]'}


@dataclass
class World:
    """A gateway that lends owner.example to the delegate, and who listens.

    ``owners`` and ``delegates`` are topics with a receiver each; the delegate's set ``alerts`` sends
    everything to its topic, its set ``silent`` nothing.
    """

    gateway: Gateway
    login: Login
    recorder: Recorder
    owner_hooks: Hooks
    delegate_hooks: Hooks
    bounce_port: int
    owners: str = ""
    delegates: str = ""

    def set(self, *options: str) -> None:
        self.gateway.run("identity", "set", DOMAIN, "--account", OWNER, *options)

    def send(self, rcpt: str, configuration_set: str | None = None, **more: str) -> tuple[str, str]:
        """Send one message; its id and its return path, which no other message has."""
        back = f"back{next(_numbers)}@{DOMAIN}"
        headers = {"X-SES-CONFIGURATION-SET": configuration_set} if configuration_set else {}
        code, text = self.gateway.send(
            self.login, mail_from=back, rcpt=rcpt, headers={**headers, **more}, arns=arn(DOMAIN)
        )
        assert code == 250, text
        return text.removeprefix("Ok "), back

    def bounced(self, configuration_set: str | None = None) -> tuple[str, str]:
        """Send one that bounces, and wait until whoever is told of it is decided."""
        message_id, back = self.send(next(NOBODY), configuration_set)
        self.until_told(message_id, "bounce")
        return message_id, back

    def until_told(self, message_id: str, kind: str) -> None:
        give_up_at = time.monotonic() + 20
        while time.monotonic() < give_up_at:
            shown = self.gateway.run("message", "show", message_id)
            assert isinstance(shown, dict)
            if {"kind": kind, "state": "done"}.items() <= _last(shown["notices"], kind).items():
                return
            time.sleep(0.05)
        raise AssertionError(f"{message_id}: {kind} is not done\n{self.gateway.log()}")

    def reports(self, message_id: str) -> int:
        """How many reports on the message were mailed: they are queued with the notice that is done."""
        return count_reports(self.gateway, message_id)


def _last(notices: list[dict[str, str]], kind: str) -> dict[str, str]:
    return next((one for one in reversed(notices) if one["kind"] == kind), {})


def count_reports(gateway: Gateway, message_id: str) -> int:
    with sqlite3.connect(gateway.directory / "relay.db") as connection:
        query = "SELECT count(*) FROM message WHERE record LIKE ?"
        return int(connection.execute(query, (f'%"report_on":"{message_id}"%',)).fetchone()[0])


def listen(gateway: Gateway, account: str, name: str, url: str) -> str:
    """A topic of the account with a webhook; its ARN."""
    topic = gateway.run("topic", "create", name, "--account", account)
    assert isinstance(topic, dict)
    made = gateway.run("topic", "subscribe", topic["arn"], "--protocol", "webhook", url)
    assert isinstance(made, dict)
    assert made["status"] == "confirmed"
    return str(topic["arn"])


def prepare(directory: Path, recorder: Recorder, **settings: str) -> tuple[Gateway, Login]:
    gateway = Gateway(directory, recorder, **LOCAL, **settings)
    gateway.run("init", str(directory))
    for account in (OWNER, DELEGATE):
        gateway.account(account)
    gateway.identity(DOMAIN)
    login = gateway.login("app")
    gateway.policy(arn(DOMAIN), grant({"AWS": user_arn("app")}, arn(DOMAIN)))
    return gateway, login


def destination(gateway: Gateway, topic: str, events: str, name: str = "alerts") -> None:
    gateway.run("configuration-set", "create", name, "--account", DELEGATE)
    where = ("--account", DELEGATE, "--topic", topic, "--events", events)
    gateway.run("configuration-set", "destination", name, "all", *where)


ALL_EVENTS = "send,reject,bounce,complaint,delivery,delivery-delay"


class _Full(socketserver.StreamRequestHandler):
    """A next hop whose mailboxes are full."""

    def handle(self) -> None:
        replies = {b"RCPT": b"452 4.2.2 Mailbox full", b"DATA": b"554 5.5.1 No valid recipients"}
        self.wfile.write(b"220 full.example\r\n")
        for line in self.rfile:
            self.wfile.write(replies.get(line[:4].upper(), b"250 Ok") + b"\r\n")


@pytest.fixture(scope="module")
def full() -> Iterator[str]:
    """The address of that next hop."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Full) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, full: str) -> Iterator[World]:
    recorder = Recorder(refused=frozenset(_REFUSED))
    hooks = Hooks(), Hooks()
    [bounce_port] = free_ports(1)
    settings = {
        "RELAY_BOUNCE__DOMAIN": "bounces.relay.example",
        "RELAY_BOUNCE__LISTEN": f"127.0.0.1:{bounce_port}",
        "RELAY_DELIVERY__ROUTES": json.dumps([{"domain": "full.example", "smarthost": full, "tls": "none"}]),
        "RELAY_DELIVERY__RETRY_FIRST_SECONDS": "1",
        "RELAY_DELIVERY__DELAY_NOTICE_SECONDS": "1",
    }
    gateway, login = prepare(tmp_path_factory.mktemp("relay"), recorder, **settings)
    one = World(gateway, login, recorder, *hooks, bounce_port)
    one.owners = listen(gateway, OWNER, "owners", hooks[0].url)
    one.delegates = listen(gateway, DELEGATE, "delegates", hooks[1].url)
    destination(gateway, one.delegates, ALL_EVENTS)
    gateway.run("configuration-set", "create", "silent", "--account", DELEGATE)
    gateway.run("topic", "allow", one.delegates, "--account", OWNER)
    destination(gateway, one.delegates, ALL_EVENTS, "short")
    shorten(gateway, "short", seconds=3)
    gateway.start()
    yield one
    assert gateway.stop() == 0, gateway.log()
    assert "Traceback" not in gateway.log(), gateway.log()
    recorder.close()
    for each in hooks:
        each.close()


def shorten(gateway: Gateway, name: str, seconds: int) -> None:
    """Less time for mail of the set than the command gives: five minutes is the least, as in SES."""
    store = Store(f"sqlite:///{gateway.directory / 'relay.db'}")
    with store.write() as connection:
        of = configuration_set.c.name == name
        connection.execute(update(configuration_set).where(of).values(max_delivery_seconds=seconds))
    store.dispose()


# ---------------------------------------------------------------- the table


# forwarding, the owner's topic is set, the message names the set that has a destination: mail is sent
TABLE = [
    pytest.param("on", False, False, True, id="on-none-none"),
    pytest.param("on", True, False, True, id="on-topic-none"),
    pytest.param("on", False, True, True, id="on-none-destination"),
    pytest.param("on", True, True, True, id="on-topic-destination"),
    pytest.param("off", True, False, False, id="off-topic-none"),
    pytest.param("off", True, True, False, id="off-topic-destination"),
    pytest.param("off", False, True, False, id="off-none-destination"),
    pytest.param("off", False, False, True, id="off-none-none"),
]


@pytest.mark.parametrize(("forwarding", "has_topic", "names_set", "is_mailed"), TABLE)
def test_r13_each_line_of_the_table(world, forwarding, has_topic, names_set, is_mailed) -> None:
    topic = world.owners if has_topic else "none"
    world.set("--feedback-forwarding", forwarding, "--bounce-topic", topic)
    message_id, back = world.bounced("alerts" if names_set else None)
    if has_topic:
        told = world.owner_hooks.wait_for(message_id, "notification:Bounce").event
        assert told["mail"]["sendingAccountId"] == DELEGATE
        assert told["mail"]["sourceArn"] == arn(DOMAIN)
        assert told["bounce"]["bouncedRecipients"][0]["emailAddress"] in _REFUSED
    if names_set:
        event = world.delegate_hooks.wait_for(message_id, "event:Bounce").event
        assert event["mail"]["tags"]["ses:configuration-set"] == ["alerts"]
        assert (event["bounce"]["bounceType"], event["bounce"]["bounceSubType"]) == ("Permanent", "General")
        world.delegate_hooks.wait_for(message_id, "event:Send")  # which is posted beside it, in no order
    assert world.reports(message_id) == is_mailed
    if is_mailed:
        report = world.recorder.wait_for(back, 20)
        assert report.reverse_path == ""
        assert b"There is no such address" in report.data
    assert len(world.owner_hooks.of(message_id)) == has_topic
    assert {one.type for one in world.delegate_hooks.of(message_id)} == (
        {"event:Send", "event:Bounce"} if names_set else set()
    )


@pytest.mark.parametrize(("forwarding", "names_set"), [("on", False), ("off", False), ("off", True)])
def test_r12_topic_of_the_delegate_takes_the_owners_notifications(world, forwarding, names_set) -> None:
    """Trap: with a topic that the owner does not own, only the delegate is told."""
    world.set("--feedback-forwarding", forwarding, "--bounce-topic", world.delegates)
    message_id, _ = world.bounced("alerts" if names_set else None)
    world.delegate_hooks.wait_for(message_id, "notification:Bounce")
    if names_set:
        world.delegate_hooks.wait_for(message_id, "event:Bounce")
    assert world.owner_hooks.of(message_id) == []
    assert world.reports(message_id) == (forwarding == "on")


def test_r12_topic_of_another_account_needs_its_consent(world) -> None:
    other = world.gateway.run("topic", "create", "closed", "--account", DELEGATE)
    with pytest.raises(CommandFailed, match=f"relay topic allow {other['arn']} --account {OWNER}"):
        world.set("--bounce-topic", other["arn"])
    world.gateway.run("topic", "allow", other["arn"], "--account", OWNER)
    world.set("--bounce-topic", other["arn"])
    world.set("--bounce-topic", "none")


def test_r12_consent_that_is_withdrawn_brings_the_mail_back(world) -> None:
    made = listen(world.gateway, DELEGATE, "fickle", world.delegate_hooks.url)
    world.gateway.run("topic", "allow", made, "--account", OWNER)
    world.set("--feedback-forwarding", "off", "--bounce-topic", made)
    world.gateway.run("topic", "disallow", made, "--account", OWNER)
    message_id, back = world.bounced()
    world.recorder.wait_for(back, 20)
    assert world.delegate_hooks.of(message_id) == []
    shown = world.gateway.run("identity", "show", DOMAIN, "--account", OWNER)
    assert (shown["bounce_topic"], shown["feedback_forwarding"]) == (None, True)
    [entry] = world.gateway.run(
        "audit", "--action", "SetIdentityNotificationTopic", "--actor", "relay:feedback"
    )
    assert made in json.dumps(entry)


def test_r13_set_that_this_message_does_not_carry_is_no_handler(world) -> None:
    world.set("--feedback-forwarding", "off", "--bounce-topic", "none")
    message_id, back = world.bounced("silent")
    world.recorder.wait_for(back, 20)
    assert world.reports(message_id) == 1
    assert world.delegate_hooks.of(message_id) == []


def test_r13_topic_that_nobody_confirmed_is_no_handler(world) -> None:
    silent = world.gateway.run("topic", "create", "nobody", "--account", OWNER)
    world.set("--feedback-forwarding", "off", "--bounce-topic", silent["arn"])
    message_id, back = world.bounced()
    world.recorder.wait_for(back, 20)
    assert world.reports(message_id) == 1


def test_r13_set_deleted_under_load_loses_nothing(world) -> None:
    """Mail that carries it still goes, and what bounces of it comes back."""
    destination(world.gateway, world.delegates, ALL_EVENTS, "doomed")
    world.set("--feedback-forwarding", "off", "--bounce-topic", "none")
    sent: list[tuple[str, str]] = []
    for number in range(12):
        if number == 6:
            world.gateway.run("configuration-set", "delete", "doomed", "--account", DELEGATE)
        if number < 6:
            sent.append(world.send(next(NOBODY), "doomed"))
            continue
        with pytest.raises(AssertionError, match="Configuration set <doomed> does not exist"):
            world.send(next(NOBODY), "doomed")
    for message_id, back in sent:
        world.until_told(message_id, "bounce")
        told = [one for one in world.delegate_hooks.of(message_id) if one.type == "event:Bounce"]
        if world.reports(message_id):
            world.recorder.wait_for(back, 20)
        else:
            told = [world.delegate_hooks.wait_for(message_id, "event:Bounce")]
        assert len(told) + world.reports(message_id) == 1


def test_r13_suppressed_recipient_is_told_of_as_a_bounce(world) -> None:
    world.set("--feedback-forwarding", "off", "--bounce-topic", "none")
    again = next(NOBODY)
    first, _ = world.send(again, "alerts")
    world.delegate_hooks.wait_for(first, "event:Bounce")
    second, _ = world.send(again, "alerts")
    told = world.delegate_hooks.wait_for(second, "event:Bounce").event["bounce"]
    assert (told["bounceType"], told["bounceSubType"]) == ("Permanent", "OnAccountSuppressionList")
    assert told["bouncedRecipients"][0]["diagnosticCode"].startswith("Amazon SES has suppressed sending")
    world.delegate_hooks.wait_for(second, "event:Send")
    third, back = world.send(again)
    world.until_told(third, "bounce")
    assert b"It was not sent" in world.recorder.wait_for(back, 20).data


@pytest.mark.parametrize(("forwarding", "is_mailed"), [("on", True), ("off", False)])
def test_r12_simulated_complaint_is_told_to_both(world, forwarding: str, is_mailed: bool) -> None:
    world.set("--feedback-forwarding", forwarding, "--complaint-topic", world.owners)
    message_id, back = world.send("complaint@simulator.amazonses.com", "alerts")
    told = world.owner_hooks.wait_for(message_id, "notification:Complaint").event
    event = world.delegate_hooks.wait_for(message_id, "event:Complaint").event
    assert told["complaint"] == event["complaint"]
    assert told["complaint"]["complaintFeedbackType"] == "abuse"
    assert world.reports(message_id) == is_mailed
    if is_mailed:
        assert b'report-type="feedback-report"' in world.recorder.wait_for(back, 20).data
    world.set("--complaint-topic", "none")


def test_r13_complaint_that_nobody_has_a_handler_for_is_mailed(world) -> None:
    """A topic for bounces is none for complaints."""
    topics = ("--bounce-topic", world.owners, "--complaint-topic", "none")
    world.set("--feedback-forwarding", "off", *topics)
    message_id, back = world.send("complaint@simulator.amazonses.com")
    assert b"Feedback-Type: abuse" in world.recorder.wait_for(back, 20).data
    assert world.owner_hooks.of(message_id) == []


@pytest.mark.parametrize(("forwarding", "has_topic", "names_set", "is_mailed"), TABLE)
def test_r13_complaint_that_is_reported_goes_by_the_same_table(
    world, forwarding, has_topic, names_set, is_mailed
) -> None:
    topic = world.owners if has_topic else "none"
    world.set("--feedback-forwarding", forwarding, "--complaint-topic", topic)
    rcpt = f"angry{next(_numbers)}@customer.example"
    message_id, back = world.send(rcpt, "alerts" if names_set else None)
    token = world.recorder.wait_for(rcpt, 20).reverse_path
    assert bring(world.bounce_port, token, complaint(rcpt), "feedback@customer.example")[0] == 250
    world.until_told(message_id, "complaint")
    expected = {
        "notification:Complaint": (world.owner_hooks, has_topic),
        "event:Complaint": (world.delegate_hooks, names_set),
    }
    for type_, (hooks, is_told) in expected.items():
        if is_told:
            told = hooks.wait_for(message_id, type_).event["complaint"]
            assert told["complainedRecipients"] == [{"emailAddress": rcpt}]
            assert (told["complaintFeedbackType"], told["userAgent"]) == ("abuse", "Customer/2.0")
        assert [one.type for one in hooks.of(message_id)].count(type_) == is_told
    assert world.reports(message_id) == is_mailed
    if is_mailed:
        assert f"Original-Rcpt-To: <{rcpt}>".encode() in world.recorder.wait_for(back, 20).data


# ---------------------------------------------------------------- delays


def test_every_delay_is_an_event_and_then_none_is_mailed(world) -> None:
    message_id, _ = world.send("event@full.example", "alerts")
    give_up_at = time.monotonic() + 20
    while len(told := _delays(world, message_id)) < 3:
        assert time.monotonic() < give_up_at, told
        time.sleep(0.05)
    delay = told[0]["deliveryDelay"]
    assert delay["delayType"] == "MailboxFull"
    assert delay["delayedRecipients"] == [
        {
            "emailAddress": "event@full.example",
            "status": "4.2.2",
            "diagnosticCode": "smtp; 452 4.2.2 Mailbox full",
        }
    ]
    # The third attempt was after the time at which the Return-Path would have been told.
    world.until_told(message_id, "delay")
    assert world.reports(message_id) == 0


def _delays(world: World, message_id: str) -> list[dict[str, Any]]:
    hooks = world.delegate_hooks
    return [one.event for one in hooks.of(message_id) if one.type == "event:DeliveryDelay"]


def test_delay_that_nobody_listens_to_is_mailed_once(world) -> None:
    """A topic for bounces, or forwarding that is off, makes no difference to it."""
    world.set("--feedback-forwarding", "off", "--bounce-topic", world.owners)
    message_id, back = world.send("mail@full.example", "silent")
    report = world.recorder.wait_for(back, 20)
    assert report.reverse_path == ""
    assert b"Subject: Delivery Status Notification (Delay)\r\n" in report.data
    assert b"\r\nFinal-Recipient: rfc822; mail@full.example\r\nAction: delayed\r\n" in report.data
    assert b"\r\nDiagnostic-Code: smtp; 452 4.2.2 Mailbox full\r\n" in report.data
    assert b"\r\nWill-Retry-Until: " in report.data
    attempts = world.gateway.run("message", "show", message_id)["recipients"][0]["attempts"]
    give_up_at = time.monotonic() + 20
    while world.gateway.run("message", "show", message_id)["recipients"][0]["attempts"] == attempts:
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
    assert world.reports(message_id) == 1
    assert world.owner_hooks.of(message_id) == []


# ---------------------------------------------------------------- deliveries and what is quoted


def test_delivery_is_told_to_both_and_never_mailed(world) -> None:
    world.set("--delivery-topic", world.owners, "--headers-in-delivery", "on")
    message_id, _ = world.send(
        "user@customer.example",
        "alerts",
        **{"Bcc": "hidden@owner.example", "X-SES-MESSAGE-TAGS": "campaign=spring", "Message-ID": "<1@app>"},
    )
    told = world.owner_hooks.wait_for(message_id, "notification:Delivery").event
    event = world.delegate_hooks.wait_for(message_id, "event:Delivery").event
    world.delegate_hooks.wait_for(message_id, "event:Send")
    assert world.reports(message_id) == 0
    assert told["delivery"]["smtpResponse"] == "250 2.0.0 Ok: recorded"
    assert told["delivery"]["remoteMtaIp"] == "127.0.0.1"
    assert told["mail"]["commonHeaders"]["messageId"] == "<1@app>"
    assert event["mail"]["tags"]["campaign"] == ["spring"]
    assert event["mail"]["tags"]["ses:outgoing-ip"] == ["127.0.0.1"]
    names = [one["name"] for one in event["mail"]["headers"]]
    assert names == [one["name"] for one in told["mail"]["headers"]]
    assert names == [
        *("From", "To", "Subject", "X-SES-SOURCE-ARN", "X-SES-FROM-ARN", "X-SES-RETURN-PATH-ARN"),
        *("X-SES-CONFIGURATION-SET", "Bcc", "X-SES-MESSAGE-TAGS", "Message-ID"),
    ]
    world.set("--delivery-topic", "none")


def test_time_of_the_set_is_the_messages(world) -> None:
    limits = ("--account", DELEGATE, "--max-delivery-seconds", "300")
    world.gateway.run("configuration-set", "create", "hasty", *limits)
    hasty, _ = world.send("user@customer.example", "hasty")
    shown = world.gateway.run("message", "show", hasty)
    assert shown["expires_at"] - shown["received_at"] == 300_000_000


def test_time_of_the_set_that_ran_out_is_told_as_such(world) -> None:
    message_id, _ = world.send("hurried@full.example", "short")
    told = world.delegate_hooks.wait_for(message_id, "event:Bounce").event["bounce"]
    assert (told["bounceType"], told["bounceSubType"]) == ("Transient", "CustomTimeoutExceeded")
    assert told["bouncedRecipients"][0]["diagnosticCode"] == "smtp; 452 4.2.2 Mailbox full"


def test_two_tags_stand_in_the_feedback_id(world) -> None:
    tags = {"X-SES-MESSAGE-TAGS": "ses:feedback-id-a=news, ses:feedback-id-b=spring"}
    world.send("tagged@customer.example", **tags)
    arrived = world.recorder.wait_for("tagged@customer.example", 20)
    assert b"\r\nFeedback-ID: news:spring:1.us-east-1." in arrived.data


def test_mail_that_nobody_listens_to_leaves_no_event(world) -> None:
    world.set("--delivery-topic", "none")
    message_id, _ = world.send("quiet@customer.example")
    world.recorder.wait_for("quiet@customer.example", 20)
    shown = world.gateway.run("message", "show", message_id)
    assert shown["notices"] == []


def test_destination_that_is_switched_off_is_told_nothing(world) -> None:
    world.set("--feedback-forwarding", "off", "--bounce-topic", "none")
    destination(world.gateway, world.delegates, ALL_EVENTS, "off")
    world.gateway.run("configuration-set", "destination", "off", "all", "--account", DELEGATE, "--disable")
    message_id, back = world.bounced("off")
    world.recorder.wait_for(back, 20)
    assert world.delegate_hooks.of(message_id) == []


def test_paused_set_refuses_mail_until_it_is_resumed(world) -> None:
    world.gateway.run("configuration-set", "pause", "silent", "--account", DELEGATE)
    with pytest.raises(AssertionError, match="Sending paused for configuration set <silent>"):
        world.send("user@customer.example", "silent")
    world.gateway.run("configuration-set", "resume", "silent", "--account", DELEGATE)
    world.send("user@customer.example", "silent")


# ---------------------------------------------------------------- SES's test messages


@pytest.mark.parametrize("kind", ["bounce", "complaint", "delivery"])
def test_topic_that_is_set_is_told_so(world, kind: str) -> None:
    world.set(f"--{kind}-topic", world.owners)
    said = (
        f"You have successfully subscribed your Amazon SNS topic '{world.owners}' to receive"
        f" '{kind.capitalize()}' notifications from Amazon SES for identity '{DOMAIN}'."
    )
    world.owner_hooks.wait_for_test(said)
    [*_, newest] = world.gateway.run("event", "list", "--topic", world.owners, "--type", "Publish")[::-1]
    body = world.gateway.run("event", "show", newest["id"])["body"]
    assert body.startswith('{"notificationType":"AmazonSnsSubscriptionSucceeded","message":"You have ')
    world.set(f"--{kind}-topic", "none")


def test_destination_that_is_made_is_told_so_once(world) -> None:
    said = "Successfully validated SNS topic for Amazon SES event publishing."
    topic = listen(world.gateway, DELEGATE, "fresh", world.delegate_hooks.url)
    destination(world.gateway, topic, "send", "fresh")
    changed = ("fresh", "all", "--account", DELEGATE, "--events", "bounce")
    world.gateway.run("configuration-set", "destination", *changed)
    world.delegate_hooks.wait_for_test(said)
    [one] = world.gateway.run("event", "list", "--topic", topic)
    assert world.gateway.run("event", "show", one["id"])["body"] == said


# ---------------------------------------------------------------- R3


def test_r03_lent_identity_has_no_default_set_through_commands_and_smtp(world) -> None:
    run = world.gateway.run
    world.gateway.identity("own.example")
    run("configuration-set", "create", "usual", "--account", OWNER)
    own = ("own.example", "--account", OWNER)
    run("identity", "set", *own, "--default-configuration-set", "usual")
    login = world.gateway.login("own", OWNER)
    code, text = world.gateway.send(login, mail_from="a@own.example", headers={"From": "a@own.example"})
    assert code == 250
    assert run("message", "show", text.removeprefix("Ok "))["configuration_set"] == "usual"
    document = json.dumps(grant({"AWS": DELEGATE}, arn("own.example")))
    put = ("policy", "put", "lend", "--identity", arn("own.example"), "-")
    with pytest.raises(CommandFailed, match="remove that first"):
        run(*put, stdin=document)
    run("identity", "set", *own, "--default-configuration-set", "none")
    run(*put, stdin=document)
    with pytest.raises(CommandFailed, match="policy lend lends own.example to another account"):
        run("identity", "set", *own, "--default-configuration-set", "usual")
    code, text = world.gateway.send(
        world.login, mail_from="a@own.example", headers={"From": "a@own.example"}, arns=arn("own.example")
    )
    assert code == 250
    assert run("message", "show", text.removeprefix("Ok "))["configuration_set"] is None


# ---------------------------------------------------------------- kill -9


def test_kill_nine_under_load_neither_loses_nor_invents_an_event(tmp_path: Path) -> None:
    recorder, hooks = Recorder(refused=frozenset({"nobody@customer.example"})), Hooks()
    gateway, login = prepare(
        tmp_path, recorder, RELAY_RELAY__WORKERS="2", RELAY_DELIVERY__RETRY_FIRST_SECONDS="1"
    )
    destination(gateway, listen(gateway, DELEGATE, "events", hooks.url), ALL_EVENTS)
    gateway.start()
    load = Load(gateway, login, "X-SES-CONFIGURATION-SET: alerts\r\n")
    for _ in range(4):
        time.sleep(1)
        gateway.kill()
        gateway.start()
    load.stop()
    assert load.ids, "nothing was accepted"
    expected = _expected(tmp_path / "relay.db")
    assert {message_id for message_id, _ in expected} >= load.ids
    give_up_at = time.monotonic() + 60
    while len({one.id for one in list(hooks.posted)}) < len(expected) and time.monotonic() < give_up_at:
        time.sleep(0.1)
        expected = _expected(tmp_path / "relay.db")
    assert gateway.stop() == 0, gateway.log()
    recorder.close()
    hooks.close()
    # What was posted twice had the same id; a delay is an event of its own.
    by_id = {one.id: (one.message_id, one.type) for one in hooks.posted if "Delay" not in one.type}
    told = Counter(by_id.values())
    assert told == expected


def _expected(database: Path) -> Counter[tuple[str, str]]:
    """A Send for each message of a client's, and what became of it."""
    from relay.submission.identifiers import ses_message_id

    with sqlite3.connect(database) as connection:
        query = """SELECT message_id, state FROM recipient JOIN message ON message.id = message_id
            WHERE record LIKE '%"send"%'"""
        rows = connection.execute(query).fetchall()
    found: Counter[tuple[str, str]] = Counter()
    for message_id, state in rows:
        found[ses_message_id(message_id), "event:Send"] += 1
        kind = {"delivered": "event:Delivery", "bounced": "event:Bounce"}.get(state, "waiting")
        found[ses_message_id(message_id), kind] += 1
    return found
