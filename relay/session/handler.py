"""From the session's hooks to the accept path and back to replies; nothing is decided here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from relay import metrics
from relay.accept.origin import Origin
from relay.accept.sparing import Sparing
from relay.control.authentication import Failure
from relay.intake import Intake
from relay.maillog import Log
from relay.receipt import Receipt
from relay.session import replies
from relay.session.limits import Connections, Logins
from relay.session.replies import Reply
from relay.session.sasl import Login
from relay.submission.answer import Answer, Reason, Refused
from relay.submission.envelope import Envelope
from relay.submission.principal import Network, Principal
from relay.submission.submission import Client

# StoreUnavailable is raised by it when nobody can tell whether the login is right.
Authenticate = Callable[[str, bytes, str], Awaitable[Principal | Failure]]


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What the operator fixed for sessions."""

    hostname: str
    max_message_bytes: int
    max_connections: int = 2000
    max_connections_per_address: int = 100
    idle_seconds: float = 300.0
    max_auth_failures: int = 5
    max_auth_failures_per_address: int = 30
    auth_failures_seconds: float = 900.0
    proxies: tuple[Network, ...] = ()
    max_errors: int = 20
    allow_plaintext_auth: bool = False
    enhanced_status_codes: bool = False


class Handler:
    """What all sessions of a worker process share."""

    def __init__(
        self,
        settings: SessionSettings,
        intake: Intake,
        authenticate: Authenticate,
        unavailable: type[Exception],
        log: Log,
    ) -> None:
        self.settings = settings
        self.connections = Connections(settings.max_connections, settings.max_connections_per_address)
        self.log = log
        self.log_sparingly = Sparing(log)
        self._intake = intake
        self._authenticate = authenticate
        self._unavailable = unavailable
        self._logins = Logins(settings.max_auth_failures_per_address, settings.auth_failures_seconds)

    async def log_in(self, login: Login, origin: Origin) -> Principal | Reply:
        """The principal, or the reply to a failed login, which comes later with each failure."""
        is_over = self._logins.is_over(origin.network, time.monotonic())
        if is_over and not self._logins.is_known(origin.network, login.username):
            metrics.LOGINS_REFUSED.inc()
            return replies.LOGINS_REFUSED
        try:
            result = await self._authenticate(login.username, login.password, origin.ip)
        except self._unavailable as error:
            self.log_sparingly("unavailable", level="error", client=origin.ip, error=str(error))
            return replies.AUTH_UNAVAILABLE
        if isinstance(result, Principal) and not login.is_foreign:
            self._logins.succeeded(origin.network, login.username)
            return result
        metrics.AUTH_FAILURES.inc()
        why = result.value if isinstance(result, Failure) else "wants to act as another"
        self.log_sparingly("login failed", client=origin.ip, user=login.username, reason=why)
        # Refused as the others of that network are, so that nobody learns who has logged in from there.
        return replies.LOGINS_REFUSED if is_over else await self._late_refusal(login, origin)

    async def _late_refusal(self, login: Login, origin: Origin) -> Reply:
        now = time.monotonic()
        delay = self._logins.failed(origin.network, login.username, now)
        if self._logins.is_over(origin.network, now):
            self.log_sparingly("logins refused", network=origin.network)
        with self._logins.waiting(origin.network):
            await asyncio.sleep(delay)
        return replies.BAD_CREDENTIALS

    def is_current(self, principal: Principal, source_ip: str) -> bool:
        """Whether the credential still holds, as far as is known here."""
        return self._intake.directory.is_current(principal, source_ip)

    def refusing(self) -> Reply | None:
        """Why no mail is taken at present, or None."""
        refused = self._intake.refusing()
        if refused is None:
            return None
        metrics.REFUSED.labels(refused.reason.value).inc()
        return replies.refusal(refused)

    def receive(self, principal: Principal, client: Client, envelope: Envelope) -> Receipt:
        """Begin to take the octets of one message; ``finish`` or ``abandon`` must follow."""
        self._intake.transaction_opened()
        return self._intake.receive(principal, client, envelope)

    async def finish(self, receipt: Receipt) -> Answer:
        """The answer to the message, and the end of its transaction."""
        try:
            return await receipt.finish()
        finally:
            self._intake.transaction_closed()

    def abandon(self, receipt: Receipt) -> None:
        receipt.abandon()
        self._intake.transaction_closed()

    def refuse_envelope(self, principal: Principal, client: Client) -> Refused:
        """A recipient of the message was no address: the whole message is refused (SES, SendRawEmail)."""
        refused = Refused(Reason.BAD_RECIPIENT, "Invalid recipient address")
        metrics.REFUSED.labels(refused.reason.value).inc()
        return self._intake.refused(principal, client, refused)
