"""The dispatcher on both engines, on messages as intake leaves them: who is told, once, and with what."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
from sqlalchemy import select, update

from relay.control import accounts, configuration_sets, feedback, identities
from relay.control.configuration_sets import DestinationChange
from relay.control.feedback import Chosen
from relay.control.ground import Ground, new_id
from relay.feedback.bounces import BounceMail
from relay.feedback.choices import Choices
from relay.feedback.dispatcher import Dispatcher
from relay.feedback.pace import Pace
from relay.outcome.outcome import Bounced, Deferred, Delivered, Outcome, Reply
from relay.queue import event_rows
from relay.queue.notifications import NO_EVENT
from relay.queue.outbox import Outbox
from relay.queue.settlement import Settlement
from relay.queue.spool import Spool
from relay.queue.values import Consignment, Lease, StoreUnavailable
from relay.queue.writer import GroupWriter
from relay.store import audit, installation, topics
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.store.tables import message, notification, outbox, subscription
from relay.store.topics import SubscriptionRow, TopicRow
from relay.submission.identifiers import ses_message_id
from tests.integration.queue.conftest import register
from tests.support.gateway import DELEGATE, OWNER, arn
from tests.support.mail import new_message, settled

_ids = itertools.count(7_000_000)
HEADER = (
    b"Received: by relay.example with ESMTPSA\r\n"
    b"X-Relay-ID: 0100\r\n"
    b"From: Alerts <alerts@owner.example>\r\n"
    b"To: user@customer.example\r\n"
)
RECORD = {
    "send": {
        "principal": {"user_name": "app", "arn": f"arn:aws:iam::{DELEGATE}:user/app"},
        "action": "ses:SendRawEmail",
        "source_ip": "203.0.113.9",
        "mail_from": "bounces@owner.example",
        "recipients": ["user@customer.example"],
        "from": ["Alerts", "alerts@owner.example"],
    },
    "client": {"tls": "TLSv1.3"},
    "settings": arn("owner.example"),
    "tags": [["campaign", "spring"]],
    "max_delivery_seconds": None,
    "added": ["Received: by relay.example with ESMTPSA\r\n", "X-Relay-ID: 0100\r\n"],
    "removed": ["X-SES-CONFIGURATION-SET: alerts\r\n"],
    "removed_at": [0],
    "signature_bytes": 0,
}
NO = Reply(550, "5.1.1", "no such user")


@pytest.fixture
def ground(store: Store, secrets: Secrets) -> Ground:
    installation.initialise(store, "us-east-1", secrets)
    one = Ground(store, secrets, "us-east-1", "test")
    for account in (OWNER, DELEGATE):
        accounts.create(one, account, account, production=True)
    identities.create(one, "owner.example", OWNER, verified=True)
    configuration_sets.create(one, DELEGATE, "alerts")
    return one


def topic(ground: Ground, name: str, account: str, *states: str) -> str:
    """A topic with a subscription in each state; its ARN."""
    row = TopicRow(new_id() + next(_ids), account, name, 2, 0)
    with ground.write() as write:
        topics.add(write, row)
        for state in states:
            one = SubscriptionRow(
                next(_ids), account, row.id, f"{next(_ids)}", "file", "/x", state, None, False, None, 0
            )
            topics.add_subscription(write, row, one)
    return topics.topic_arn("us-east-1", account, name)


def destination(ground: Ground, topic_arn: str, *types: str) -> None:
    configuration_sets.put_destination(ground, DELEGATE, "alerts", "all", DestinationChange(topic_arn, types))


def choose(ground: Ground, **values: Any) -> None:
    feedback.choose(ground, "owner.example", OWNER, Chosen(**values))


@dataclass
class Bench:
    """A dispatcher with what happens before it; ``logged`` are the events of its log."""

    store: Store
    spool: Spool
    settlement: Settlement
    lease: Lease
    dispatcher: Dispatcher
    logged: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def accepted(self, record: dict[str, Any] = RECORD, **values: Any) -> Consignment:
        fields = {"header": HEADER, "configuration_set": "alerts", **values}
        made = new_message(lease=self.lease, **fields)
        new = replace(made, record=orjson.dumps(record).decode())
        await self.spool.enqueue(new)
        return Consignment(new.message, new.recipients, self.lease)

    async def happened(self, outcome: Outcome, reply: Reply | None = None, **values: Any) -> Consignment:
        one = await self.accepted(**values)
        await self.settlement.settle([settled(one, outcome, reply)])
        return one

    async def told(self) -> list[dict[str, Any]]:
        """Every event that was queued for subscriptions, once the outbox is empty."""
        while await self.dispatcher._round():
            pass
        with self.store.read() as connection:
            of_mail = select(notification).where(notification.c.event_id != NO_EVENT)
            return [dict(row) for row in connection.execute(of_mail).mappings()]

    def mailed(self) -> list[Any]:
        with self.store.read() as connection:
            rows = connection.execute(select(message)).all()
        return [row for row in rows if "report_on" in row.record]

    def states(self) -> list[str]:
        with self.store.read() as connection:
            return list(connection.execute(select(outbox.c.state).order_by(outbox.c.id)).scalars())


@pytest.fixture
async def bench(ground: Ground, store: Store) -> AsyncIterator[Bench]:
    writer = GroupWriter(store)
    writer.start()
    lease = register(store)
    logged: list[tuple[str, dict[str, Any]]] = []
    next_id: Callable[[], int] = lambda: next(_ids)  # noqa: E731
    dispatcher = Dispatcher(
        Outbox(store, writer, lease),
        Choices(store),
        BounceMail("relay.example", 3600, next_id),
        next_id,
        lambda: None,
        Pace(lambda: 0.0),
        lease,
        lambda _: None,
        lambda _: False,
        lambda event, **fields: logged.append((event, fields)),
    )
    settlement = Settlement(writer, next_id)
    yield Bench(store, Spool(store, writer, next_id), settlement, lease, dispatcher, logged)
    await writer.stop()


def types(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(shape, type) of each."""
    found = [json.loads(one["body"]) for one in told]
    return sorted(
        (shape, one[shape]) for one in found for shape in ("eventType", "notificationType") if shape in one
    )


