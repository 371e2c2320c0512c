"""What the next hop said, on its way into the store: outcomes that are not durable yet.

A lane does not wait for them, unless there are too many.  While the store is away they are kept and tried
again: the lease is ours as long as we live, so nobody else tries these recipients meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from relay import metrics
from relay.delivery.dialogue import Ended
from relay.delivery.holdings import Holdings, keys_of
from relay.delivery.line import Tried
from relay.maillog import Log
from relay.outcome import schedule
from relay.outcome.classify import classify
from relay.outcome.outcome import Attempt, Bounced, Deferred, Failure, Outcome
from relay.outcome.schedule import RetryPolicy, decide
from relay.queue.values import Consignment, QueuedMessage, QueuedRecipient, Settled, StoreUnavailable
from relay.submission.identifiers import ses_message_id

RETRY_SECONDS = 1.0  # while the store is away
_MOST = 2_000


class Settle(Protocol):
    """Make outcomes durable; StoreUnavailable if the store is."""

    def __call__(self, settled: Sequence[Settled]) -> asyncio.Future[None]: ...


class Settling:
    """The outcomes of one worker process.  ``postpone`` puts back what cannot be recorded."""

    def __init__(
        self,
        settle: Settle,
        retry: RetryPolicy,
        holdings: Holdings,
        postpone: Callable[[Consignment, float], None],
        jitter: Callable[[], float],
        log: Log,
    ) -> None:
        self._settle = settle
        self._retry = retry
        self._holdings = holdings
        self._postpone = postpone
        self._jitter = jitter
        self._log = log
        self._changed = asyncio.Event()
        self.count = 0  # of outcomes that are not durable yet

    async def room(self) -> None:
        """Wait while there are too many."""
        if self.count >= _MOST:
            await self.change()

    async def change(self) -> None:
        """Wait until some are durable."""
        self._changed.clear()
        await self._changed.wait()

    def tried(self, tried: Tried) -> None:
        """Hand over the outcomes; the lane does not wait for them to be durable."""
        now = time.time_ns() // 1000
        if not tried.is_simulated:
            metrics.ATTEMPT_SECONDS.observe((now - tried.started) / 1_000_000)
        settled = [
            self._outcome(tried, recipient, one, now)
            for recipient, one in zip(tried.part, tried.ended, strict=True)
        ]
        self.count += len(settled)
        self._submit(settled)

    def _outcome(self, tried: Tried, recipient: QueuedRecipient, ended: Ended, now: int) -> Settled:
        message = tried.consignment.message
        duration = now - tried.started
        attempt = Attempt(
            tried.started, ended.phase, tried.host, tried.tls, ended.answer, duration, tried.local
        )
        outcome = self._decide(message, recipient, attempt)
        # The settlement needs no body, and may wait long for a store that is away.
        lease = tried.consignment.lease
        return Settled(message.without_body(), recipient, lease, attempt, outcome, tried.is_simulated)

    def _decide(self, message: QueuedMessage, recipient: QueuedRecipient, attempt: Attempt) -> Outcome:
        history = schedule.Tried(
            recipient.attempts + 1, message.received_at, message.expires_at, recipient.delay_reported
        )
        verdict = classify(attempt.answer, attempt.phase)
        ended_at = attempt.at + attempt.duration_us
        return decide(verdict, history, ended_at, self._retry, self._jitter())

    def _submit(self, settled: list[Settled], is_last: bool = False) -> None:
        future = self._settle(settled)
        future.add_done_callback(lambda done: self._submitted(settled, is_last, done))

    def _submitted(self, settled: list[Settled], is_last: bool, done: asyncio.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, StoreUnavailable):
            # We hold the lease as long as we live, so nobody else tries these meanwhile.
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._submit, settled, is_last)
            return
        if error is not None:
            self._unrecorded(settled, is_last, error)
            return
        self._done_with(settled)
        for one in settled:
            self._report(one)

    def _done_with(self, settled: list[Settled]) -> None:
        self._holdings.let_go((one.message.id, one.recipient.number) for one in settled)
        self.count -= len(settled)
        self._changed.set()

    def _unrecorded(self, settled: list[Settled], is_last: bool, error: BaseException) -> None:
        """The store works and does not take this: a surprise, so it defers, and nothing stays with us.

        What was delivered goes out again then; as a deferral it counts as an attempt, so that it ends.
        """
        if len(settled) > 1:  # one of them spoils it for the others
            for one in settled:
                self._submit([one])
            return
        [one] = settled
        lost = ses_message_id(one.message.id)
        self._log("settlement failed", level="error", id=lost, error=repr(error))
        if not is_last:
            self._submit([self._deferred(one)], is_last=True)
        else:
            consignment = Consignment(one.message, (one.recipient,), one.lease)
            self._holdings.take(keys_of(consignment))
            self._done_with(settled)
            self._postpone(consignment, self._retry.max_seconds)

    def _deferred(self, one: Settled) -> Settled:
        attempt = replace(one.attempt, answer=Failure("the outcome could not be recorded"))
        return replace(one, attempt=attempt, outcome=self._decide(one.message, one.recipient, attempt))

    def _report(self, one: Settled) -> None:
        outcome, attempt = one.outcome, one.attempt
        event, count = "delivered", metrics.DELIVERED
        due_at = status = None
        if isinstance(outcome, Deferred):
            event, count, due_at = "deferred", metrics.DEFERRED, outcome.due_at
        elif isinstance(outcome, Bounced):
            event, count, status = "bounced", metrics.BOUNCED, outcome.status
        count.inc()
        self._log(
            event,
            id=ses_message_id(one.message.id),
            to=one.recipient.address,
            host=attempt.host,
            tls=attempt.tls,
            attempt=one.recipient.attempts + 1,
            phase=None if event == "delivered" else attempt.phase.value,
            status=status,
            reply=str(attempt.answer),
            next_s=None if due_at is None else (due_at - attempt.at) // 1_000_000,
            ms=attempt.duration_us // 1000,
        )
