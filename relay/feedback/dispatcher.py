"""Claims what somebody must be told of, has it told, and tries again what could not be."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable

from relay.feedback.bounces import BounceMail
from relay.maillog import Log
from relay.queue.outbox import Notice, Outbox
from relay.queue.values import Consignment, Lease, StoreUnavailable
from relay.submission.identifiers import ses_message_id

_CLAIM_NOTICES = 50
_POLL_SECONDS = 0.5
_RETRY_SECONDS = 60.0
_MOST_ATTEMPTS = 20


class Dispatcher:
    """The feedback of one worker process."""

    def __init__(
        self,
        outbox: Outbox,
        bounce_mail: BounceMail,
        lease: Lease,
        offer: Callable[[Consignment], None],
        has_room: Callable[[], bool],
        log: Log,
    ) -> None:
        self._outbox = outbox
        self._bounce_mail = bounce_mail
        self._lease = lease
        self._offer = offer
        self._has_room = has_room
        self._log = log

    async def run(self) -> None:
        """Handle what is due, again and again, until cancelled."""
        while True:
            try:
                notices = await self._outbox.claim(_CLAIM_NOTICES)
                for notice in notices:
                    await self._handle(notice)
            except StoreUnavailable:
                notices = []  # what was claimed stays ours and is reclaimed with us
            if not notices:
                await asyncio.sleep(_POLL_SECONDS)

    async def _handle(self, notice: Notice) -> None:
        """Tell of one thing; one that cannot be told must not hold up the others."""
        try:
            await self._tell(notice)
        except StoreUnavailable:
            raise
        except Exception as error:
            self._log("notice failed", level="error", id=_id(notice), traceback=traceback.format_exc())
            is_last = notice.attempts + 1 >= _MOST_ATTEMPTS
            await self._outbox.failed(notice, repr(error), None if is_last else _RETRY_SECONDS)

    async def _tell(self, notice: Notice) -> None:
        lease = self._lease if self._has_room() else None
        report = self._bounce_mail.report(notice, time.time_ns() // 1000, lease)
        if not await self._outbox.done(notice, report) or report is None:
            return
        self._log(
            "reported",
            kind=notice.kind,
            id=_id(notice),
            report=ses_message_id(report.message.id),
            to=report.recipients[0].address,
        )
        if lease is not None:
            self._offer(Consignment(report.message, report.recipients, lease))


def _id(notice: Notice) -> str:
    """The id of the message that it is about."""
    return ses_message_id(notice.message_id)