async def test_each_party_is_told_in_its_own_shape_and_account(bench, ground):
    owners = topic(ground, "bounces", OWNER, "confirmed")
    delegates = topic(ground, "events", DELEGATE, "confirmed", "pending", "dead", "confirmed")
    choose(ground, topics={"bounce": owners}, forwarding=False, headers_in={"bounce": True})
    destination(ground, delegates, "bounce")
    one = await bench.happened(Bounced("5.1.1"), NO)
    told = await bench.told()
    assert types(told) == [("eventType", "Bounce")] * 2 + [("notificationType", "Bounce")]
    by_account = {row["account_id"]: json.loads(row["body"]) for row in told}
    assert by_account[OWNER]["mail"]["callerIdentity"] == "app"
    assert by_account[DELEGATE]["mail"]["tags"]["campaign"] == ["spring"]
    for body in by_account.values():
        assert body["mail"]["messageId"] == ses_message_id(one.message.id)
        assert body["mail"]["headers"][0] == {"name": "X-SES-CONFIGURATION-SET", "value": "alerts"}
        assert len(body["mail"]["headers"]) == 3
    assert bench.mailed() == []
    assert bench.states() == ["done"]


def test_topic_is_sent_a_test_message_when_it_is_set_and_when_a_destination_is_made(ground, store):
    mine = topic(ground, "mine", OWNER, "confirmed", "pending")
    theirs = topic(ground, "theirs", DELEGATE, "confirmed", "dead", "confirmed")
    choose(ground, topics={"bounce": mine})
    choose(ground, topics={"bounce": "none"})
    destination(ground, theirs, "bounce")
    destination(ground, theirs, "bounce", "send")
    with store.read() as connection:
        rows = connection.execute(select(notification)).all()
    validated = "Successfully validated SNS topic for Amazon SES event publishing."
    subscribed = (
        '{"notificationType":"AmazonSnsSubscriptionSucceeded","message":"You have successfully subscribed'
        f" your Amazon SNS topic '{mine}' to receive 'Bounce' notifications from Amazon SES for identity"
        " 'owner.example'.\"}"
    )
    assert sorted((row.account_id, row.event_id, row.body) for row in rows) == [
        (OWNER, NO_EVENT, subscribed),
        (DELEGATE, NO_EVENT, validated),
        (DELEGATE, NO_EVENT, validated),
    ]


async def test_r13_nobody_asked_so_the_return_path_is_told(bench, ground):
    choose(ground, forwarding=False)
    await bench.happened(Bounced("5.1.1"), NO)
    assert await bench.told() == []
    [report] = bench.mailed()
    assert (report.reverse_path, report.return_path) == ("", "")
    assert b"In-Reply-To" not in report.header
    assert [event for event, _ in bench.logged] == ["reported"]


