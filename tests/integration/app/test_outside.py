"""What is seen by HTTP, on both engines: figures of the queue, when they are read, and who may see them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import event, update

from relay import metrics
from relay.app import outside
from relay.app.outside import Outside, look_at_queue
from relay.httpd import Request
from relay.queue import views
from relay.queue.spool import insert_messages
from relay.queue.values import StoreUnavailable
from relay.store.engine import Store
from relay.store.tables import recipient
from relay.submission.identifiers import compose_id
from tests.support.mail import new_message

TOKEN = "0123456789abcdef0123456789abcdef"
HERE = Request("GET", "/metrics", b"/metrics", "", (), b"", "127.0.0.1", is_local=True, is_tls=False)


@pytest.fixture(autouse=True)
def nobody_looked_yet() -> Iterator[None]:
    again()
    yield
    again()


def again() -> None:
    for look_at in metrics.QUEUE_LOOK_AT.values():
        look_at.set(0)


def figures() -> dict[str, float]:
    return {state: metrics.QUEUE_RECIPIENTS.labels(state).value for state in metrics.WAITING_STATES}


def ages() -> dict[str, float]:
    return {state: metrics.QUEUE_OLDEST_SECONDS.labels(state).value for state in metrics.WAITING_STATES}


def test_queue_is_counted_by_state_with_the_age_of_the_oldest(store: Store, monkeypatch):
    now = 1_800_000_000.0
    monkeypatch.setattr(outside.time, "time", lambda: now)
    messages = [new_message(f"{name}@x.example") for name in "abcd"]
    with store.write() as connection:
        insert_messages(connection, messages)
        states = ("queued", "held", "delivered", "delivered")
        for number, (one, state) in enumerate(zip(messages, states, strict=True)):
            connection.execute(
                update(recipient)
                .where(recipient.c.message_id == one.message.id)
                .values(state=state, message_id=id_of(now - 100 * (number + 1)))
            )
    look_at_queue(store)
    assert figures() == {"queued": 1, "leased": 0, "held": 1}
    assert ages() == {"queued": pytest.approx(100), "leased": 0, "held": pytest.approx(200)}


def id_of(seconds: float) -> int:
    """The id of a message that came then."""
    return compose_id(int(seconds * 1000), 1, 0)


def test_queue_is_not_read_again_soon_whoever_asks(store: Store):
    look_at_queue(store)
    with store.write() as connection:
        insert_messages(connection, [new_message("a@x.example")])
    metrics.take_row(7)
    try:
        look_at_queue(store)
    finally:
        metrics.take_row(0)
    assert figures()["queued"] == 0
    again()
    look_at_queue(store)
    assert figures()["queued"] == 1


@pytest.mark.parametrize("engine", ["sqlite"])
def test_look_that_took_long_is_not_soon_repeated(store: Store, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(outside.time, "monotonic", lambda: float(next(clock)))
    look_at_queue(store)
    assert metrics.QUEUE_LOOK_AT["queued"].value == 10 + 10 * 20


@pytest.mark.parametrize("engine", ["sqlite"])
def test_figures_of_a_store_that_is_away_are_unknown_not_old(store: Store, monkeypatch):
    look_at_queue(store)
    again()

    def away(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(outside.views, "depth", away)
    look_at_queue(store)
    assert all(math.isnan(one) for one in (*figures().values(), *ages().values()))


@pytest.mark.parametrize("engine", ["sqlite"])
def test_count_of_what_waits_reads_its_partial_index(store: Store):
    """A table of what was delivered in a week must not be read at each scrape."""
    said: list[str] = []
    with store.read() as connection:
        event.listen(connection, "before_cursor_execute", lambda _c, _cursor, text, *_: said.append(text))
        for state, index in (("queued", "ix_recipient_due"), ("leased", "ix_recipient_lease")):
            views.depth(connection, state)
            [plan] = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {said[-1]}").all()
            assert index in plan.detail


@pytest.mark.parametrize("engine", ["sqlite"])
class TestWhoMaySee:
    async def answer(self, store: Store, request: Request, token: str = "") -> int:
        routes = {one.path: one for one in Outside(store, lambda: None, token).routes()}
        return (await routes["/metrics"].respond(request)).status

    async def test_this_machine_without_a_token(self, store):
        assert await self.answer(store, HERE) == 200

    async def test_nobody_from_elsewhere_without_a_token(self, store):
        assert await self.answer(store, replace(HERE, is_local=False)) == 403

    @pytest.mark.parametrize(
        ("shown", "expected"),
        [
            (f"Bearer {TOKEN}", 200),
            ("", 401),
            (TOKEN, 401),
            (f"Bearer {TOKEN}x", 401),
            (f"Bearer {TOKEN[:-1]}", 401),
            ("Bearer é", 401),
        ],
    )
    async def test_who_has_the_token_from_anywhere(self, store, shown, expected):
        for is_local in (True, False):
            request = replace(HERE, is_local=is_local, headers=(("authorization", shown),))
            assert await self.answer(store, request, TOKEN) == expected
