"""Claims what somebody must be told of, finds out whom, and queues the telling in one transaction.

A batch of event rows at a time: whom to tell is decided for each (``match``), the documents and reports are
composed, and all of it is committed together with the rows being done.  A crash before that commit leaves the
rows to be claimed again, one after it leaves nothing to do.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from relay import metrics
from relay.feedback.bounces import BounceMail
from relay.feedback.choices import Choices, Parties
from relay.feedback.match import Told, Topic, decide
from relay.feedback.pace import Pace
from relay.feedback.quote import quote, read_record
from relay.maillog import Log
from relay.outcome import events
from relay.outcome.event_rows import EventRow, read_events
from relay.outcome.events import Mail
from relay.queue.notifications import NewNotification
from relay.queue.outbox import Notice, Outbox, Telling
from relay.queue.values import Consignment, Lease, NewMessage, QueuedMessage, StoreUnavailable
from relay.submission.identifiers import ses_message_id

_CLAIM_NOTICES = 200
# What one costs a worker, as measured (tests/bench/bench_relay.py --events).
_NOTICE_SECONDS = 0.0002
_POLL_SECONDS = 0.5
_RETRY_SECONDS = 60.0
_MOST_ATTEMPTS = 20
_WATCH_SECONDS = 5.0
# Whoever waits longer for an event than this is told so by the log; the metric tells it all along.
_BEHIND_SECONDS = 60.0
# What each kind of row is to whoever listens.  SES tells of an auto-reply as of a soft bounce.
_TYPES = {
    "send": events.SEND,
    "reject": events.REJECT,
    "delivery": events.DELIVERY,
    "delay": events.DELIVERY_DELAY,
    "bounce": events.BOUNCE,
    "autoreply": events.BOUNCE,
    "complaint": events.COMPLAINT,
}


class Dispatcher:
    """The feedback of one worker process.

    ``next_id`` makes the notifications' ids, ``wake`` tells whoever posts them that there are some, ``pace``
    lets mail go first.
    """

    def __init__(
        self,
        outbox: Outbox,
        choices: Choices,
        bounce_mail: BounceMail,
        next_id: Callable[[], int],
        wake: Callable[[], None],
        pace: Pace,
        lease: Lease,
        offer: Callable[[Consignment], None],
        has_room: Callable[[str], bool],
        log: Log,
    ) -> None:
        self._outbox = outbox
        self._choices = choices
        self._bounce_mail = bounce_mail
        self._hostname = bounce_mail.hostname
        self._next_id = next_id
        self._wake = wake
        self._pace = pace
        self._lag_seconds = 0.0
        self._lease = lease
        self._offer = offer
        self._has_room = has_room
        self._log = log
        self._quoted: dict[
            int, Mail
        ] = {}  # of this batch: a message's Send and Delivery mostly come together

    async def run(self) -> None:
        """Handle what is due, again and again, until cancelled."""
        watched_at, is_unsure = float("-inf"), False
        while True:
            try:
                if is_unsure:
                    await self._outbox.give_back()
                    is_unsure = False
                count = await self._round()
                await asyncio.sleep(self._pace.rest_seconds(count * _NOTICE_SECONDS, self._lag_seconds))
                is_more = count == _CLAIM_NOTICES
                if time.monotonic() - watched_at >= _WATCH_SECONDS:
                    watched_at = time.monotonic()
                    await self._watch()
            except StoreUnavailable:
                is_more, is_unsure = False, True  # what was claimed is ours, and in nobody's hands
            if not is_more:
                await asyncio.sleep(_POLL_SECONDS)

    async def _watch(self) -> None:
        """Say how far behind the telling is."""
        backlog = await self._outbox.backlog()
        self._lag_seconds = backlog.lag_seconds
        metrics.OUTBOX_DEPTH.set(backlog.depth)
        metrics.OUTBOX_LAG_SECONDS.set(backlog.lag_seconds)
        if backlog.lag_seconds > _BEHIND_SECONDS:
            lag = round(backlog.lag_seconds)
            self._log("feedback behind", level="warning", waiting=backlog.depth, lag_s=lag)

    async def _round(self) -> int:
        """Tell of one batch; how many it had."""
        claimed = await self._outbox.claim(_CLAIM_NOTICES)
        self._quoted.clear()
        tellings = []
        for notice in claimed.notices:
            telling = await self._tried(notice, claimed.change)
            if telling is not None:
                tellings.append(telling)
            await asyncio.sleep(0)  # each takes some tenths of a millisecond: sessions go on between them
        await self._commit(tellings)
        return len(claimed.notices)

    async def _tried(self, notice: Notice, change: int) -> Telling | None:
        """What the notice comes to; one that cannot be told must not hold up the others."""
        try:
            return await self._telling(notice, change)
        except StoreUnavailable:
            raise
        except Exception as error:
            await self._failed(notice, error)
            return None

    async def _failed(self, notice: Notice, error: Exception) -> None:
        self._log(
            "notice failed",
            level="error",
            id=ses_message_id(notice.message_id),
            traceback=traceback.format_exc(),
        )
        is_last = notice.attempts + 1 >= _MOST_ATTEMPTS
        await self._outbox.failed(notice, repr(error), None if is_last else _RETRY_SECONDS)

    async def _telling(self, notice: Notice, change: int) -> Telling:
        of = notice.message
        record = read_record(notice.record, of.header) if of else {}
        if of is None or "send" not in record:  # our own mail, or its record is gone: nobody asked
            return Telling(notice)
        parties = Parties(record["settings"], of.account_id, of.configuration_set)
        settings = await self._choices.settings(parties, change)
        event_type = _TYPES[notice.kind]
        told = decide(event_type, settings)
        if told.is_broken and await self._choices.take_back(parties, event_type):
            self._log("topic gone", level="warning", identity=parties.identity_arn, of=event_type)
        row = EventRow(
            id=notice.id,
            kind=notice.kind,
            at=notice.at,
            items=orjson.loads(notice.payload),
            expires_at=of.expires_at,
            is_custom_time=record["max_delivery_seconds"] is not None,
        )
        now = time.time_ns() // 1000
        report = None
        if told.mail and notice.kind != "autoreply":
            lease = self._lease if self._has_room(of.account_id) else None
            report = self._bounce_mail.report(of, record, row, now, lease)
        return Telling(notice, tuple(self._notifications(of, record, row, told, now)), report)

    def _notifications(
        self, of: QueuedMessage, record: Mapping[str, Any], row: EventRow, told: Told, now: int
    ) -> Iterator[NewNotification]:
        """One for each subscription and document: the owner's shape and the delegate's."""
        if told.identity_topic is None and not told.destinations:
            return
        mail = self._quoted.get(of.id) or self._quoted.setdefault(of.id, quote(of, record))
        for what in read_events(row):
            name = events.type_of(what)
            told_in: list[tuple[Topic, str]] = []
            if told.identity_topic is not None:
                body = events.notification(mail, what, self._hostname, with_headers=told.quotes_header)
                told_in.append((told.identity_topic, body))
            if told.destinations:
                body = events.event(mail, what, self._hostname)
                told_in += [(one.topic, body) for one in told.destinations]
            for topic, body in told_in:
                for subscription in topic.subscriptions:
                    yield NewNotification(
                        self._next_id(), topic.account_id, subscription, row.id, name, body, now
                    )

    async def _commit(self, tellings: Sequence[Telling]) -> None:
        """Queue it all at once; if one breaks the transaction, each by itself."""
        if not tellings:
            return
        try:
            done = await self._outbox.tell(tellings)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(tellings) == 1:
                await self._failed(tellings[0].notice, error)
            else:
                for telling in tellings:
                    await self._commit([telling])
            return
        if any(telling.notifications for telling in tellings):
            self._wake()
        for telling in tellings:
            if telling.notice.id in done and telling.report is not None:
                self._reported(telling.notice, telling.report)

    def _reported(self, notice: Notice, report: NewMessage) -> None:
        self._log(
            "reported",
            kind=notice.kind,
            id=ses_message_id(notice.message_id),
            report=ses_message_id(report.message.id),
            to=report.recipients[0].address,
        )
        if report.lease is not None:
            self._offer(Consignment(report.message, report.recipients, report.lease))
