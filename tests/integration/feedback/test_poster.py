"""What is posted to real receivers, and that one that misbehaves harms no other."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import resource
import time
from email import message_from_bytes
from pathlib import Path

import pytest
import trustme
from sqlalchemy import select, update

from relay.control import notifications, topics
from relay.control.ground import ControlError
from relay.feedback import caretaker, file
from relay.feedback import poster as poster_module
from relay.queue import workers
from relay.queue.notifications import Notification, Notifications
from relay.queue.values import StoreUnavailable
from relay.store.tables import body_chunk, message, notification, recipient, subscription, worker
from relay.store.topics import confirmed
from tests.integration.feedback.conftest import PUBLIC_URL, World
from tests.support.policy_host import host_context
from tests.support.receiver import Receiver, answer, gigabyte, hang, saying, trickle, verify_sns


def certificate(world: World, url: str) -> str:
    """What our listener serves under the certificate's URL."""
    head = f"{PUBLIC_URL}/SimpleNotificationService-"
    assert url.startswith(head)
    assert url.endswith(".pem")
    found = topics.certificate(world.ground, int(url.removeprefix(head).removesuffix(".pem"), 16))
    assert found is not None
    return found


# ---------------------------------------------------------------- http, as SNS


async def test_notification_is_posted_as_sns_posts_it_and_verifies(world: World):
    receiver = await world.receiver()
    arn = world.subscribe("http", receiver.url)
    [id_] = world.put(arn, body='{"eventType":"Bounce","x":"ü"}')
    async with world.posting():
        [got] = await receiver.wait(1)
        await world.all_are("done")
    assert got.line == "POST /hook?a=b HTTP/1.1"
    assert {name: got.headers[name] for name in got.headers if name != "content-length"} == {
        "host": f"127.0.0.1:{receiver.port}",
        "content-type": "text/plain; charset=UTF-8",
        "user-agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": "Notification",
        "x-amz-sns-message-id": id_,
        "x-amz-sns-topic-arn": world.arn,
        "x-amz-sns-subscription-arn": arn,
    }
    document = got.json()
    assert document["MessageId"] == id_
    assert document["Subject"] == "Amazon SES Email Event Notification"
    assert document["UnsubscribeURL"] == f"{PUBLIC_URL}/sns/?Action=Unsubscribe&SubscriptionArn={arn}"
    assert document["SignatureVersion"] == "2"
    assert got.message() == {"eventType": "Bounce", "x": "ü"}
    verify_sns(document, certificate(world, document["SigningCertURL"]))


async def test_topic_of_version_1_is_signed_so(world: World):
    receiver = await world.receiver()
    topics.update(world.ground, world.arn, 1)
    world.put(world.subscribe("http", receiver.url))
    async with world.posting():
        [got] = await receiver.wait(1)
    assert got.json()["SignatureVersion"] == "1"
    verify_sns(got.json(), certificate(world, got.json()["SigningCertURL"]))


async def test_workers_sign_with_one_key(world: World):
    receiver = await world.receiver()
    arn = world.subscribe("http", receiver.url)
    async with world.posting(), world.posting():
        world.put(arn, 40)
        await receiver.wait(40)
        await world.all_are("done")
    assert len({got.json()["SigningCertURL"] for got in receiver.got}) == 1
    assert len({got.json()["MessageId"] for got in receiver.got}) == 40


async def test_raw_delivery_is_the_event_alone(world: World):
    receiver = await world.receiver()
    world.put(world.subscribe("http", receiver.url, raw=True), body='{"eventType":"Send"}')
    async with world.posting():
        [got] = await receiver.wait(1)
    assert got.body == b'{"eventType":"Send"}'
    assert got.headers["x-amz-sns-rawdelivery"] == "true"


