"""Reputation: an account whose mail bounces or is complained about is warned of, and paused if so set (R10).

It is the sending account that is judged, never the owner of the identity that it sends as.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import astuple, dataclass

import orjson

from relay.control.ground import Ground, now
from relay.outcome.reputation import Counts, Judgement, Limits, Status, judge
from relay.store import accounts, turns, usage
from relay.store.accounts import AccountRow
from relay.store.changes import ControlWrite, account_subject
from relay.store.engine import StoreUnavailable

_TURN = "reputation_judged_at"


@dataclass(frozen=True, slots=True)
class Record:
    """An account's mail in the window, as far as it is judged on it, and the judgement."""

    counts: Counts
    judgement: Judgement


def record(ground: Ground, account_id: str) -> Record:
    """How an account stands now."""
    with ground.store.read() as connection:
        first = first_day(ground.reputation)
        counts = usage.records(connection, first, account_id).get(account_id, Counts())
    return Record(counts, judge(counts, ground.reputation))


def first_day(limits: Limits) -> int:
    """Where the window begins that ends today."""
    return limits.first_day(now() // usage.DAY)


def begun_anew(write: ControlWrite, account_id: str) -> dict[str, object]:
    """The columns of an account whose former numbers count no more."""
    at = now()
    before = usage.day_total(write.connection, account_id, at // usage.DAY)
    return {
        "reputation_since": at,
        "reputation_before": orjson.dumps(astuple(before)).decode(),
        "reputation_status": Status.HEALTHY.value,
    }


# ---------------------------------------------------------------- all accounts, now and then


@dataclass(frozen=True, slots=True)
class News:
    """An account whose status is another than before."""

    account_id: str
    judgement: Judgement


class ReputationWatch:
    """The task of a worker that judges every account; of all workers one does it at a time."""

    def __init__(self, ground: Ground, seconds: int, log: Callable[..., None]) -> None:
        self._ground = ground
        self._seconds = seconds
        self._log = log

    async def run(self) -> None:
        """Judge, log what is new, sleep, until cancelled."""
        while True:
            try:
                news = await asyncio.to_thread(self._look)
            except StoreUnavailable:
                news = []
            for one in news:
                level = "info" if one.judgement.status is Status.HEALTHY else "warning"
                self._log(
                    "reputation",
                    level=level,
                    account=one.account_id,
                    status=one.judgement.status.value,
                    reason=one.judgement.reason or None,
                )
            await asyncio.sleep(self._seconds)

    def _look(self) -> list[News]:
        if not turns.take(self._ground.store, _TURN, now(), self._seconds * 1_000_000):
            return []
        return judge_all(self._ground)


def judge_all(ground: Ground) -> list[News]:
    """Judge every account that is not paused; what is new is written down, and a pause takes effect."""
    with ground.store.read() as connection:
        counted = usage.records(connection, first_day(ground.reputation))
        rows = [row for row in accounts.every(connection) if not row.paused]
    judged = [(row, judge(counted.get(row.account_id, Counts()), ground.reputation)) for row in rows]
    changed = [(row, one) for row, one in judged if one.status.value != row.reputation_status]
    return [News(row.account_id, one) for row, one in changed if _tell(ground, row, one)]


def _tell(ground: Ground, seen: AccountRow, judgement: Judgement) -> bool:
    """False if the account was changed since it was looked at: the next look sees it as it is."""
    status = judgement.status.value
    with ground.write() as write:
        if accounts.find(write.connection, seen.account_id) != seen:
            return False
        if judgement.status is Status.PAUSE:
            paused = {"paused": True, "pause_reason": judgement.reason}
            accounts.change(write, seen.account_id, "PauseAccount", **paused, reputation_status=status)
        else:
            accounts.touch(write.connection, seen.account_id, reputation_status=status)
            write.note(
                account_subject(seen.account_id), "JudgeAccount", status=status, reason=judgement.reason
            )
    return True
