"""Suppressed recipients on both engines: born bounced, and put on the list by what is settled."""

from __future__ import annotations

import itertools
from dataclasses import replace

import orjson
import pytest
from sqlalchemy import insert, select

from relay.outcome.outcome import Attempt, Bounced, Deferred, Delivered, Outcome, Phase, Reply
from relay.queue.settlement import Settlement
from relay.queue.simulation import Simulation
from relay.queue.spool import Committed, Spool
from relay.queue.suppression import Cause, suppress
from relay.queue.values import Lease, NewMessage, Settled
from relay.queue.writer import GroupWriter
from relay.store import suppression
from relay.store.engine import Store
from relay.store.suppression import BOUNCE, COMPLAINT, REASONS, Entry
from relay.store.tables import account, attempt, body_chunk, message, outbox, recipient, spill
from tests.support.mail import claim_due, new_message

ACCOUNT = "222222222222"
SIMULATOR = "simulator.amazonses.com"
_ids = itertools.count(5_000_000)


def next_id() -> int:
    return next(_ids)


@pytest.fixture(autouse=True)
def sender(store: Store) -> None:
    row = {"account_id": ACCOUNT, "name": "x", "production": True, "paused": False, "created_at": 1}
    with store.write() as connection:
        connection.execute(insert(account), [row])


@pytest.fixture
def spool(store: Store, writer: GroupWriter) -> Spool:
    return Spool(store, writer, next_id)


@pytest.fixture
def settlement(writer: GroupWriter) -> Settlement:
    return Settlement(writer, next_id, Simulation("relay.example", 3600, next_id))


def new(*addresses: str, reasons: tuple[str, ...] = REASONS, **values) -> NewMessage:
    return replace(new_message(*addresses, **values), suppressed_reasons=frozenset(reasons))


def put(store: Store, address: str, reason: str = BOUNCE) -> None:
    with store.write() as connection:
        suppression.add(connection, [Entry(ACCOUNT, address, reason, 1)])


def rows(store: Store, table, *columns):
    with store.read() as connection:
        return connection.execute(select(*columns) if columns else select(table)).all()


def states(store: Store) -> dict[str, str]:
    return {row.address: row.state for row in rows(store, recipient)}


def notices(store: Store, kind: str) -> list[list[dict]]:
    return [orjson.loads(row.payload) for row in rows(store, outbox) if row.kind == kind]


def listed(store: Store) -> list[tuple[str, str]]:
    return [(one.address, one.reason) for one in suppression.entries(store, ACCOUNT)]


# ---------------------------------------------------------------- accepted


async def test_suppressed_recipient_is_born_bounced_and_told_of(store, spool, lease):
    put(store, "Gone@x.example")
    one = new("gone@X.example", "here@x.example", lease=lease)
    committed = await spool.enqueue(one)
    assert isinstance(committed, Committed)
    assert list(committed.suppressed) == [0]
    found = {row.address: row for row in rows(store, recipient)}
    assert found["gone@X.example"].state == "bounced"
    assert found["gone@X.example"].settled_at == one.message.received_at
    assert "suppression list of account 222222222222" in found["gone@X.example"].last_reply
    assert found["here@x.example"].state == "leased"
    [[notice]] = notices(store, "bounce")
    assert notice["address"] == "gone@X.example"
    assert notice["status"] == "5.1.1"
    assert notice["kind"] == ["Permanent", "OnAccountSuppressionList"]
    assert notice["text"].startswith("Amazon SES has suppressed sending to this address")
    assert rows(store, body_chunk)


async def test_suppressed_recipient_is_claimed_by_nobody(store, spool, lease):
    put(store, "gone@x.example")
    await spool.enqueue(new("gone@x.example", "here@x.example"))
    with store.write() as connection:
        [claimed] = claim_due(connection, lease, 10)
    assert [one.address for one in claimed.recipients] == ["here@x.example"]


