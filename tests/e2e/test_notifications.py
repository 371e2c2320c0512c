"""Topics and notifications through the program: commands, the handshake over HTTP, kill -9 while it posts."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import pytest
from sqlalchemy import select, update

from relay.app.recorder import Recorder
from relay.queue import workers
from relay.queue.notifications import NewNotification, insert_notifications
from relay.store.engine import Store
from relay.store.tables import identity, notification, subscription
from relay.submission.identifiers import notification_id
from tests.support.gateway import DELEGATE, OWNER, Gateway
from tests.support.receiver import OK, Got, Receiver, verify_sns

TOPIC = f"arn:aws:sns:us-east-1:{DELEGATE}:events"
BODY = '{"eventType":"Bounce","bounce":{"bounceType":"Permanent"}}'
_ids = itertools.count(2_000_000_000_000)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Gateway]:
    """Set up, with a topic; whoever wants it starts it."""
    recorder = Recorder(refused=frozenset())
    gateway = Gateway(tmp_path / "relay", recorder, RELAY_WEBHOOKS__ALLOW="127.0.0.1/32")
    gateway.environment["RELAY_HTTP__PUBLIC_URL"] = f"http://127.0.0.1:{gateway.http_port}"
    gateway.environment["RELAY_WEBHOOKS__RETRY_FIRST_SECONDS"] = "1"
    gateway.run("init", str(gateway.directory))
    gateway.account(OWNER)
    gateway.account(DELEGATE)
    assert gateway.run("topic", "create", "events", "--account", DELEGATE) == {"arn": TOPIC}
    yield gateway
    if gateway.process is not None and gateway.process.poll() is None:
        gateway.stop()
    recorder.close()


def subscribe(relay: Gateway, protocol: str, endpoint: str, *options: str) -> Any:
    return relay.run("topic", "subscribe", TOPIC, "--protocol", protocol, endpoint, *options)


def refused(relay: Gateway, *arguments: str) -> str:
    code, _, err = relay.invoke(*arguments)
    assert code == 1, err
    return err


def put(relay: Gateway, arn: str, count: int = 1, body: str = BODY) -> list[str]:
    """Notifications as the dispatcher inserts them."""
    store = Store(f"sqlite:///{relay.directory}/relay.db")
    with store.write() as connection:
        uuid, at = arn.rpartition(":")[2], workers.now(connection)
        of = connection.execute(select(subscription.c.id).where(subscription.c.uuid == uuid)).scalar_one()
        new = [NewNotification(next(_ids), DELEGATE, of, 7, "Bounce", body, at) for _ in range(count)]
        insert_notifications(connection, new)
    store.dispose()
    return [notification_id(one.id) for one in new]


def states(relay: Gateway) -> dict[str, str]:
    store = Store(f"sqlite:///{relay.directory}/relay.db")
    with store.read() as connection:
        rows = connection.execute(select(notification.c.id, notification.c.state)).all()
    store.dispose()
    return {notification_id(row.id): row.state for row in rows}


def fetch(url: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    data = urlencode(form).encode() if form is not None else None
    try:
        with urllib.request.urlopen(url, data, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def until(claim: Any, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.05)


# ---------------------------------------------------------------- the handshake, over our own listener


async def test_endpoint_confirms_reads_verifies_and_leaves(relay: Gateway):
    relay.start()
    async with Receiver().running() as receiver:
        made = subscribe(relay, "http", receiver.url)
        assert made["status"] == "pending"
        arn = made["subscription_arn"]
        [asked] = await receiver.wait(1)
        status, answer = await asyncio.to_thread(fetch, asked.json()["SubscribeURL"])
        assert status == 200
        assert f"<ConfirmSubscriptionResult><SubscriptionArn>{arn}</SubscriptionArn>" in answer
        put(relay, arn)
        told = (await receiver.wait(2))[1].json()
        for document in (asked.json(), told):
            status, pem = await asyncio.to_thread(fetch, document["SigningCertURL"])
            assert status == 200
            verify_sns(document, pem)
        status, answer = await asyncio.to_thread(fetch, told["UnsubscribeURL"])
        assert status == 200
        assert "<UnsubscribeResponse xmlns=" in answer
        good_bye = (await receiver.wait(3))[2].json()
        assert good_bye["Type"] == "UnsubscribeConfirmation"
    [entry] = relay.run("audit", "--action", "ConfirmSubscription")
    assert entry["actor"] == "http:sns from 127.0.0.1"


async def test_sdk_of_aws_confirms_by_token(relay: Gateway):
    relay.start()
    async with Receiver().running() as receiver:
        arn = subscribe(relay, "http", receiver.url)["subscription_arn"]
        [asked] = await receiver.wait(1)
        sns = boto3.client(
            "sns",
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{relay.http_port}/sns",
            aws_access_key_id="x",
            aws_secret_access_key="y",
        )
        document = asked.json()
        with pytest.raises(sns.exceptions.InvalidParameterException, match="no subscription waits for"):
            await asyncio.to_thread(sns.confirm_subscription, TopicArn=TOPIC, Token="wrong")
        answer = await asyncio.to_thread(
            sns.confirm_subscription, TopicArn=document["TopicArn"], Token=document["Token"]
        )
        assert answer["SubscriptionArn"] == arn
        await asyncio.to_thread(sns.unsubscribe, SubscriptionArn=arn)
        with pytest.raises(sns.exceptions.NotFoundException):
            await asyncio.to_thread(sns.unsubscribe, SubscriptionArn=f"{TOPIC}:none")


def test_link_in_a_mail_changes_nothing_until_its_button_is_pressed(relay: Gateway):
    relay.start()
    arn = subscribe(relay, "email", "ops@customer.example")["subscription_arn"]
    mail = message_from_bytes(relay.recorder.wait_for("ops@customer.example", 10).data)
    text = mail.get_payload(decode=True).decode()
    token = text.split("relay topic confirm ")[1].split()[0]
    query = urlencode({"Action": "ConfirmSubscription", "TopicArn": TOPIC, "Token": token}, safe=":")
    url = f"http://127.0.0.1:{relay.http_port}/sns/?{query}"
    status, page = fetch(url)
    assert status == 200
    assert "<button>Confirm the subscription</button>" in page
    assert _status(relay, arn) == "pending"
    status, page = fetch(url, {"page": "1"})
    assert (status, "The subscription is confirmed" in page) == (200, True)
    assert _status(relay, arn) == "confirmed"
    leave = f"http://127.0.0.1:{relay.http_port}/sns/?Action=Unsubscribe&SubscriptionArn={arn}"
    assert "<button>Unsubscribe</button>" in fetch(leave)[1]
    assert _status(relay, arn) == "confirmed"
    assert fetch(leave, {"page": "1"})[0] == 200
    assert relay.run("topic", "show", TOPIC)["subscriptions"] == []
    assert fetch(leave, {"page": "1"})[0] == 404


def _status(relay: Gateway, arn: str) -> str:
    [one] = relay.run("topic", "show", TOPIC)["subscriptions"]
    assert one["subscription_arn"] == arn
    return str(one["status"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/sns/?Action=ConfirmSubscription&Token=ABC", 400),
        ("/sns/?Action=Unsubscribe&SubscriptionArn=arn:x", 404),
        ("/sns/?Action=Publish", 400),
        ("/sns", 400),
        ("/SimpleNotificationService-00.pem", 404),
        ("/SimpleNotificationService-zz.pem", 404),
        ("/SimpleNotificationService-ffffffffffffffffffffffffffffffff.pem", 404),
    ],
)
def test_wrong_calls_are_answered_as_sns_answers(relay: Gateway, path: str, status: int):
    relay.start()
    found, text = fetch(f"http://127.0.0.1:{relay.http_port}{path}")
    assert found == status
    if path.startswith("/sns"):
        assert "<ErrorResponse" in text


def test_guesser_is_asked_to_wait(relay: Gateway):
    relay.start()
    url = f"http://127.0.0.1:{relay.http_port}/sns/?Action=ConfirmSubscription&Token="
    assert [fetch(f"{url}{n}")[0] for n in range(11)] == [400] * 10 + [429]


def test_mail_of_a_notification_is_shown_as_ours(relay: Gateway):
    arn = subscribe(relay, "email", "ops@customer.example")["subscription_arn"]
    relay.run("topic", "confirm", arn)
    [id_] = put(relay, arn)
    relay.start()
    give_up_at = time.monotonic() + 15
    while len(relay.recorder.arrived) < 2:
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    mail = message_from_bytes(relay.recorder.arrived[1].data)
    assert relay.recorder.arrived[1].reverse_path == ""
    assert mail["Subject"] == "Bounce (events)"
    mail_id = mail["Message-ID"].strip().strip("<>").partition("@")[0]
    code, out, _ = relay.invoke("message", "show", mail_id)
    assert code == 0
    assert f"our mail     notification {id_} (Bounce)" in out


# ---------------------------------------------------------------- kill -9


async def test_kill_9_while_posting_loses_nothing_and_repeats_carry_the_same_id(relay: Gateway):
    async def slowly(_: Got, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(OK)

    relay.environment["RELAY_RELAY__WORKERS"] = "2"
    async with Receiver(say=slowly).running() as receiver:
        made = subscribe(relay, "webhook", receiver.url)
        ids = put(relay, made["subscription_arn"], 1500)
        relay.start()
        for kills in range(3):
            await receiver.wait(200 * (kills + 1), 30)
            await asyncio.to_thread(relay.kill)
            await asyncio.to_thread(relay.start)
        await until(lambda: set(states(relay).values()) == {"done"}, 60)
    got = [one.headers["webhook-id"] for one in receiver.got]
    assert set(got) == set(ids)
    bodies = {one.headers["webhook-id"]: one.body for one in receiver.got}
    assert len(bodies) == 1500
    assert len(got) <= 1500 + 3 * 2 * 64, "what was in hand, and no more, is posted again"


# ---------------------------------------------------------------- commands


def test_topic_is_made_listed_shown_and_deleted(relay: Gateway):
    made = subscribe(relay, "webhook", "https://hooks.customer.example/a")
    assert made["status"] == "confirmed"
    assert made["secret"].startswith("whsec_")
    assert relay.run("topic", "list", "--account", DELEGATE) == [
        {"arn": TOPIC, "subscriptions": 1, "confirmed": 1}
    ]
    shown = relay.run("topic", "show", TOPIC)
    [one] = shown["subscriptions"]
    assert (one["endpoint"], one["status"], one["raw"]) == (
        "https://hooks.customer.example/a",
        "confirmed",
        False,
    )
    assert made["secret"] not in json.dumps(shown)
    assert relay.run("topic", "update", TOPIC, "--signature-version", "1")["signature_version"] == 1
    assert relay.run("topic", "unsubscribe", one["subscription_arn"])
    assert relay.run("topic", "delete", TOPIC) == {"deleted": TOPIC}
    assert "relay topic list" in refused(relay, "topic", "show", TOPIC)
    actions = [entry["action"] for entry in relay.run("audit", "--subject", "topic:")]
    assert actions == ["DeleteTopic", "Unsubscribe", "SetTopicAttributes", "Subscribe", "CreateTopic"]


def test_topic_is_opened_to_an_owner_and_closed_again(relay: Gateway):
    assert relay.run("topic", "allow", TOPIC, "--account", OWNER) == {"arn": TOPIC, "allowed": OWNER}
    relay.run("topic", "allow", TOPIC, "--account", OWNER)
    assert relay.run("topic", "show", TOPIC)["open_to"] == [OWNER]
    relay.run("topic", "disallow", TOPIC, "--account", OWNER)
    assert relay.run("topic", "show", TOPIC)["open_to"] == []
    assert "is not open to" in refused(relay, "topic", "disallow", TOPIC, "--account", OWNER)
    assert "may anyway" in refused(relay, "topic", "allow", TOPIC, "--account", DELEGATE)
    assert "no account" in refused(relay, "topic", "allow", TOPIC, "--account", "999999999999")


@pytest.mark.parametrize(
    ("protocol", "endpoint", "said"),
    [
        ("https", "http://x.example/", "https wants https://host"),
        ("http", "https://x.example/", "http wants http://host"),
        ("webhook", "ftp://x.example/", "webhook wants http://host[:port]/path or https"),
        ("webhook", "https://x.example/#f", "without a fragment"),
        ("email", "nobody", "email wants an address"),
        ("file", "../relay.db", "file wants a name below"),
        ("file", "/etc/passwd", "file wants a name below"),
        ("file", "a/.hidden", "file wants a name below"),
        ("sns", "arn:aws:sqs:us-east-1:111122223333:q", "sns wants the ARN"),
        ("sqs", "arn:aws:sqs:us-east-1:111122223333:q.fifo", "FIFO"),
    ],
)
def test_endpoint_that_does_not_fit_is_refused_with_the_form_it_has(relay, protocol, endpoint, said):
    err = refused(relay, "topic", "subscribe", TOPIC, "--protocol", protocol, endpoint)
    assert said in err


def test_sns_form_needs_a_public_url(relay: Gateway):
    relay.environment["RELAY_HTTP__PUBLIC_URL"] = ""
    err = refused(relay, "topic", "subscribe", TOPIC, "--protocol", "https", "https://x.example/")
    assert "set [http] public_url" in err
    assert subscribe(relay, "webhook", "https://x.example/")["status"] == "confirmed"


def test_endpoint_is_subscribed_once_and_asked_again_while_it_has_not_answered(relay: Gateway):
    first = subscribe(relay, "http", "http://x.example/")
    second = subscribe(relay, "http", "http://x.example/")
    assert first == second
    relay.run("topic", "confirm", first["subscription_arn"])
    err = refused(relay, "topic", "subscribe", TOPIC, "--protocol", "http", "http://x.example/")
    assert f"is subscribed already: {first['subscription_arn']}" in err


@pytest.mark.parametrize("name", ["", "a b", "x.fifo", "a" * 257])
def test_topic_has_a_name_as_sns_has_them(relay: Gateway, name: str):
    assert "1 to 256 of" in refused(relay, "topic", "create", name, "--account", DELEGATE)


def test_topic_that_is_in_use_is_not_deleted(relay: Gateway):
    relay.identity("owner.example")
    store = Store(f"sqlite:///{relay.directory}/relay.db")
    with store.write() as connection:
        connection.execute(update(identity).values(bounce_topic=TOPIC))
    store.dispose()
    err = refused(relay, "topic", "delete", TOPIC)
    assert f"identity owner.example of account {OWNER}" in err
    assert relay.run("topic", "show", TOPIC)["told_by"] == [f"identity owner.example of account {OWNER}"]


def test_events_are_listed_shown_and_replayed(relay: Gateway):
    arn = subscribe(relay, "file", "events.jsonl")["subscription_arn"]
    first, second = put(relay, arn, 2)
    listed = relay.run("event", "list", "--topic", TOPIC, "--type", "Bounce", "--since", "1h")
    assert [one["id"] for one in listed] == [second, first]
    assert {one["subscription_arn"] for one in listed} == {arn}
    assert relay.run("event", "list", "--state", "dead") == []
    assert relay.run("event", "list", "--account", OWNER) == []
    shown = relay.run("event", "show", first)
    assert json.loads(shown["body"])["eventType"] == "Bounce"
    assert "nothing that was posted or given up" in refused(relay, "event", "replay", "--subscription", arn)
    relay.start()
    give_up_at = time.monotonic() + 15
    while set(states(relay).values()) != {"done"}:
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    assert relay.run("event", "replay", first) == {"replayed": 1}
    assert relay.run("event", "replay", "--topic", TOPIC) in ({"replayed": 1}, {"replayed": 2})
    file = relay.directory / "notifications" / "events.jsonl"
    while len(lines := file.read_text().splitlines()) < 4:
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    assert {json.loads(line)["MessageId"] for line in lines} == {first, second}


def test_event_commands_say_what_is_missing(relay: Gateway):
    assert "is no notification's id" in refused(relay, "event", "show", "1")
    assert "kept for [retention] days" in refused(relay, "event", "show", notification_id(5))
    assert "relay topic list" in refused(relay, "event", "list", "--topic", "arn:aws:sns:us-east-1:1:x")
    assert relay.invoke("event", "replay")[0] == 2
    assert relay.invoke("event", "list", "--since", "soon")[0] == 2


def test_topic_of_another_region_is_none(relay: Gateway):
    other = TOPIC.replace("us-east-1", "eu-west-1")
    assert "no topic" in refused(relay, "topic", "show", other)
