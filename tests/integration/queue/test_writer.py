"""Group commit: what shares a transaction, what does not, and what a failure touches."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import uvloop
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import DBAPIError

from relay.queue.writer import GroupWriter, Job, alone
from relay.store.engine import Store, StoreUnavailable
from relay.store.tables import meta


def job(name: str, *, waits: bool = True) -> Job[int]:
    """Writes one row; its result is the number of jobs that shared the batch."""

    return Job(_write, name, is_awaited_by_client=waits)


def _write(connection: Connection, names: list[str]) -> list[int]:
    connection.execute(insert(meta), [{"name": name, "value": "x"} for name in names])
    return [len(names)] * len(names)


def names(store: Store) -> set[str]:
    with store.read() as connection:
        return set(connection.execute(select(meta.c.name).where(meta.c.value == "x")).scalars())


async def quiet_turns() -> None:
    """The loop goes round and brings nothing new."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_jobs_submitted_together_share_a_transaction(store: Store, writer: GroupWriter):
    for _ in range(3):
        writer.transaction_opened()
    sizes = await asyncio.gather(*(writer.submit(job(f"j{n}")) for n in range(3)))
    assert sizes == [3, 3, 3]
    assert names(store) == {"j0", "j1", "j2"}


async def test_everybody_hears_in_the_order_in_which_it_was_done(writer: GroupWriter):
    """Jobs of a kind run together, so the last of them before one that was submitted earlier."""
    heard: list[str] = []
    kinds = {
        "first": job("first"),
        "between": alone(lambda c: _write(c, ["between"])),
        "second": job("second"),
    }
    futures = {name: writer.submit(one) for name, one in kinds.items()}
    for name, future in futures.items():
        future.add_done_callback(lambda _, name=name: heard.append(name))
    await asyncio.gather(*futures.values())
    assert heard == ["first", "second", "between"]


async def test_lone_client_does_not_wait_for_the_window(writer: GroupWriter):
    writer.transaction_opened()
    future = writer.submit(job("alone"))
    await quiet_turns()
    assert writer._busy, "every open transaction waits: the batch goes as soon as nothing else comes"
    assert await future == 1


async def first_of_two(writer: GroupWriter) -> asyncio.Future[int]:
    """One client waits, another is still sending."""
    writer.transaction_opened()
    writer.transaction_opened()
    future = writer.submit(job("first"))
    await quiet_turns()
    assert not writer._busy
    return future


async def test_batch_goes_after_the_window_though_others_are_still_sending(writer: GroupWriter):
    future = await first_of_two(writer)
    assert await asyncio.wait_for(future, 2) == 1