async def test_suppressed_recipients_of_a_message_share_a_notice(store, spool):
    for number in range(3):
        put(store, f"u{number}@x.example")
    await spool.enqueue(new("u0@x.example", "u1@x.example", "ok@x.example"))
    await spool.enqueue(new("u2@x.example"))
    assert sorted(len(one) for one in notices(store, "bounce")) == [1, 2]


async def test_message_of_which_all_are_suppressed_is_finished_and_keeps_no_body(store, spool):
    put(store, "gone@x.example")
    await spool.enqueue(new("gone@x.example"))
    assert len(rows(store, message)) == 1
    assert not rows(store, body_chunk)


async def test_large_body_of_which_all_are_suppressed_is_gone_too(store, spool, lease):
    put(store, "gone@x.example")
    one = new("gone@x.example", lease=lease, body=None, chunks=1, spilled=True)
    await spool.store_chunk(one.message.id, 0, b"x" * 1000, lease)
    await spool.enqueue(one)
    assert not rows(store, body_chunk)
    assert not rows(store, spill)
    assert states(store) == {"gone@x.example": "bounced"}


@pytest.mark.parametrize(
    ("listed_for", "reasons", "state"),
    [
        (BOUNCE, (BOUNCE,), "bounced"),
        (BOUNCE, (COMPLAINT,), "queued"),
        (COMPLAINT, (COMPLAINT,), "bounced"),
        (COMPLAINT, (), "queued"),
    ],
)
async def test_only_reasons_that_the_sender_wants_count(store, spool, listed_for, reasons, state):
    put(store, "a@x.example", listed_for)
    await spool.enqueue(new("a@x.example", reasons=reasons))
    assert states(store) == {"a@x.example": state}


async def test_list_of_another_account_says_nothing(store, spool):
    put(store, "a@x.example")
    await spool.enqueue(new("a@x.example", account_id="333333333333"))
    assert states(store) == {"a@x.example": "queued"}


# ---------------------------------------------------------------- settled


HARD = Bounced("5.1.1")
NO_SUCH_USER = Reply(550, "5.1.1", "no such user")


async def settle(
    spool: Spool,
    settlement: Settlement,
    lease: Lease,
    address: str,
    outcome: Outcome,
    reply: Reply = NO_SUCH_USER,
    is_simulated: bool = False,
    **values,
) -> NewMessage:
    one = new(address, lease=lease, **values)
    await spool.enqueue(one)
    tried = Attempt(5_000, Phase.RCPT, "mx.example[127.0.0.1]:25", None, reply, 10)
    await settlement.settle([Settled(one.message, one.recipients[0], lease, tried, outcome, is_simulated)])
    return one


async def test_hard_bounce_puts_the_address_on_the_list(store, spool, settlement, lease):
    one = await settle(spool, settlement, lease, "gone@x.example", HARD)
    [found] = suppression.entries(store, ACCOUNT)
    assert found == Entry(ACCOUNT, "gone@x.example", BOUNCE, 5_010, one.message.id)
    await spool.enqueue(new("GONE@x.example"))
    assert states(store) == {"gone@x.example": "bounced", "GONE@x.example": "bounced"}


@pytest.mark.parametrize(
    ("outcome", "reply", "values"),
    [
        pytest.param(Bounced("5.7.1"), Reply(554, "5.7.1", "spam"), {}, id="about-the-message"),
        pytest.param(Bounced("4.4.1", expired=True), Reply(451, "4.4.1", "later"), {}, id="expired"),
        pytest.param(Bounced("5.2.2"), Reply(552, "5.2.2", "full"), {}, id="mailbox-full"),
        pytest.param(Deferred(9), Reply(450, "4.1.1", "later"), {}, id="deferred"),
        pytest.param(Delivered(), Reply(250, "2.0.0", "Ok"), {}, id="delivered"),
        pytest.param(HARD, Reply(550, "5.1.1", "no"), {"reverse_path": ""}, id="our-own-report"),
        pytest.param(HARD, Reply(550, "5.1.1", "no"), {"is_simulated": True}, id="simulated"),
        pytest.param(HARD, Reply(550, "5.1.1", "no"), {"account_id": "333333333333"}, id="account-gone"),
    ],
)
async def test_nothing_else_does(store, spool, settlement, lease, outcome, reply, values):
    await settle(spool, settlement, lease, "a@x.example", outcome, reply, **values)
    assert listed(store) == []


