"""What reports are taken, and what becomes of them: addresses we gave out, and nothing else.

A report is durable before it is answered 250.  What cannot be read or is not believed is answered 250 too
and only logged: to refuse it would have its sender write a bounce about a bounce.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from relay import metrics
from relay.accept.sparing import Sparing
from relay.maillog import Log
from relay.queue.reports import LateReport, Reported, Reports
from relay.queue.values import StoreUnavailable
from relay.reports.belief import believed, is_bad, notice
from relay.reports.reading import read
from relay.reports.report import Kind, Report
from relay.session import replies
from relay.session.limits import Connections
from relay.session.replies import Reply
from relay.signing.return_path import SECONDS_OF_A_DAY, Keys, Rejection, decode
from relay.submission.address import Mailbox
from relay.submission.identifiers import ses_message_id
from relay.submission.principal import Network

# Reading takes up to some tenths of a second of a thread, for mail that was made to be slow.
_READ_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """What is fixed for sessions of other mail servers.  They have few errors and need the codes."""

    hostname: str
    max_message_bytes: int
    idle_seconds: float = 300.0
    max_connections: int = 500
    max_connections_per_address: int = 50
    proxies: tuple[Network, ...] = ()
    max_errors: int = 10
    enhanced_status_codes: bool = True


class ReportHandler:
    """What all sessions of a worker process share.  ``keys`` gives those of return paths."""

    def __init__(
        self,
        settings: ReportSettings,
        keys: Callable[[], Keys],
        reports: Reports,
        is_disk_low: Callable[[], bool],
        log: Log,
    ) -> None:
        self.settings = settings
        self.connections = Connections(settings.max_connections, settings.max_connections_per_address)
        self.log = log
        self.log_sparingly = Sparing(log)
        self._keys = keys
        self._reports = reports
        self._is_disk_low = is_disk_low
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)

    def refusing(self) -> Reply | None:
        """Why no report is taken at present, or None."""
        return _LOW_DISK if self._is_disk_low() else None

    async def recipient(self, to: Mailbox, client: str) -> Reported | Reply:
        """The message that an address of ours was made for, or why it is refused."""
        token = decode(str(to), self._keys(), int(time.time()) // SECONDS_OF_A_DAY)
        if isinstance(token, Rejection):
            return self._refused(to, client, token)
        try:
            found = await self._reports.find(token.message_id)
        except StoreUnavailable as error:
            self.log_sparingly("unavailable", level="error", client=client, error=str(error))
            return replies.TRY_LATER
        if found is None:  # its record is no longer kept
            return self._refused(to, client, Rejection.EXPIRED)
        if found.reverse_path.lower() != str(to).lower():
            return self._refused(to, client, Rejection.NOT_A_TOKEN)
        return found

    def _refused(self, to: Mailbox, client: str, why: Rejection) -> Reply:
        metrics.REPORTS.labels("refused").inc()
        self.log_sparingly("report refused", level="info", client=client, to=str(to), reason=why.value)
        enhanced, text = _REFUSALS[why]
        return replies.reply(550, enhanced, f"<{to}> {text}")

    async def take(self, of: Reported, octets: bytes, client: str) -> Reply:
        """Read, believe, record; the reply to the dot."""
        async with self._reading:
            report = await asyncio.to_thread(read, octets)
        if report is None:
            metrics.REPORTS.labels("unreadable").inc()
            message = ses_message_id(of.message_id)
            self.log_sparingly("report unreadable", level="info", id=message, client=client)
            return replies.OK
        try:
            await self._record(of, report, client)
        except StoreUnavailable as error:
            self.log_sparingly("unavailable", level="error", client=client, error=str(error))
            return replies.TRY_LATER
        return replies.OK

    async def _record(self, of: Reported, report: Report, client: str) -> None:
        at = time.time_ns() // 1000
        concerned = believed(report, of.recipients)
        notices: defaultdict[Kind, dict[int, dict[str, object]]] = defaultdict(dict)
        for to, about in concerned:
            notices[about.kind][to.number] = notice(to, about, report, at, client)
        bad = frozenset(
            (about.kind, to.number)
            for to, about in concerned
            if is_bad(about, is_sure=bool(about.addresses) or len(concerned) == 1)
        )
        if not notices:
            metrics.REPORTS.labels("not_believed").inc()
            named = sorted({address for about in report.about for address in about.addresses})
            message = ses_message_id(of.message_id)
            self.log_sparingly(
                "report not believed", level="info", id=message, client=client, named=" ".join(named)
            )
        for kind, those in notices.items():
            new = set(those)
            # Somebody else keeps trying: nothing is final, and there is nothing to tell.
            if kind is not Kind.DELAY:
                suppressed = frozenset(number for number in those if (kind, number) in bad)
                late = LateReport(of, kind.value, at, those, suppressed)
                new = set(await self._reports.record(late))
            self._log_taken(of, kind, [those[number] for number in new], client)

    def _log_taken(self, of: Reported, kind: Kind, notices: list[dict[str, object]], client: str) -> None:
        for one in notices:
            metrics.REPORTS.labels(kind.value).inc()
            self.log(
                "report taken",
                kind=kind.value,
                id=ses_message_id(of.message_id),
                to=one["address"],
                status=one["status"],
                reason=one["text"],
                client=client,
            )


_LOW_DISK = replies.reply(452, "4.3.1", "Insufficient system storage")
_REFUSALS = {
    Rejection.NOT_A_TOKEN: ("5.1.1", "is no mailbox: only reports on mail from here are taken"),
    Rejection.UNKNOWN_KEY: ("5.7.1", "was not given out here"),
    Rejection.FORGED: ("5.7.1", "was not given out here"),
    Rejection.EXPIRED: ("5.7.1", "is too old: reports on that mail are no longer taken"),
}