def work(seconds: float) -> None:
    """Keep the loop from everything else."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def test_batch_waits_longer_for_the_others_while_the_loop_works(writer: GroupWriter):
    first = await first_of_two(writer)
    work(0.008)
    await quiet_turns()
    assert not writer._busy, "the window is over, but what the loop works for is about to come"
    assert await asyncio.gather(first, writer.submit(job("second"))) == [2, 2]


async def test_what_comes_in_a_longer_window_does_not_end_it(writer: GroupWriter):
    await first_of_two(writer)
    work(0.006)
    await quiet_turns()
    ends_at = writer._timer_at
    outcome = writer.submit(Job(_write, "outcome", is_patient=True))
    await quiet_turns()
    assert writer._timer_at == ends_at
    assert await outcome == 2


async def test_batch_does_not_wait_for_ever_for_a_loop_that_works(writer: GroupWriter):
    future = await first_of_two(writer)
    work(0.025)
    await quiet_turns()
    assert writer._busy
    assert await future == 1


def test_window_that_is_over_at_once_is_looked_at_again(store: Store):
    """On uvloop, as in the gateway: a timer of its that is due already is of another kind."""

    async def main() -> int:
        writer = GroupWriter(store)
        writer.start()
        future = await first_of_two(writer)
        now = asyncio.get_running_loop().time()
        writer._wait_until(now)
        writer._wait_until(now + 1)
        writer._wait_until(now - 1)
        result = await asyncio.wait_for(future, 2)
        await writer.stop()
        return result

    assert uvloop.run(main()) == 1


async def test_batch_goes_when_the_other_transactions_end(writer: GroupWriter):
    future = await first_of_two(writer)
    writer.transaction_closed()
    await quiet_turns()
    assert writer._busy
    await future


async def test_what_every_turn_brings_more_of_goes_in_one_batch(writer: GroupWriter):
    futures = []
    for number in range(5):
        writer.transaction_opened()
        futures.append(writer.submit(job(f"turn {number}")))
        await asyncio.sleep(0)
    assert await asyncio.gather(*futures) == [5] * 5


async def test_what_nobody_waits_for_goes_with_what_comes_next(writer: GroupWriter):
    outcome = writer.submit(Job(_write, "outcome", is_patient=True))
    await asyncio.sleep(0.015)
    assert not writer._busy, "three windows of a job that somebody waits for"
    writer.transaction_opened()
    assert await writer.submit(job("mail")) == 2
    assert await outcome == 2


async def test_what_nobody_waits_for_goes_by_itself_in_the_end(writer: GroupWriter):
    assert await asyncio.wait_for(writer.submit(Job(_write, "outcome", is_patient=True)), 2) == 1


async def test_batch_has_a_most_number_of_jobs(writer: GroupWriter):
    for number in range(64):
        assert not writer._busy
        writer.submit(job(f"n{number}", waits=False))
    assert writer._busy, "it waits for no turn to end"


async def test_job_that_breaks_harms_no_other(store: Store, writer: GroupWriter):
    def broken(connection: Connection) -> None:
        raise ValueError("broken")

    good, bad = writer.submit(job("good", waits=False)), writer.submit(alone(broken))
    with pytest.raises(ValueError, match="broken"):
        await bad
    assert await good == 1
    assert names(store) == {"good"}


async def test_wrong_statement_fails_alone(store: Store, writer: GroupWriter):
    """Told as trouble of the store it would be tried again and again, and take others along."""
    good = writer.submit(job("good", waits=False))
    bad = writer.submit(alone(lambda connection: connection.execute(text("SELECT * FROM no_such"))))
    with pytest.raises(DBAPIError):
        await bad
    assert await good == 1
    assert names(store) == {"good"}


async def test_duplicate_row_fails_alone(store: Store, writer: GroupWriter):
    futures = [writer.submit(job(name, waits=False)) for name in ("a", "b", "a")]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [False, False, True]
    assert names(store) == {"a", "b"}


async def test_unavailable_store_fails_every_job_and_the_next_batch_works(store: Store, writer: GroupWriter):
    def gone(connection: Connection) -> None:
        raise StoreUnavailable("gone")

    first = [writer.submit(job("x", waits=False)), writer.submit(alone(gone))]
    results = await asyncio.gather(*first, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert await writer.submit(job("y", waits=False)) == 1
    assert names(store) == {"y"}


async def test_who_gave_up_before_the_batch_is_not_written_for(store: Store, writer: GroupWriter):
    future = writer.submit(job("gone", waits=False))
    future.cancel()
    await writer.submit(job("other", waits=False))
    assert names(store) == {"other"}


async def test_who_gives_up_while_the_batch_runs_does_not_undo_it(store: Store, writer: GroupWriter):
    writer.transaction_opened()
    future = writer.submit(job("kept"))
    await quiet_turns()
    assert writer._busy
    future.cancel()
    await writer.submit(job("other", waits=False))
    assert names(store) == {"kept", "other"}


async def test_client_is_not_kept_waiting_for_ever(store: Store, writer: GroupWriter, monkeypatch):
    monkeypatch.setattr("relay.queue.writer._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("relay.queue.writer._WATCH_SECONDS", 0.05)
    freed = threading.Event()
    stuck = writer.submit(alone(lambda connection: freed.wait(10)))
    await until_busy(writer)
    late, patient = writer.submit(job("late")), writer.submit(job("patient", waits=False))
    with pytest.raises(TimeoutError):
        await late
    freed.set()
    await asyncio.gather(stuck, patient)
    assert names(store) == {"patient"}, "nobody was told of the other"


async def until_busy(writer: GroupWriter) -> None:
    while not writer._busy:
        await asyncio.sleep(0.001)


async def test_stop_writes_what_is_pending(store: Store):
    writer = GroupWriter(store)
    writer.start()
    futures = [writer.submit(job(f"n{n}", waits=False)) for n in range(5)]
    await writer.stop()
    assert all(future.done() for future in futures)
    assert len(names(store)) == 5
