"""Late reports on both engines: written once, told once, gone with their message."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import orjson
import pytest
from sqlalchemy import insert, select

from relay.outcome.outcome import Bounced, Delivered
from relay.queue.outbox import claim as claim_notices
from relay.queue.reports import LateReport, Reported, Reports
from relay.queue.retention import expire
from relay.queue.settlement import settle
from relay.queue.spool import Spool
from relay.queue.views import find_message
from relay.store import suppression
from relay.store.suppression import BOUNCE, COMPLAINT
from relay.store.tables import account, outbox, report, usage_day
from relay.submission.identifiers import ses_message_id
from tests.integration.queue.conftest import register
from tests.support.mail import claim_due, new_message, settled

COUNTS = ("delivered", "hard_bounces", "soft_bounces", "complaints")
_ids = itertools.count(7_000_000)


@pytest.fixture
def reports(store, writer) -> Reports:
    return Reports(store, writer, lambda: next(_ids), 1)


@pytest.fixture
async def delivered(store, writer):
    """A message of which the first recipient was delivered and the second bounced."""
    new = new_message("a@x.example", "b@x.example", reverse_path="token@bounces.example")
    await Spool(store, writer, lambda: next(_ids)).enqueue(new)
    lease = register(store)
    with store.write() as connection:
        [one] = claim_due(connection, lease, 10)
        settle(
            connection,
            [settled(one, Delivered()), settled(one, Bounced("5.1.1"), number=1)],
            lambda: next(_ids),
        )
    return new.message


def late(message, *numbers: int, kind: str = "bounce", suppressed: tuple[int, ...] = ()) -> LateReport:
    notices = {number: {"address": f"{number}", "late": True, "at": 5} for number in numbers}
    of = Reported(
        message.id,
        message.account_id,
        message.identity_arn,
        message.received_at,
        None,
        message.reverse_path,
        (),
    )
    return LateReport(of, kind, 5, notices, frozenset(suppressed))


def told(store, kind: str) -> list[list[str]]:
    """The addresses in each late notice of a kind."""
    with store.read() as connection:
        payloads = connection.execute(select(outbox.c.payload).where(outbox.c.kind == kind)).scalars()
        notices = [orjson.loads(payload) for payload in payloads]
    return [[one["address"] for one in notice] for notice in notices if notice[0].get("late")]


async def test_message_is_found_without_those_that_bounced(reports, delivered):
    found = await reports.find(delivered.id)
    assert found is not None
    assert (found.reverse_path, found.account_id) == ("token@bounces.example", delivered.account_id)
    assert [(one.number, one.address) for one in found.recipients] == [(0, "a@x.example")]
    assert await reports.find(delivered.id + 1) is None


async def test_same_report_twice_is_one_notice(store, reports, delivered):
    assert await reports.record(late(delivered, 0)) == (0,)
    assert await reports.record(late(delivered, 0)) == ()
    assert await reports.record(late(delivered, 0, 1)) == (1,)
    assert told(store, "bounce") == [["0"], ["1"]]


async def test_same_report_at_once_is_one_notice(store, reports, delivered):
    answers = await asyncio.gather(*(reports.record(late(delivered, 0, 1)) for _ in range(10)))
    assert sorted(answers, key=len)[-1] == (0, 1)
    assert told(store, "bounce") == [["0", "1"]]


async def test_complaint_after_a_bounce_is_another_thing(store, reports, delivered):
    await reports.record(late(delivered, 0))
    assert await reports.record(late(delivered, 0, kind="complaint")) == (0,)
    assert told(store, "complaint") == [["0"]]


async def test_notice_is_claimed_like_a_settlements(store, reports, delivered):
    await reports.record(late(delivered, 0))
    lease = register(store, "other")
    with store.write() as connection:
        found = claim_notices(connection, lease, 10).notices
    assert sorted("late" in orjson.loads(one.payload)[0] for one in found) == [False, True]
    assert {one.message.id for one in found} == {delivered.id}


async def test_state_stays_and_the_view_shows_what_was_reported(store, reports, delivered):
    await reports.record(late(delivered, 0))
    with store.read() as connection:
        shown = find_message(connection, ses_message_id(delivered.id))
    assert [one["state"] for one in shown["recipients"]] == ["delivered", "bounced"]
    assert [one["late"] for one in shown["notices"]] == [
        [],
        [{"address": "0", "late": True, "at": 5}],
    ]


async def test_reports_go_with_their_message(store, reports, delivered):
    await reports.record(late(delivered, 0))
    with store.write() as connection:
        expire(connection, delivered.id + 1)
        assert connection.execute(select(report)).all() == []


@pytest.mark.parametrize(("kind", "reason"), [("bounce", BOUNCE), ("complaint", COMPLAINT)])
async def test_bad_address_gets_on_the_senders_list_with_its_report(store, reports, delivered, kind, reason):
    row = {"name": "x", "production": True, "paused": False, "created_at": 1}
    with store.write() as connection:
        connection.execute(insert(account), [{**row, "account_id": delivered.account_id}])
    await reports.record(late(delivered, 0, 1, kind=kind, suppressed=(1,)))
    found = suppression.entries(store, delivered.account_id)
    assert [(one.address, one.reason, one.message_id) for one in found] == [("1", reason, delivered.id)]


@pytest.mark.parametrize(
    ("kind", "suppressed", "moved"),
    [
        ("bounce", (0,), {"delivered": -2, "hard_bounces": 1, "soft_bounces": 1}),
        ("complaint", (0, 1), {"complaints": 2}),
        ("complaint", (), {"complaints": 1}),  # one of them complained
        ("autoreply", (), {}),
    ],
)
async def test_r10_report_moves_the_senders_reputation_once(
    store, reports, delivered, kind, suppressed, moved
):
    before = counted(store)
    for _ in range(2):
        await reports.record(late(delivered, 0, 1, kind=kind, suppressed=suppressed))
    after = counted(store)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == moved


def counted(store) -> Counter[str]:
    """The sums over all days and workers."""
    found: Counter[str] = Counter()
    with store.read() as connection:
        for row in connection.execute(select(usage_day)).mappings():
            found.update({name: row[name] for name in COUNTS})
    return Counter({name: found[name] for name in COUNTS})
