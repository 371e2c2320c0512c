"""R10 on both engines: accounts are judged, warned, paused and resumed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.control import accounts, audit, reputation
from relay.control.ground import Ground, now
from relay.control.reputation import ReputationWatch, judge_all
from relay.outcome.reputation import Limits, Status
from relay.store import turns, usage
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.store.usage import Tally

GOOD, BAD = "111122223333", "222222222222"
ARN = "arn:aws:ses:us-east-1:111122223333:identity/owner.example"
LIMITS = Limits(14, 10, 5, 20, 1, 2)


@pytest.fixture
def ground(store: Store, secrets: Secrets) -> Ground:
    one = Ground(store, secrets, "us-east-1", "relay:reputation", reputation=LIMITS)
    for account in (GOOD, BAD):
        accounts.create(one, account, account, production=True)
    return one


def fared(ground: Ground, account: str = BAD, **fate: int) -> None:
    with ground.store.write() as connection:
        usage.count(connection, 1, [Tally(account, ARN, now(), **fate)])


def judged(ground: Ground) -> list[tuple[str, Status]]:
    return [(one.account_id, one.judgement.status) for one in judge_all(ground)]


def test_account_is_warned_of_once(ground: Ground) -> None:
    fared(ground, GOOD, delivered=100)
    fared(ground, delivered=90, hard_bounces=10)
    assert judged(ground) == [(BAD, Status.WARNING)]
    assert judged(ground) == []
    assert not accounts.get(ground, BAD).paused
    [noted] = audit.entries(ground, None, action="JudgeAccount")
    assert noted.detail["status"] == "WARNING"
    assert noted.detail["reason"].startswith("bounce rate 10.00 % of 100 recipients")


def test_account_that_fares_better_is_healthy_again(ground: Ground) -> None:
    fared(ground, delivered=90, hard_bounces=10)
    assert judged(ground) == [(BAD, Status.WARNING)]
    fared(ground, delivered=900)
    assert judged(ground) == [(BAD, Status.HEALTHY)]


def test_account_is_paused_with_the_reason_in_the_audit(ground: Ground) -> None:
    fared(ground, delivered=50, hard_bounces=50)
    assert judged(ground) == [(BAD, Status.PAUSE)]
    row = accounts.get(ground, BAD)
    assert row.paused
    assert row.pause_reason == "bounce rate 50.00 % of 100 recipients in 14 days, the limit is 20 %"
    [paused] = audit.entries(ground, None, action="PauseAccount")
    assert (paused.actor, paused.subject) == ("relay:reputation", f"account:{BAD}")
    assert paused.detail["pause_reason"] == row.pause_reason
    assert judged(ground) == []
    assert accounts.standing(ground, BAD).record.judgement.status is Status.PAUSE


def test_resumed_account_is_judged_by_what_comes_then(ground: Ground) -> None:
    fared(ground, delivered=50, hard_bounces=50)
    judge_all(ground)
    accounts.resume(ground, BAD)
    assert accounts.get(ground, BAD).reputation_status == "HEALTHY"
    assert judged(ground) == []
    assert not accounts.get(ground, BAD).paused
    assert accounts.standing(ground, BAD).record.counts.settled == 0
    fared(ground, delivered=7, hard_bounces=3)
    assert judged(ground) == [(BAD, Status.PAUSE)]
    assert accounts.get(ground, BAD).pause_reason == (
        "bounce rate 30.00 % of 10 recipients in 14 days, the limit is 20 %"
    )


def test_resuming_an_account_that_sends_takes_nothing_off(ground: Ground) -> None:
    fared(ground, delivered=90, hard_bounces=10)
    accounts.resume(ground, BAD)
    assert judged(ground) == [(BAD, Status.WARNING)]


def test_account_that_was_changed_meanwhile_is_left_to_the_next_look(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    fared(ground, delivered=50, hard_bounces=50)
    tell = reputation._tell

    def after_a_change(*given: Any) -> bool:
        accounts.update(ground, BAD, name="renamed")
        return tell(*given)

    monkeypatch.setattr(reputation, "_tell", after_a_change)
    assert judged(ground) == []
    monkeypatch.undo()
    assert judged(ground) == [(BAD, Status.PAUSE)]


def test_one_process_of_all_takes_a_turn(store: Store) -> None:
    assert [turns.take(store, "t", at, 60) for at in (1000, 1000, 1059, 1060, 1061)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert turns.take(store, "another", 1000, 60)


async def test_watches_of_two_workers_log_a_pause_once(ground: Ground) -> None:
    fared(ground, delivered=50, hard_bounces=50)
    lines: list[dict[str, Any]] = []

    def log(event: str, **fields: Any) -> None:
        lines.append({"event": event, **fields})

    tasks = [asyncio.ensure_future(ReputationWatch(ground, 1, log).run()) for _ in range(2)]
    async with asyncio.timeout(10):
        while not (await asyncio.to_thread(accounts.get, ground, BAD)).paused or not lines:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    [line] = lines
    assert (line["event"], line["level"], line["account"], line["status"]) == (
        "reputation",
        "warning",
        BAD,
        "PAUSE",
    )