async def test_endpoint_is_asked_first_and_told_nothing_before_it_agrees(world: World):
    receiver = await world.receiver()
    arn = world.subscribe("http", receiver.url, confirmed=False)
    async with world.posting():
        [asked] = await receiver.wait(1)
        [told_too_early] = world.put(arn)
        await world.until(lambda: world.states()[told_too_early] == "dead")
    document = asked.json()
    assert asked.headers["x-amz-sns-message-type"] == document["Type"] == "SubscriptionConfirmation"
    assert "x-amz-sns-subscription-arn" not in asked.headers
    assert document["Message"] == (
        f"You have chosen to subscribe to the topic {world.arn}.\n"
        "To confirm the subscription, visit the SubscribeURL included in this message."
    )
    assert document["SubscribeURL"] == (
        f"{PUBLIC_URL}/sns/?Action=ConfirmSubscription&TopicArn={world.arn}&Token={document['Token']}"
    )
    verify_sns(document, certificate(world, document["SigningCertURL"]))
    assert topics.confirm(world.ground, document["Token"]) == arn
    assert topics.confirm(world.ground, document["Token"]) == arn, "a repeat does no harm"
    world.put(arn)
    async with world.posting():
        await receiver.wait(2)
    assert receiver.got[1].json()["Type"] == "Notification"


async def test_question_is_repeated_until_it_arrives(world: World):
    receiver = await world.receiver(say=saying(answer("503 Later")))
    world.subscribe("http", receiver.url, confirmed=False)
    async with world.posting():
        await receiver.wait(1)
        receiver.say = saying(answer("200 OK"))
        await receiver.wait(2)
        await world.all_are("done")
    first, second = (got.json() for got in receiver.got)
    assert first == second


async def test_endpoint_that_never_confirms_is_forgotten(world: World):
    receiver = await world.receiver()
    arn = world.subscribe("http", receiver.url, confirmed=False)
    assert caretaker.look(world.store, 3600).forgotten == ()
    with world.store.write() as connection:
        connection.execute(update(subscription).values(expires_at=1))
    assert caretaker.look(world.store, 3600).forgotten == (arn,)
    assert world.row(arn) is None
    async with world.posting():
        await world.all_are("dead")
    assert receiver.got == []


async def test_good_bye_is_posted_and_can_be_taken_back(world: World):
    receiver = await world.receiver()
    arn = world.subscribe("http", receiver.url)
    topics.unsubscribe(world.ground, arn)
    [queued] = world.put(arn)
    async with world.posting():
        [got] = await receiver.wait(1)
        await world.until(lambda: world.states()[queued] == "dead")
    document = got.json()
    assert document["Type"] == "UnsubscribeConfirmation"
    assert got.headers["x-amz-sns-subscription-arn"] == arn
    verify_sns(document, certificate(world, document["SigningCertURL"]))
    assert topics.confirm(world.ground, document["Token"]) == arn
    assert world.row(arn).state == "confirmed"


async def test_user_and_password_of_the_url_are_sent_and_shown_nowhere(world: World):
    receiver = await world.receiver()
    arn = world.subscribe("http", receiver.url.replace("http://", "http://hook:s3cret%21@"))
    world.put(arn)
    async with world.posting():
        [got] = await receiver.wait(1)
    assert got.headers["authorization"] == f"Basic {base64.b64encode(b'hook:s3cret!').decode()}"
    assert world.row(arn).endpoint == receiver.url
    assert "s3cret" not in str(world.row(arn)) + str(world.log.events)


