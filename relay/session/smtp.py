"""One SMTP session: the commands, in the order of RFC 5321 and with SES's replies and limits.

One reset ends every transaction, whatever way it went.
"""

from __future__ import annotations

from relay.session import replies
from relay.session.commands import SMTPCommands
from relay.session.handler import Handler, SessionSettings
from relay.session.replies import Reply
from relay.session.sasl import MECHANISMS, Cancelled, SASLError, exchange
from relay.session.stream import LONGEST_AUTH_LINE
from relay.submission.address import Mailbox
from relay.submission.answer import Answer, Reason, Refused
from relay.submission.envelope import (
    CommandError,
    Envelope,
    MailCommand,
    parse_mail,
    parse_rcpt,
)
from relay.submission.principal import Principal
from relay.submission.submission import Client

# More than any client needs and as many as a reply to the dot can still be about (design, section 5).
_MOST_RECIPIENTS = 1000


class SMTPSession(SMTPCommands):
    """The server's side of one connection."""

    _handler: Handler
    _settings: SessionSettings
    _failed_logins = 0
    _principal: Principal | None = None

    def _forget_client(self) -> None:
        self._log_out()
        self._principal = None
        super()._forget_client()

    def connection_lost(self, error: Exception | None) -> None:
        self._log_out()
        super().connection_lost(error)

    def _log_out(self) -> None:
        """The connection counts no more as its account's."""
        if self._principal is not None:
            self._handler.connections.log_out(self._principal.account_id)

    def _reset(self) -> None:
        """The one way out of a transaction."""
        self._mail: MailCommand | None = None
        self._recipients: list[Mailbox] = []
        self._has_bad_recipient = False

    def _in_transaction(self) -> bool:
        return self._mail is not None

    # ------------------------------------------------------------ greeting

    def _offers(self) -> list[str]:
        offers = super()._offers()
        if self._may_authenticate():
            offers.append("AUTH " + " ".join(MECHANISMS))
        return offers

    def _may_authenticate(self) -> bool:
        """Under TLS; without it only on the loopback interface, if the operator wants that."""
        if self._tls_version is not None:
            return True
        return self._settings.allow_plaintext_auth and self._origin.is_local

    # ------------------------------------------------------------ AUTH

    async def smtp_AUTH(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        name = mechanism.upper()
        refusal = self._auth_refusal(name)
        if refusal is not None:
            self._say(refusal)
            return
        try:
            result = await self._log_in(name, initial.encode("ascii") if initial else None)
        except Cancelled:
            result = replies.AUTH_CANCELLED
        except SASLError:
            result = replies.BAD_BASE64
        if isinstance(result, Reply):
            self._failed_login(result)
            return
        self._principal = result
        if self._handler.connections.log_in(result.account_id):
            self._say(replies.AUTHENTICATED)
        else:
            self._handler.log_sparingly("too many connections", account=result.account_id)
            self._say_last(replies.TOO_MANY_OF_ACCOUNT)

    def _auth_refusal(self, mechanism: str) -> Reply | None:
        if not self._may_authenticate():
            return replies.NEEDS_TLS
        if not self._is_extended:
            return replies.NO_EHLO
        if self._principal is not None:
            return replies.ALREADY_AUTHENTICATED
        if self._mail is not None:
            return replies.BAD_SEQUENCE
        return None if mechanism in MECHANISMS else replies.UNKNOWN_MECHANISM

    async def _log_in(self, mechanism: str, initial: bytes | None) -> Principal | Reply:
        dialogue = exchange(mechanism, initial)
        try:
            challenge = next(dialogue)
            while True:
                self._say(replies.challenge(challenge))
                line = await self._read_line()
                if len(line) > LONGEST_AUTH_LINE:
                    return replies.LINE_TOO_LONG
                challenge = dialogue.send(line.rstrip(b"\r\n"))
        except StopIteration as stop:
            return await self._handler.log_in(stop.value, self._origin)

    def _failed_login(self, refusal: Reply) -> None:
        self._say(refusal)
        self._failed_logins += refusal is replies.BAD_CREDENTIALS
        if refusal is replies.LOGINS_REFUSED:
            self._closing = True
        elif self._failed_logins >= self._settings.max_auth_failures:
            self._say_last(replies.TOO_MANY_FAILURES)

    # ------------------------------------------------------------ the envelope

    async def smtp_MAIL(self, argument: str) -> None:
        refusal = self._mail_refusal()
        if refusal is not None:
            self._say(refusal)
            if refusal is replies.BAD_CREDENTIALS:
                self._closing = True
            return
        try:
            self._mail = parse_mail(argument, max_size=self._settings.max_message_bytes)
        except CommandError as error:
            self._say(replies.bad_sender(error))
            return
        self._say(replies.OK)

    def _mail_refusal(self) -> Reply | None:
        if not self._helo:
            return replies.NO_EHLO
        if not self._may_authenticate():
            return replies.NEEDS_TLS
        if self._principal is None:
            return replies.NEEDS_AUTH
        if self._mail is not None:
            return replies.NESTED_MAIL
        if not self._handler.is_current(self._principal, self._origin.ip):
            return replies.BAD_CREDENTIALS
        return self._handler.refusing()

    async def smtp_RCPT(self, argument: str) -> None:
        if self._mail is None:
            self._say(replies.BAD_SEQUENCE)
        elif len(self._recipients) >= _MOST_RECIPIENTS:
            self._say(replies.TOO_MANY_RECIPIENTS)
        else:
            self._recipient(argument)

    def _recipient(self, argument: str) -> None:
        try:
            self._recipients.append(parse_rcpt(argument))
        except CommandError as error:
            self._has_bad_recipient = True
            self._say(replies.bad_recipient(error))
        else:
            self._say(replies.OK)

    # ------------------------------------------------------------ the data

    async def smtp_DATA(self, argument: str) -> None:
        if argument:
            self._say(replies.NO_ARGUMENT)
        elif self._mail is None:
            self._say(replies.BAD_SEQUENCE)
        elif not self._recipients:
            self._say(replies.NO_RECIPIENTS)
        else:
            self._say(replies.START_MAIL)
            await self._flush()
            answer = await self._take_message()
            self._messages += 1
            self._reset()
            self._say_answer(answer)

    async def _take_message(self) -> Answer:
        assert self._principal is not None
        assert self._mail is not None
        client = Client(self._origin.ip, self._helo, self._protocol, self._tls_version)
        envelope = Envelope(self._mail.mailbox, tuple(self._recipients), self._mail.is_8bit, self._mail.size)
        receipt = self._handler.receive(self._principal, client, envelope)
        await self._take_data(receipt.write, lambda: self._handler.abandon(receipt))
        if self._has_bad_recipient:
            self._handler.abandon(receipt)
            return self._handler.refuse_envelope(self._principal, client)
        return await self._undisturbed(self._handler.finish(receipt))

    def _say_answer(self, answer: Answer) -> None:
        """Answer a message; a refused one is no misuse of the session."""
        self._out.append(self._encoded(replies.answer(answer)))
        if isinstance(answer, Refused) and answer.reason is Reason.CREDENTIAL:
            self._closing = True

    @property
    def _protocol(self) -> str:
        """The keyword for the Received field (RFC 3848)."""
        return "ESMTPSA" if self._tls_version is not None else "ESMTPA"
