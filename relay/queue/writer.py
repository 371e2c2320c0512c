"""Group commit: one thread of a process writes, and many messages share one sync.

The event loop collects jobs; the thread runs a batch of them in one transaction and answers all at
once.  The window is adaptive, because a fixed one either delays few clients or wastes syncs on many: a
batch goes when every open SMTP transaction waits for it and the loop brought no more in its last turn, when
it has 64 jobs, or after 5 ms; after up to 20 ms while each turn still brings more, or while the loop is at
work, for messages that will be there in a moment.  While the thread is busy, jobs gather.  What nobody waits
for, such as an outcome, goes along with what comes next, or after 50 ms.  A job that breaks a batch is tried
alone, so that it harms no other.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from relay.store.engine import Store, StoreUnavailable

Result = TypeVar("Result")

_BATCH_JOBS = 64
_WINDOW_SECONDS = 0.005
# While the loop is busy nobody is kept waiting for nothing.  Of 20 clients half would go in a batch that left
# after 5 ms, and a batch costs nearly as much as its messages: a sixth more go through on PostgreSQL.
_BUSY_WINDOW_SECONDS = 0.020
_BUSY_SHARE = 0.2  # of the time that the batch has waited
_PATIENT_WINDOW_SECONDS = 0.050
# A batch never grows past this, however long the store was away.
_MOST_JOBS = 500
# A batch that takes longer is stuck behind something: a lock, a disk, a server.
_STUCK_SECONDS = 2.0
# A client that has waited so long is told to come again, though its message may yet be committed (rule 27).
_PATIENCE_SECONDS = 30.0
_WATCH_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Job(Generic[Result]):
    """Work for the writer.  ``run`` gets all jobs of its kind in a batch and answers in their order.

    ``is_patient``: nothing waits for it.
    """

    run: Callable[[Connection, Sequence[Any]], Sequence[Any]]
    payload: Any
    is_awaited_by_client: bool = False
    is_patient: bool = False
    done: asyncio.Future[Result] = field(init=False)
    submitted_at: float = field(init=False)


_Answer = tuple[Job[Any], Any]


class GroupWriter:
    """The one writer of a process.  All methods are called on the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: list[Job[Any]] = []
        self._urgent: Job[Any] | None = None  # the first of the pending that cannot wait for long
        self._clients_waiting = 0
        self._open_transactions = 0
        self._busy = False
        self._began_at = 0.0
        self._was_refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._window_seconds = _WINDOW_SECONDS  # of the batch that gathers
        self._timer_at = 0.0  # uvloop's handle of a moment that has come does not tell it
        self._waits_since = (0.0, 0.0)  # by the loop's clock, and by the CPU that its thread has used
        self._under_way: Sequence[Job[Any]] = ()
        self._watchdog: asyncio.TimerHandle | None = None
        self._looked_at = 0  # so many jobs were pending at the end of the loop's last turn
        self._is_looking = False
        self._batches: queue.SimpleQueue[list[Job[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Write what is pending, then end the thread."""
        while self._pending or self._busy:
            if not self._busy:
                self._flush()
            await asyncio.sleep(_WINDOW_SECONDS)
        self._batches.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def transaction_opened(self) -> None:
        """A client began a mail transaction; a batch may wait for it."""
        self._open_transactions += 1

    def transaction_closed(self) -> None:
        self._open_transactions -= 1
        self._consider()

    @property
    def is_answering(self) -> bool:
        """Whether the store takes writes, as far as the last batch and the one under way tell."""
        is_stuck = self._busy and time.monotonic() - self._began_at > _STUCK_SECONDS
        return not (is_stuck or self._was_refused)

    def submit(self, job: Job[Result]) -> asyncio.Future[Result]:
        """The job's result once its batch is durable, or StoreUnavailable, or the job's own exception.

        TimeoutError for a job awaited by a client that takes longer than 30 s.
        """
        assert self._loop is not None
        job.done = self._loop.create_future()
        job.submitted_at = self._loop.time()
        self._pending.append(job)
        self._clients_waiting += job.is_awaited_by_client
        if self._urgent is None and not job.is_patient:
            self._urgent = job
        self._consider()
        return job.done

    def _consider(self) -> None:
        if self._busy or not self._pending:
            return
        if len(self._pending) >= _BATCH_JOBS:
            self._flush()
        elif not self._is_looking:
            assert self._loop is not None
            self._is_looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """At the end of a turn: send the batch, or wait for what is about to come."""
        assert self._loop is not None
        self._is_looking = False
        if self._busy or not self._pending:
            return
        has_grown, self._looked_at = len(self._pending) > self._looked_at, len(self._pending)
        if self._urgent is None:
            self._wait_until(self._pending[0].submitted_at + _PATIENT_WINDOW_SECONDS)
        elif has_grown and self._loop.time() - self._urgent.submitted_at < _BUSY_WINDOW_SECONDS:
            self._consider()
        elif has_grown or 0 < self._clients_waiting >= self._open_transactions:
            self._flush()
        else:
            self._wait_until(self._urgent.submitted_at + self._window_seconds)

    def _wait_until(self, at: float) -> None:
        """The batch goes then, unless the loop works all the time; ``at`` is by the loop's clock."""
        assert self._loop is not None
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._waits_since = self._loop.time(), time.thread_time()
        self._timer, self._timer_at = self._loop.call_at(at, self._window_ended), at

    def _window_ended(self) -> None:
        self._timer = None
        if self._busy or not self._pending:
            return
        if self._urgent is None or not self._prolong(self._urgent.submitted_at):
            self._flush()

    def _prolong(self, since: float) -> bool:
        """Wait on, if it is worth it and the batch has not waited for long."""
        assert self._loop is not None
        now = self._loop.time()
        if now - since >= _BUSY_WINDOW_SECONDS or not self._has_worked(now):
            return False
        self._window_seconds = min(now - since + _WINDOW_SECONDS, _BUSY_WINDOW_SECONDS)
        self._wait_until(since + self._window_seconds)
        return True

    def _has_worked(self, now: float) -> bool:
        """Whether the loop was busy while the batch waited: then what it works on is about to come."""
        since, before = self._waits_since
        return time.thread_time() - before > _BUSY_SHARE * (now - since)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Who gave up before the batch was formed is not written for: nobody would be told.
        pending = [job for job in self._pending if not job.done.done()]
        batch, self._pending = pending[:_MOST_JOBS], pending[_MOST_JOBS:]
        self._clients_waiting = sum(job.is_awaited_by_client for job in self._pending)
        self._urgent = next((job for job in self._pending if not job.is_patient), None)
        self._looked_at = 0
        self._window_seconds = _WINDOW_SECONDS
        self._busy = True
        self._began_at = time.monotonic()
        self._under_way = batch
        if self._watchdog is None and self._loop is not None:
            self._watchdog = self._loop.call_later(_WATCH_SECONDS, self._watch)
        self._batches.put(batch)

    def _watch(self) -> None:
        """While something is under way: who has waited too long does not wait on; one timer for all."""
        assert self._loop is not None
        before = self._loop.time() - _PATIENCE_SECONDS
        for job in (*self._under_way, *self._pending):
            if job.is_awaited_by_client and job.submitted_at < before and not job.done.done():
                job.done.set_exception(TimeoutError())
        is_under_way = self._busy or bool(self._pending)
        self._watchdog = self._loop.call_later(_WATCH_SECONDS, self._watch) if is_under_way else None

    def _answered(self, answers: Sequence[_Answer]) -> None:
        """Everybody hears in the order in which it was done: an outcome before the claim that follows it."""
        self._busy = False
        self._under_way = ()
        self._was_refused = any(isinstance(answer, StoreUnavailable) for _, answer in answers)
        for job, answer in answers:
            if job.done.done():  # its waiter was cancelled; what was written stays written
                continue
            if isinstance(answer, BaseException):
                job.done.set_exception(answer)
            else:
                job.done.set_result(answer)
        self._consider()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        assert self._loop is not None
        while (batch := self._batches.get()) is not None:
            answers = self._write(batch)
            self._loop.call_soon_threadsafe(self._answered, answers)
            try:
                self._store.checkpoint_if_due()
            except Exception:  # noqa: S110  # the log only grows; the next batch tries again
                pass

    def _write(self, batch: Sequence[Job[Any]]) -> list[_Answer]:
        try:
            return self._transaction(batch)
        except StoreUnavailable as error:
            return [(job, error) for job in batch]
        except Exception as error:
            if len(batch) == 1:
                return [(batch[0], error)]
            return [answer for job in batch for answer in self._write([job])]

    def _transaction(self, batch: Sequence[Job[Any]]) -> list[_Answer]:
        answers: list[_Answer] = []
        with self._store.write() as connection:
            for run in dict.fromkeys(job.run for job in batch):
                jobs = [job for job in batch if job.run == run]
                answers += zip(jobs, run(connection, [job.payload for job in jobs]), strict=True)
        return answers


def alone(work: Callable[[Connection], Result]) -> Job[Result]:
    """A job that is one function of the connection, run within the batch it falls into."""

    def run(connection: Connection, payloads: Sequence[Any]) -> Sequence[Any]:
        return [work(connection) for _ in payloads]

    return Job(run, None)
