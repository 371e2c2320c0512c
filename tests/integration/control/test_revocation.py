"""Who judges the queue, how far, and what workers have in hand meanwhile; on both engines."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest
from sqlalchemy import event, select, update

from relay.authorization.decision import Rules
from relay.authorization.send import to_record
from relay.control import accounts, identities, policies, users
from relay.control.explanation import Circumstances, send_of_file, user_principal
from relay.control.ground import Ground
from relay.control.revocation import Revocations
from relay.queue import revocation, workers
from relay.queue.revocation import Revoked
from relay.queue.spool import insert_messages
from relay.queue.values import Lease
from relay.queue.writer import GroupWriter
from relay.store import changes
from relay.store.directory import Directory
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.store.tables import meta, outbox, recipient
from tests.support.gateway import DELEGATE, OWNER, REGION, arn, grant, user_arn
from tests.support.mail import claim_due, new_message

DOMAIN = "owner.example"


@pytest.fixture
def ground(store: Store, secrets: Secrets) -> Ground:
    """A domain that is lent to a user of another account."""
    one = Ground(store, secrets, REGION, "test")
    for account in (OWNER, DELEGATE):
        accounts.create(one, f"a{account}", account)
        accounts.update(one, account, production=True)
    identities.create(one, DOMAIN, OWNER, verified=True)
    users.create(one, "app", DELEGATE)
    lend(one)
    return one


def lend(ground: Ground) -> None:
    policies.put(ground, arn(DOMAIN), "lend", json.dumps(grant({"AWS": user_arn("app")}, arn(DOMAIN))))


def take_back(ground: Ground) -> None:
    policies.delete(ground, arn(DOMAIN), "lend")


def record(ground: Ground) -> str:
    """As intake keeps it."""
    letter = f"From: a@{DOMAIN}\r\nX-SES-SOURCE-ARN: {arn(DOMAIN)}\r\n\r\nHi\r\n"
    around = Circumstances(f"a@{DOMAIN}", ["x@customer.example"])
    send = send_of_file(letter.encode(), user_principal(ground, user_arn("app")), around)
    return orjson.dumps({"send": to_record(send)}).decode()


def put(ground: Ground, *addresses: str, record: str) -> int:
    new = replace(new_message(*addresses), record=record)
    with ground.store.write() as connection:
        insert_messages(connection, [new])
    return new.message.id


def states(store: Store) -> dict[str, str]:
    columns = recipient.c.address, recipient.c.state, recipient.c.held_because
    with store.read() as connection:
        rows = connection.execute(select(*columns)).all()
    return {row.address: row.held_because or row.state for row in rows}


def judged(store: Store) -> int:
    with store.read() as connection:
        value = connection.execute(select(meta.c.value).where(meta.c.name == "revocations")).scalar_one()
    return int(orjson.loads(value)["judged"])


def newest(store: Store) -> int:
    with store.read() as connection:
        return changes.newest(connection)


class Judges:
    """Worker processes that judge one store."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.logged: list[tuple[str, dict]] = []
        self._writers: list[GroupWriter] = []

    def one(self, what: Revoked = Revoked.HOLD) -> Revocations:
        store = self.ground.store
        with store.write() as connection:
            lease = workers.register(connection, f"n{len(self._writers)}")
        writer = GroupWriter(store)
        writer.start()
        self._writers.append(writer)
        directory = Directory(store, self.ground.secrets, Rules(REGION))
        ids = itertools.count(9_000_000 + 1000 * lease.worker_id)
        log = lambda event, **more: self.logged.append((event, more))  # noqa: E731
        return Revocations(what, Rules(REGION), store, writer, directory, lease, lambda: next(ids), log)

    async def stop(self) -> None:
        for writer in self._writers:
            await writer.stop()


@pytest.fixture
async def judges(ground: Ground) -> AsyncIterator[Judges]:
    one = Judges(ground)
    yield one
    await one.stop()


@pytest.fixture
async def judge(judges: Judges) -> Revocations:
    """One that has begun: what changes from now on is judged."""
    one = judges.one()
    assert await one.judge() == 0
    return one


async def test_store_is_judged_from_the_first_start_on(ground, judges):
    take_back(ground)
    put(ground, "a@x.example", record=record(ground))
    assert await judges.one().judge() == 0
    assert states(ground.store) == {"a@x.example": "queued"}
    assert judged(ground.store) == newest(ground.store)


