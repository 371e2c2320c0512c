"""The operator's verbs on both engines: whole selections, in batches, past what a worker has in hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from sqlalchemy import select, update

from relay.queue import views
from relay.queue.spool import insert_messages
from relay.queue.steering import START, Order, Selection, Verb, count, count_in_hand, steer
from relay.store.engine import Store
from relay.store.tables import body_chunk, outbox, recipient
from tests.integration.queue.conftest import register
from tests.support.mail import claim_due, new_message

NOW = 1_700_000_000_000_000
LATER = 1_950_000_000_000_000
EVERYTHING = Selection()


def put(store: Store, *addresses: str, due_at: int = 1_000, **values) -> int:
    new = new_message(*addresses, **values)
    with store.write() as connection:
        insert_messages(connection, [new])
        if due_at != 1_000:
            connection.execute(
                update(recipient).where(recipient.c.message_id == new.message.id).values(due_at=due_at)
            )
    return new.message.id


def order(store: Store, verb: Verb, of: Selection = EVERYTHING, **more) -> int:
    """The whole of it, batch by batch; the number of recipients changed."""
    ids, changed, after = itertools.count(7_000_000), 0, START
    while after is not None:
        with store.write() as connection:
            batch = steer(connection, Order(verb, "cli:ann", NOW, **more), of, after, lambda: next(ids))
        changed, after = changed + batch.changed, batch.after
    return changed


def states(store: Store) -> dict[str, str]:
    with store.read() as connection:
        return dict(connection.execute(select(recipient.c.address, recipient.c.state)).all())


def claimed(store: Store, limit: int = 1000) -> list[str]:
    lease = register(store)
    with store.write() as connection:
        return [other.address for one in claim_due(connection, lease, limit) for other in one.recipients]


def test_held_mail_is_not_tried_until_it_is_released(store):
    put(store, "a@x.example", "b@y.example")
    assert order(store, Verb.HOLD) == 2
    assert claimed(store) == []
    assert order(store, Verb.HOLD) == 0
    assert order(store, Verb.RELEASE) == 2
    assert sorted(claimed(store)) == ["a@x.example", "b@y.example"]


def test_retry_brings_forward_what_waits_and_nothing_else(store):
    put(store, "late@x.example", due_at=LATER)
    put(store, "held@x.example")
    order(store, Verb.HOLD, Selection(destination="x.example"))
    order(store, Verb.RELEASE, Selection(destination="x.example"))
    put(store, "stays@x.example")
    order(store, Verb.HOLD, Selection(message_id=put(store, "held2@x.example")))
    assert order(store, Verb.RETRY) == 3
    assert states(store)["held2@x.example"] == "held"


def test_retry_makes_due_now(store):
    put(store, "late@x.example", due_at=LATER)
    assert claimed(store) == []
    order(store, Verb.RETRY)
    with store.write() as connection:
        assert connection.execute(select(recipient.c.due_at)).scalar() == NOW


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (Selection(destination="x.example"), ["a@x.example", "c@x.example"]),
        (Selection(account_id="333333333333"), ["c@x.example"]),
        (Selection(identity_arn="arn:other"), ["c@x.example"]),
        (Selection(destination="x.example", account_id="222222222222"), ["a@x.example"]),
        (Selection(destination="nowhere.example"), []),
        (Selection(message_id=5), []),
    ],
)
def test_selection_narrows_down(store, of, expected):
    put(store, "a@x.example", "b@y.example")
    put(store, "c@x.example", account_id="333333333333", identity_arn="arn:other")
    assert order(store, Verb.HOLD, of) == len(expected)
    assert sorted(one for one, state in states(store).items() if state == "held") == expected
    with store.read() as connection:
        assert [one.recipient for one in views.waiting(connection, of, "held", 10)] == expected


def test_what_a_worker_has_in_hand_is_left_alone(store):
    put(store, "a@x.example", "b@x.example")
    assert len(claimed(store, 1)) == 1
    assert [order(store, verb) for verb in (Verb.HOLD, Verb.RELEASE, Verb.RETRY)] == [1, 1, 1]
    assert order(store, Verb.DROP) == 1
    assert sorted(states(store).values()) == ["dropped", "leased"]
    with store.read() as connection:
        assert (count_in_hand(connection, EVERYTHING), count(connection, Verb.DROP, EVERYTHING)) == (1, 0)


def test_dropped_mail_is_gone_with_its_body_and_says_who_dropped_it(store):
    put(store, "a@x.example", "b@y.example")
    order(store, Verb.DROP, Selection(destination="x.example"))
    with store.read() as connection:
        assert connection.execute(select(body_chunk)).all(), "b's body"
    order(store, Verb.HOLD)
    assert order(store, Verb.DROP) == 1
    with store.read() as connection:
        assert connection.execute(select(body_chunk)).all() == []
        rows = connection.execute(select(recipient.c.state, recipient.c.last_reply, recipient.c.settled_at))
        assert rows.all() == [("dropped", "dropped by cli:ann", NOW)] * 2
        assert connection.execute(select(outbox)).all() == []


def test_drop_with_notice_reports_each_message_once(store):
    first = put(store, "a@x.example", "b@x.example")
    second = put(store, "c@x.example")
    order(store, Verb.DROP, notify=True)
    with store.read() as connection:
        rows = connection.execute(select(outbox).order_by(outbox.c.message_id)).all()
    assert [(row.message_id, row.kind, row.state) for row in rows] == [
        (first, "bounce", "queued"),
        (second, "bounce", "queued"),
    ]
    assert [one["address"] for one in orjson.loads(rows[0].payload)] == ["a@x.example", "b@x.example"]


def test_large_selection_goes_in_batches(store):
    """Two and a half batches, of messages with several recipients."""
    with store.write() as connection:
        insert_messages(
            connection, [new_message(*(f"r{n}-{m}@x.example" for m in range(5))) for n in range(250)]
        )
    ids = itertools.count(1)
    with store.write() as connection:
        first = steer(connection, Order(Verb.HOLD, "x", NOW), EVERYTHING, START, lambda: next(ids))
    assert (first.changed, first.after is None) == (500, False)
    assert order(store, Verb.HOLD) == 750
    assert set(states(store).values()) == {"held"}


def test_racing_workers_and_verbs_share_out_every_recipient_once(store):
    """What is claimed is not held, what is held is not claimed, and nothing is lost."""
    with store.write() as connection:
        insert_messages(connection, [new_message(f"r{n}@x.example") for n in range(300)])
    leases = [register(store) for _ in range(3)]

    def work(lease) -> list[str]:
        found: list[str] = []
        for _ in range(30):
            with store.write() as connection:
                found += [
                    other.address for one in claim_due(connection, lease, 4) for other in one.recipients
                ]
        return found

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, lease) for lease in leases]
        held = pool.submit(order, store, Verb.HOLD)
        taken = [address for one in working for address in one.result()]
    assert len(taken) == len(set(taken))
    found = states(store)
    assert sorted(taken) == sorted(one for one, state in found.items() if state == "leased")
    assert sum(state == "held" for state in found.values()) == held.result()
    assert len(taken) + held.result() + sum(state == "queued" for state in found.values()) == 300


def summed(store: Store, by: str) -> Sequence[tuple]:
    with store.read() as connection:
        groups = views.summary(connection, EVERYTHING, by)
    return [(one.name, one.recipients, one.held, one.due_at) for one in groups]


def test_sums(store):
    put(store, "a@x.example", "b@x.example", "c@y.example", due_at=5_000)
    put(store, "d@x.example", account_id="333333333333", identity_arn="arn:other", due_at=4_000)
    order(store, Verb.HOLD, Selection(destination="y.example"))
    ours = "arn:aws:ses:us-east-1:111122223333:identity/owner.example"
    assert summed(store, "destination") == [("x.example", 3, 0, 4_000), ("y.example", 1, 1, None)]
    assert summed(store, "account") == [("222222222222", 3, 1, 5_000), ("333333333333", 1, 0, 4_000)]
    assert summed(store, "identity") == [(ours, 3, 1, 5_000), ("arn:other", 1, 0, 4_000)]


def test_finished_mail_is_no_part_of_the_queue(store):
    put(store, "a@x.example")
    order(store, Verb.DROP)
    assert summed(store, "destination") == []
    with store.read() as connection:
        assert views.waiting(connection, EVERYTHING, None, 10) == []