async def test_stale_settlement_suppresses_nobody(store, spool, settlement, lease):
    stale = Lease(lease.worker_id, lease.epoch - 1)
    one = new("a@x.example", lease=lease)
    await spool.enqueue(one)
    tried = Attempt(5_000, Phase.RCPT, "mx", None, Reply(550, "5.1.1", "no"), 10)
    await settlement.settle([Settled(one.message, one.recipients[0], stale, tried, HARD)])
    assert listed(store) == []


def test_complaint_counts_if_the_account_wants_it(store):
    cause = Cause(ACCOUNT, None, 7, "a@x.example", COMPLAINT, 9)
    with store.write() as connection:
        suppress(connection, [cause, replace(cause, account_id="333333333333")])
    assert listed(store) == [("a@x.example", COMPLAINT)]


# ---------------------------------------------------------------- the simulator


TAKEN = Reply(250, "2.6.0", "Message received")


async def test_complaint_follows_a_delivery_in_the_same_transaction(store, spool, settlement, lease):
    one = await settle(
        spool, settlement, lease, f"complaint+x@{SIMULATOR}", Delivered(), TAKEN, is_simulated=True
    )
    [[notice]] = notices(store, "complaint")
    assert notice["address"] == f"complaint+x@{SIMULATOR}"
    assert (notice["feedback_type"], notice["user_agent"]) == ("abuse", "Amazon SES Mailbox Simulator")
    assert [row.message_id for row in rows(store, outbox)] == [one.message.id]
    assert listed(store) == []


async def test_the_one_that_is_away_answers_the_return_path_from_nobody(store, spool, settlement, lease):
    header = b"Message-ID: <1@app.example>\r\nSubject: Hi\r\n"
    await settle(
        spool, settlement, lease, f"ooto@{SIMULATOR}", Delivered(), TAKEN, is_simulated=True, header=header
    )
    [reply] = [row for row in rows(store, message) if not row.reverse_path]
    assert b"In-Reply-To: <1@app.example>\r\n" in reply.header
    assert states(store) == {f"ooto@{SIMULATOR}": "delivered", "bounces@owner.example": "queued"}
    assert not rows(store, outbox)


@pytest.mark.parametrize("local", ["ooto", "complaint"])
async def test_mail_from_nobody_is_answered_by_nobody(store, spool, settlement, lease, local):
    nobody = {"reverse_path": "", "return_path": ""}
    await settle(
        spool, settlement, lease, f"{local}@{SIMULATOR}", Delivered(), TAKEN, is_simulated=True, **nobody
    )
    assert len(rows(store, message)) == 1
    assert not rows(store, outbox)


async def test_an_address_that_only_looks_simulated_is_like_any_other(store, spool, settlement, lease):
    """Where the operator switched the simulator off, real mail goes to that domain."""
    await settle(spool, settlement, lease, f"complaint@{SIMULATOR}", Delivered(), TAKEN)
    assert not rows(store, outbox)


async def test_simulated_bounces_share_a_notice_that_tells_their_kinds(store, spool, settlement, lease):
    one = new(f"bounce@{SIMULATOR}", f"suppressionlist@{SIMULATOR}", lease=lease)
    await spool.enqueue(one)
    tried = Attempt(5_000, Phase.RCPT, SIMULATOR, None, Reply(550, "5.1.1", "user unknown"), 10)
    await settlement.settle(
        [Settled(one.message, other, lease, tried, HARD, is_simulated=True) for other in one.recipients]
    )
    [both] = notices(store, "bounce")
    assert [notice["kind"] for notice in both] == [["Permanent", "General"], ["Permanent", "Suppressed"]]
    assert len(rows(store, attempt)) == 2
    assert listed(store) == []