async def test_whole_queue_is_judged_in_batches(ground, judge):
    kept = record(ground)
    for number in range(450):
        put(ground, f"a{number}@x.example", record=kept)
    put(ground, "own@x.example", record="{}")
    take_back(ground)
    assert await judge.judge() == 0
    found = states(ground.store)
    assert found.pop("own@x.example") == "queued"
    assert set(found.values()) == {"revoked"}
    lend(ground)
    assert await judge.judge() == 0
    assert set(states(ground.store).values()) == {"queued"}


async def test_what_a_worker_has_in_hand_is_judged_when_it_is_back(ground, judge):
    put(ground, "hand@x.example", record=record(ground))
    with ground.store.write() as connection:
        claim_due(connection, Lease(900, 1), 10)
    put(ground, "waits@x.example", record=record(ground))
    before = judged(ground.store)
    take_back(ground)
    assert await judge.judge() == 1
    assert states(ground.store) == {"hand@x.example": "leased", "waits@x.example": "revoked"}
    assert judged(ground.store) == before
    with ground.store.write() as connection:  # it was deferred
        connection.execute(
            update(recipient).where(recipient.c.address == "hand@x.example").values(state="queued")
        )
    assert await judge.judge() == 0
    assert states(ground.store)["hand@x.example"] == "revoked"
    assert judged(ground.store) == newest(ground.store)


async def test_one_worker_judges_at_a_time_and_a_dead_one_is_followed(ground, judges):
    first, second = judges.one(), judges.one()
    assert await first.judge() == 0
    put(ground, "a@x.example", record=record(ground))
    take_back(ground)
    with ground.store.write() as connection:
        assert revocation.claim(connection, first._lease) is not None
    assert await second.judge() is None
    assert states(ground.store) == {"a@x.example": "queued"}
    with ground.store.write() as connection:
        workers.retire(connection, first._lease)
    assert await second.judge() == 0
    assert states(ground.store) == {"a@x.example": "revoked"}


async def test_grant_that_is_given_back_while_it_is_judged_counts(ground, judges):
    """The commit looks whether the judgement still holds, as that of a new message does."""
    judge = judges.one(Revoked.BOUNCE)
    assert await judge.judge() == 0
    put(ground, "a@x.example", record=record(ground))
    take_back(ground)
    verdicts, rounds = judge._verdicts, []

    async def meanwhile(sends):
        found = await verdicts(sends)
        if not rounds:
            lend(ground)
        rounds.append(len(found[0]))
        return found

    judge._verdicts = meanwhile
    assert await judge.judge() == 0
    assert rounds[:2] == [1, 0]
    assert states(ground.store) == {"a@x.example": "queued"}


async def test_bounce_has_one_report_a_message(ground, judges):
    judge = judges.one(Revoked.BOUNCE)
    assert await judge.judge() == 0
    put(ground, "a@x.example", "b@x.example", record=record(ground))
    take_back(ground)
    assert await judge.judge() == 0
    assert set(states(ground.store).values()) == {"bounced"}
    with ground.store.read() as connection:
        [row] = connection.execute(select(outbox.c.kind, outbox.c.payload)).all()
    told = orjson.loads(row.payload)
    assert [(one["address"], one["status"]) for one in told] == [
        ("a@x.example", "5.7.1"),
        ("b@x.example", "5.7.1"),
    ]
    assert {one["text"] for one in told} == {f"the owner of {DOMAIN} took the grant back"}


async def test_record_that_cannot_be_read_is_told_and_left(ground, judge, judges):
    put(ground, "odd@x.example", record=json.dumps({"send": {"source_arn": arn(DOMAIN)}}))
    put(ground, "a@x.example", record=record(ground))
    take_back(ground)
    assert await judge.judge() == 0
    assert states(ground.store) == {"odd@x.example": "queued", "a@x.example": "revoked"}
    assert [event for event, _ in judges.logged] == ["record unreadable", "revoked"]


async def test_changes_of_other_things_look_at_no_mail(ground, judge):
    put(ground, "a@x.example", record=record(ground))
    asked = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement)

    accounts.pause(ground, DELEGATE, "unpaid")
    event.listen(ground.store._reader, "before_cursor_execute", note)
    assert await judge.judge() == 0
    event.remove(ground.store._reader, "before_cursor_execute", note)
    assert judged(ground.store) == newest(ground.store)
    assert not [one for one in asked if "FROM recipient" in one or "FROM message" in one]