async def test_https_is_verified_by_the_name_of_the_endpoint(world: World, tmp_path: Path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    good = await world.receiver(context=host_context(authority, "hook.example"))
    bad = await world.receiver(context=host_context(authority, "other.example"))
    world.zone.hosts = {"hook.example": ["127.0.0.1"]}
    good_arn = world.subscribe("https", f"https://hook.example:{good.port}/")
    bad_arn = world.subscribe("https", f"https://hook.example:{bad.port}/")
    world.put(good_arn)
    async with world.posting(ca_file=str(tmp_path / "ca.pem")):
        await good.wait(1)
        world.put(bad_arn)
        await world.until(lambda: world.row(bad_arn).failing_since is not None)
    assert "certificate" in world.row(bad_arn).last_error
    assert bad.got == []


# ---------------------------------------------------------------- webhook


async def test_webhook_verifies_by_the_standard_webhooks_scheme(world: World):
    receiver = await world.receiver()
    made = topics.subscribe(world.ground, world.arn, "webhook", receiver.url)
    assert made.status == "confirmed"
    assert made.secret is not None
    [id_] = world.put(made.arn, body='{"eventType":"Complaint"}')
    async with world.posting():
        [got] = await receiver.wait(1)
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == id_
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 30
    signed = b".".join([id_.encode(), got.headers["webhook-timestamp"].encode(), got.body])
    key = base64.b64decode(made.secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert got.json() == {"eventType": "Complaint"}


async def test_secret_of_a_webhook_is_in_no_table_and_no_line(world: World):
    receiver = await world.receiver()
    made = topics.subscribe(world.ground, world.arn, "webhook", receiver.url)
    assert made.secret is not None
    world.put(made.arn)
    async with world.posting():
        await receiver.wait(1)
    kept = bytes(world.row(made.arn).secret)
    assert base64.b64decode(made.secret.removeprefix("whsec_")) not in kept
    assert made.secret.removeprefix("whsec_").encode() not in kept
    assert made.secret.removeprefix("whsec_") not in str(world.log.events)


# ---------------------------------------------------------------- email and file


async def test_email_is_queued_when_it_is_recorded_as_posted(world: World):
    arn = world.subscribe("email", "ops@customer.example", confirmed=False)
    [(code_mail, _)] = _mails(world)
    token = code_mail.split("relay topic confirm ")[1].split()[0]
    assert f"{PUBLIC_URL}/sns/?Action=ConfirmSubscription&TopicArn={world.arn}&Token={token}" in code_mail
    assert topics.confirm(world.ground, token) == arn
    [id_] = world.put(arn, body='{"notificationType":"Bounce","bounce":{"bounceType":"Permanent"}}')
    async with world.posting():
        await world.all_are("done")
    _, (mail, to) = _mails(world)
    assert to == "ops@customer.example"
    assert "Subject: Bounce (events)" in mail
    assert "Auto-Submitted: auto-generated" in mail
    assert '"bounceType": "Permanent"' in mail
    assert id_ in mail


def _mails(world: World) -> list[tuple[str, str]]:
    """(text, recipient) of what is in our own queue, all from the null sender."""
    with world.store.read() as connection:
        rows = connection.execute(
            select(message, body_chunk.c.data, recipient.c.address)
            .join(body_chunk, body_chunk.c.message_id == message.c.id)
            .join(recipient, recipient.c.message_id == message.c.id)
            .order_by(message.c.id)
        ).all()
    assert {row.reverse_path for row in rows} <= {""}
    found = []
    for row in sorted(rows, key=lambda row: row.received_at):
        parsed = message_from_bytes(bytes(row.header) + b"\r\n" + bytes(row.data))
        text = parsed.get_payload(decode=True)
        assert isinstance(text, bytes)
        found.append((bytes(row.header).decode() + text.decode(), row.address))
    return found


async def test_file_gets_a_line_each_from_several_workers(world: World):
    arn = world.subscribe("file", "team/events.jsonl")
    raw = world.subscribe("file", "raw.jsonl", raw=True)
    ids = world.put(arn, 50)
    world.put(raw, 3)
    async with world.posting(), world.posting():
        await world.all_are("done")
    directory = world.settings.file_directory
    assert directory is not None
    lines = [json.loads(line) for line in (directory / "team/events.jsonl").read_text().splitlines()]
    assert sorted(line["MessageId"] for line in lines) == sorted(ids)
    assert {line["TopicArn"] for line in lines} == {world.arn}
    assert lines[0]["Message"]["eventType"] == "Bounce"
    lines = [json.loads(line) for line in (directory / "raw.jsonl").read_text().splitlines()]
    assert sorted(line["n"] for line in lines) == [0, 1, 2]  # in no order that is promised
    assert (directory / "team/events.jsonl").stat().st_mode & 0o077 == 0


async def test_file_is_synced_once_for_what_waits_together(world: World, monkeypatch: pytest.MonkeyPatch):
    written: list[int] = []
    write = file.append

    def append(path: Path, octets: bytes) -> None:
        written.append(octets.count(b"\n"))
        write(path, octets)

    monkeypatch.setattr("relay.feedback.file.append", append)
    arn = world.subscribe("file", "events.jsonl")
    world.put(arn, 200)
    async with world.posting():
        await world.all_are("done")
    assert sum(written) == 200
    assert len(written) < 20
    assert max(written) > 20


async def test_what_failed_together_is_one_failure_of_its_lane(world: World):
    """Else a full disk of a minute would silence the file for as long as if it had been full for hours."""
    arn = world.subscribe("file", "events.jsonl")
    directory = world.settings.file_directory
    assert directory is not None
    async with world.posting():
        world.put(arn, 100)
        await world.all_are("done")
        (directory / "events.jsonl").unlink()
        (directory / "events.jsonl").mkdir()
        world.put(arn, 40)
        await world.until(lambda: world.row(arn).failing_since is not None)
        (directory / "events.jsonl").rmdir()
        await world.all_are("done")


async def test_file_that_was_rotated_away_is_made_anew(world: World):
    arn = world.subscribe("file", "events.jsonl")
    directory = world.settings.file_directory
    assert directory is not None
    async with world.posting():
        world.put(arn)
        await world.all_are("done")
        (directory / "events.jsonl").rename(directory / "events.jsonl.1")
        world.put(arn)
        await world.until(lambda: (directory / "events.jsonl").exists())
        await world.all_are("done")
    assert len((directory / "events.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
async def test_what_is_no_file_is_not_written_to(world: World, tmp_path: Path, kind: str):
    arn = world.subscribe("file", "events.jsonl")
    directory = world.settings.file_directory
    assert directory is not None
    directory.mkdir()
    elsewhere = tmp_path / "elsewhere"
    if kind == "link":
        (directory / "events.jsonl").symlink_to(elsewhere)
    elif kind == "pipe":
        os.mkfifo(directory / "events.jsonl")
    else:
        (directory / "events.jsonl").mkdir()
    world.put(arn)
    async with world.posting():
        await world.until(lambda: world.row(arn).failing_since is not None)
    assert not elsewhere.exists()
    assert set(world.states().values()) == {"queued"}


# ---------------------------------------------------------------- faults


async def test_receiver_that_fails_is_tried_again_with_the_same_id(world: World):
    receiver = await world.receiver(say=saying(answer("500 Broken", b"oops")))
    arn = world.subscribe("http", receiver.url)
    [id_] = world.put(arn)
    async with world.posting():
        await receiver.wait(1)
        await world.until(lambda: world.row(arn).last_error == "500 oops")
        receiver.say = saying(answer("204 Fine"))
        await receiver.wait(2)
        await world.all_are("done")
    assert [got.json()["MessageId"] for got in receiver.got] == [id_, id_]
    assert world.row(arn).failing_since is None


async def test_receiver_that_is_down_is_tried_again(world: World):
    receiver = Receiver()
    async with receiver.running():
        pass
    arn = world.subscribe("http", receiver.url)
    world.put(arn, 5)
    async with world.posting():
        await world.until(lambda: world.row(arn).failing_since is not None)
        async with receiver.running():
            await receiver.wait(5)
            await world.all_are("done")


@pytest.mark.parametrize(
    ("fault", "error"),
    [(hang, "no answer within 1 s"), (trickle, "no answer within 1 s")],
    ids=["hangs", "trickles"],
)
async def test_receiver_that_keeps_us_waiting_holds_up_no_other(world: World, fault, error: str):
    bad, good = await world.receiver(say=fault), await world.receiver()
    bad_arn, good_arn = world.subscribe("http", bad.url), world.subscribe("webhook", good.url)
    world.put(bad_arn, 500)
    async with world.posting():
        await bad.wait(1)
        began = time.monotonic()
        world.put(good_arn, 300)
        await good.wait(300)
        assert time.monotonic() - began < 5
        await world.until(lambda: world.row(bad_arn).last_error == error)
        assert len(bad.got) <= 10
    states = list(world.states().values())
    assert states.count("done") == 300
    assert states.count("queued") == 500, "what a resting lane held is given back"


async def test_a_gigabyte_is_not_read(world: World):
    receiver = await world.receiver(say=gigabyte)
    world.put(world.subscribe("http", receiver.url), 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with world.posting():
        await world.all_are("done")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    assert receiver.connections == 3, "a connection with octets left in it is not used again"


async def test_redirect_is_not_followed(world: World):
    inner = await world.receiver()
    outer = await world.receiver(say=saying(answer("302 There", more=f"Location: {inner.url}\r\n")))
    arn = world.subscribe("http", outer.url)
    world.put(arn)
    async with world.posting():
        await world.until(lambda: world.row(arn).failing_since is not None)
    assert world.row(arn).last_error == "302: redirects are not followed, give the final URL"
    assert inner.got == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "inner.example", "rebinding.example"]
)
async def test_address_that_is_not_public_is_not_dialled(world: World, host: str):
    receiver = await world.receiver()
    world.zone.hosts = {
        "inner.example": ["127.0.0.1"],
        "rebinding.example": ["::ffff:127.0.0.1", "127.0.0.1", "169.254.169.254"],
    }
    arn = world.subscribe("webhook", f"http://{host}:{receiver.port}/")
    world.put(arn)
    async with world.posting(allow=[]):
        await world.until(lambda: world.row(arn).failing_since is not None)
    assert "no public address ([webhooks] allow allows others)" in world.row(arn).last_error
    assert receiver.connections == 0


async def test_notification_that_fails_for_good_is_dead_and_can_be_replayed(world: World):
    receiver = await world.receiver(say=saying(answer("500 Broken")))
    arn = world.subscribe("http", receiver.url)
    [id_] = world.put(arn)
    async with world.posting(give_up_seconds=1):
        await world.all_are("dead")
        receiver.say = saying(answer("200 OK"))
        of = notifications.selection(world.ground, subscription=arn, state="dead")
        assert notifications.replay(world.ground, of) == 1
        await world.all_are("done")
    assert {got.json()["MessageId"] for got in receiver.got} == {id_}
    assert len(receiver.got) == 3


async def test_subscription_that_fails_for_too_long_is_dead_until_it_is_revived(world: World):
    receiver = await world.receiver(say=saying(answer("500 Broken")))
    arn = world.subscribe("http", receiver.url)
    world.put(arn, 4)
    async with world.posting():
        await world.until(lambda: world.row(arn).failing_since is not None)
        assert caretaker.look(world.store, 3600).dead == ()
        with world.store.write() as connection:
            connection.execute(update(subscription).values(failing_since=1))
        [(dead, error)] = caretaker.look(world.store, 3600).dead
        assert (dead, error) == (arn, "500")
        await world.all_are("dead", 15)
        with world.store.read() as connection:
            assert confirmed(connection, world.arn) == ()
        count = len(receiver.got)
        receiver.say = saying(answer("200 OK"))
        with pytest.raises(ControlError, match="is dead"):
            notifications.replay(world.ground, notifications.by_id(*world.states()))
        topics.revive(world.ground, arn)
        of = notifications.selection(world.ground, subscription=arn, state="dead")
        assert notifications.replay(world.ground, of) == 4
        await world.all_are("done", 15)
    assert len(receiver.got) == count + 4
    assert world.row(arn).state == "confirmed"


async def test_surprise_in_a_post_is_logged_and_tried_again(world: World, monkeypatch: pytest.MonkeyPatch):
    receiver = await world.receiver()
    arn = world.subscribe("http", receiver.url)
    world.put(arn)
    monkeypatch.setattr("relay.feedback.http.parse_url", lambda _: 1 / 0)
    async with world.posting():
        await world.until(lambda: world.row(arn).failing_since is not None)
        monkeypatch.undo()
        await receiver.wait(1)
        await world.all_are("done")
    [line] = [fields for event, fields in world.log.events if event == "post failed"]
    assert "ZeroDivisionError" in line["traceback"]


async def test_what_a_worker_had_in_hand_when_it_died_is_posted_again_under_the_same_id(world: World):
    receiver = await world.receiver(say=hang)
    arn = world.subscribe("http", receiver.url)
    ids = world.put(arn, 2)
    dying = world.poster(timeout_seconds=60)
    task = asyncio.ensure_future(dying.run())
    await receiver.wait(2)
    task.cancel()  # nothing is recorded any more, as after kill -9
    await asyncio.gather(task, return_exceptions=True)
    assert set(world.states().values()) == {"leased"}
    receiver.say = saying(answer("200 OK"))
    with world.store.write() as connection:
        connection.execute(update(worker).values(running=False))
        workers.reclaim(connection)
    async with world.posting():
        await receiver.wait(4)
        await world.all_are("done")
    posted = [got.json()["MessageId"] for got in receiver.got]
    assert sorted(posted) == sorted(ids * 2)


async def test_claim_whose_answer_was_lost_is_posted_by_the_worker_that_lives(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    ids = world.put(world.subscribe("file", "events.jsonl"), 3)
    claim, lost = Notifications.claim, []

    async def claim_and_lose_the_answer(self: Notifications, room: dict[int, int]) -> list[Notification]:
        claimed = await claim(self, room)
        if not lost:
            lost.extend(claimed)
            raise StoreUnavailable("the connection went away in the commit")
        return claimed

    monkeypatch.setattr(Notifications, "claim", claim_and_lose_the_answer)
    async with world.posting():
        await world.all_are("done")
    assert lost
    directory = world.settings.file_directory
    assert directory is not None
    lines = [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]
    assert sorted(line["MessageId"] for line in lines) == sorted(ids)


async def test_drained_worker_gives_back_what_it_had_not_begun(world: World):
    receiver = await world.receiver()
    arn = world.subscribe("webhook", receiver.url)
    world.put(arn, 20)
    async with world.posting(connections=1):
        await receiver.wait(5)
    assert set(world.states().values()) <= {"done", "queued"}
    assert len(receiver.got) == list(world.states().values()).count("done")


async def test_connections_are_used_again(world: World):
    receiver = await world.receiver()
    world.put(world.subscribe("webhook", receiver.url), 200)
    async with world.posting():
        await world.all_are("done")
    assert receiver.connections <= 8


async def test_lane_that_is_idle_gives_its_connections_back(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(poster_module, "_IDLE_SECONDS", 0.0)
    monkeypatch.setattr(poster_module, "_LOOK_SECONDS", 0.1)
    receiver = await world.receiver()
    arn = world.subscribe("webhook", receiver.url)
    world.put(arn)
    async with world.posting() as poster:
        await world.all_are("done")
        await world.until(lambda: not poster._open)
        world.put(arn)
        await world.all_are("done")
    assert receiver.connections == 2


async def test_subscription_that_is_gone_is_told_nothing(world: World):
    receiver = await world.receiver()
    arn = world.subscribe("webhook", receiver.url)
    [id_] = world.put(arn)
    topics.unsubscribe(world.ground, arn)
    async with world.posting():
        await world.all_are("dead")
    assert receiver.got == []
    shown = notifications.show(world.ground, id_)
    assert shown.subscription_arn is None
    assert shown.view.last_error == "the subscription is dead, or gone"


async def test_lag_is_told_when_we_fall_behind(world: World, monkeypatch: pytest.MonkeyPatch):
    receiver = await world.receiver()
    arn = world.subscribe("webhook", receiver.url)
    world.put(arn)
    with world.store.write() as connection:
        connection.execute(update(notification).values(due_at=notification.c.due_at - 100_000_000))
    async with world.posting():
        await world.all_are("done")
    assert [fields["seconds"] for event, fields in world.log.events if event == "notifications behind"] == [
        100
    ]


async def test_poster_that_is_woken_looks_at_once(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(poster_module, "_POLL_SECONDS", 60.0)
    receiver = await world.receiver()
    arn = world.subscribe("webhook", receiver.url)
    async with world.posting() as poster:
        await asyncio.sleep(0.3)  # it has looked, and waits
        world.put(arn)
        poster.wake()
        await receiver.wait(1)