async def test_r13_message_without_the_set_that_has_a_destination_is_mailed(bench, ground):
    destination(ground, topic(ground, "events", DELEGATE, "confirmed"), "bounce")
    choose(ground, forwarding=False)
    await bench.happened(Bounced("5.1.1"), NO)
    assert len(await bench.told()) == 1
    await bench.happened(Bounced("5.1.1"), NO, configuration_set=None)
    assert len(await bench.told()) == 1
    assert len(bench.mailed()) == 1


async def test_r13_deleted_set_leaves_the_mail_it_had_to_the_return_path(bench, ground):
    destination(ground, topic(ground, "events", DELEGATE, "confirmed"), "bounce", "delivery")
    choose(ground, forwarding=False)
    one = await bench.accepted(events=frozenset({"Delivery"}))
    configuration_sets.delete(ground, DELEGATE, "alerts")
    await bench.settlement.settle([settled(one, Bounced("5.1.1"), NO)])
    await bench.happened(Delivered(), events=frozenset({"Delivery"}))
    assert await bench.told() == []
    assert len(bench.mailed()) == 1
    assert bench.states() == ["done", "done"]


async def test_change_is_seen_by_the_next_batch(bench, ground):
    arn_ = topic(ground, "events", DELEGATE, "confirmed")
    choose(ground, forwarding=False)
    await bench.happened(Bounced("5.1.1"), NO)
    assert await bench.told() == []
    destination(ground, arn_, "bounce")
    await bench.happened(Bounced("5.1.1"), NO)
    assert len(await bench.told()) == 1
    configuration_sets.put_destination(ground, DELEGATE, "alerts", "all", DestinationChange(enabled=False))
    await bench.happened(Bounced("5.1.1"), NO)
    assert len(await bench.told()) == 1
    assert len(bench.mailed()) == 2


async def test_r12_topic_of_another_account_is_told_while_it_consents(bench, ground):
    delegates = topic(ground, "theirs", DELEGATE, "confirmed")
    with ground.store.read() as connection:
        row = topics.find_topic(connection, delegates)
    with ground.write() as write:
        topics.allow(write, row, OWNER, 0)
    choose(ground, topics={"bounce": delegates}, forwarding=False)
    await bench.happened(Bounced("5.1.1"), NO)
    assert types(await bench.told()) == [("notificationType", "Bounce")]
    with ground.write() as write:
        topics.disallow(write, row, OWNER)
    await bench.happened(Bounced("5.1.1"), NO)
    await bench.happened(Bounced("5.1.1"), NO)
    assert len(await bench.told()) == 1
    assert len(bench.mailed()) == 2  # neither is lost, and the setting is taken back once
    view = identities.show(ground, "owner.example", OWNER)
    assert (view.row.bounce_topic, view.row.feedback_forwarding) == (None, True)
    with ground.store.read() as connection:
        entries = audit.entries(connection, actor="relay:feedback")
    [entry] = entries
    assert entry.action == "SetIdentityNotificationTopic"
    assert delegates in entry.detail["because"]
    assert [event for event, _ in bench.logged].count("topic gone") == 1


async def test_broken_topic_for_deliveries_stays(bench, ground):
    mine = topic(ground, "mine", OWNER, "confirmed")
    choose(ground, topics={"delivery": mine})
    with ground.store.read() as connection:
        row = topics.find_topic(connection, mine)
    with ground.write() as write:
        topics.remove(write, row)
    await bench.happened(Delivered(), events=frozenset({"Delivery"}))
    assert await bench.told() == []
    assert identities.show(ground, "owner.example", OWNER).row.delivery_topic == mine


async def test_delay_is_an_event_each_time_and_mailed_once_if_nobody_listens(bench, ground):
    later = Reply(451, "4.2.2", "full")
    listening = frozenset({"DeliveryDelay"})
    await bench.happened(Deferred(1), later, events=listening)
    await bench.happened(Deferred(1, delay_notice=True), later, events=listening)
    assert await bench.told() == []
    assert len(bench.mailed()) == 1
    destination(ground, topic(ground, "events", DELEGATE, "confirmed"), "delivery-delay")
    await bench.happened(Deferred(1, delay_notice=True), later, events=listening)
    assert types(await bench.told()) == [("eventType", "DeliveryDelay")]
    assert len(bench.mailed()) == 1


async def test_our_own_mail_tells_nobody(bench, ground):
    """A report that bounces is no event of the message it was about, and is never answered by another."""
    choose(ground, topics={"bounce": topic(ground, "bounces", OWNER, "confirmed")})
    await bench.happened(Bounced("5.1.1"), NO, record={"report_on": "0100"}, return_path="", reverse_path="")
    assert await bench.told() == []
    assert len(bench.mailed()) == 1  # itself
    assert bench.states() == ["done"]


async def test_late_complaint_and_auto_reply(bench, ground):
    destination(ground, topic(ground, "events", DELEGATE, "confirmed"), "bounce", "complaint")
    one = await bench.accepted()
    said = [{"address": "user@customer.example", "at": 5, "feedback_type": "abuse"}]
    with bench.store.write() as connection:
        connection.execute(
            outbox.insert(),
            [
                event_rows.new_row(next(_ids), DELEGATE, one.message.id, kind, said, 5)
                for kind in ("complaint", "autoreply")
            ],
        )
    assert types(await bench.told()) == [("eventType", "Bounce"), ("eventType", "Complaint")]
    [report] = bench.mailed()  # forwarding is on: the complaint is mailed, the auto-reply never
    assert json.loads(report.record)["kind"] == "complaint"


async def test_row_that_cannot_be_told_holds_up_no_other(bench, ground):
    await bench.happened(Bounced("5.1.1"), NO)
    await bench.happened(Bounced("5.1.1"), NO)
    with bench.store.write() as connection:
        first = connection.execute(select(outbox.c.id).order_by(outbox.c.id).limit(1)).scalar_one()
        connection.execute(update(outbox).where(outbox.c.id == first).values(payload="{broken"))
    await bench.told()
    assert bench.states() == ["queued", "done"]
    assert [event for event, _ in bench.logged] == ["notice failed", "reported"]


async def test_telling_that_breaks_the_transaction_breaks_it_alone(bench, ground):
    """The database refuses what one row came to."""
    for _ in range(3):
        await bench.happened(Bounced("5.1.1"), NO)
    report = bench.dispatcher._bounce_mail.report
    calls = itertools.count()

    def broken(*arguments: Any) -> Any:
        made = report(*arguments)
        return replace(made, record=None) if next(calls) == 1 else made

    object.__setattr__(bench.dispatcher, "_bounce_mail", type("Broken", (), {"report": staticmethod(broken)}))
    await bench.told()
    assert bench.states() == ["done", "queued", "done"]
    assert len(bench.mailed()) == 2


async def test_what_was_claimed_when_the_store_went_away_is_told_when_it_is_back(bench, ground, monkeypatch):
    await bench.happened(Bounced("5.1.1"), NO)
    tell, calls = bench.dispatcher._outbox.tell, itertools.count()

    async def away_at_first(tellings: Any) -> Any:
        if next(calls) == 0:
            raise StoreUnavailable("away")
        return await tell(tellings)

    monkeypatch.setattr(bench.dispatcher._outbox, "tell", away_at_first)
    running = asyncio.ensure_future(bench.dispatcher.run())
    async with asyncio.timeout(20):
        while bench.states() != ["done"]:
            await asyncio.sleep(0.02)
    running.cancel()
    assert len(bench.mailed()) == 1


async def test_loop_goes_on_between_the_rows_of_a_batch(bench, ground):
    destination(ground, topic(ground, "events", DELEGATE, "confirmed"), "bounce")
    for _ in range(30):
        await bench.happened(Bounced("5.1.1"), NO)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await bench.told()
    counting.cancel()
    assert turns >= 30


async def test_lag_is_told_by_the_log_when_it_is_long(bench, ground):
    await bench.happened(Bounced("5.1.1"), NO)  # due in 1970
    await bench.dispatcher._watch()
    [(event, fields)] = bench.logged
    assert event == "feedback behind"
    assert fields["waiting"] == 1
    assert fields["level"] == "warning"
    await bench.told()
    bench.logged.clear()
    await bench.dispatcher._watch()
    assert bench.logged == []


async def test_subscriptions_that_die_are_no_handler_any_more(bench, ground):
    destination(ground, topic(ground, "events", DELEGATE, "confirmed"), "bounce")
    choose(ground, forwarding=False)
    await bench.happened(Bounced("5.1.1"), NO)
    assert len(await bench.told()) == 1
    with ground.store.read() as connection:
        [of] = topics.load(connection, connection.execute(select(subscription.c.id)).scalars().all()).values()
    with ground.write() as write:
        topics.change_subscription(write, of, "Dead", state="dead")
    await bench.happened(Bounced("5.1.1"), NO)
    assert len(await bench.told()) == 1
    assert len(bench.mailed()) == 1
