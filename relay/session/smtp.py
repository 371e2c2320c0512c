"""One SMTP session: the commands, in the order of RFC 5321 and with SES's replies and limits.

Data ends at CRLF.CRLF and nowhere else, and is handed on octet by octet as it came.  One reset ends every
transaction, whatever way it went.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import traceback

from relay.intake import Receipt
from relay.session import replies
from relay.session.handler import Handler
from relay.session.origin import Arrival
from relay.session.replies import Reply
from relay.session.sasl import MECHANISMS, Cancelled, SASLError, exchange
from relay.session.stream import LONGEST_AUTH_LINE, SMTPStream
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
_END_OF_DATA = b"\r\n.\r\n"
_is_helo = re.compile(r"[!-~]{1,255}").fullmatch


class SMTPSession(SMTPStream):
    """The server's side of one connection."""

    def __init__(
        self,
        handler: Handler,
        tls_context: ssl.SSLContext,
        sessions: set[SMTPStream],
        arrival: Arrival,
    ) -> None:
        super().__init__(handler, tls_context, sessions, arrival)
        self._failed_logins = 0
        self._forget_client()

    def _forget_client(self) -> None:
        """What the client said so far counts no more (RFC 3207 section 4.2)."""
        self._helo = ""
        self._is_extended = False
        self._principal: Principal | None = None
        self._reset()

    def _reset(self) -> None:
        """The one way out of a transaction."""
        self._mail: MailCommand | None = None
        self._recipients: list[Mailbox] = []
        self._has_bad_recipient = False

    def _in_transaction(self) -> bool:
        return self._mail is not None

    # ------------------------------------------------------------ greeting and TLS

    async def smtp_HELO(self, argument: str) -> None:
        if self._greeted(argument, extended=False):
            self._say(replies.reply(250, "", self._settings.hostname))

    async def smtp_EHLO(self, argument: str) -> None:
        if not self._greeted(argument, extended=True):
            return
        offers = ["8BITMIME", f"SIZE {self._settings.max_message_bytes}", "PIPELINING"]
        if self._tls_version is None:
            offers.append("STARTTLS")
        if self._may_authenticate():
            offers.append("AUTH " + " ".join(MECHANISMS))
        if self._settings.enhanced_status_codes:
            offers.append("ENHANCEDSTATUSCODES")
        self._say(replies.reply(250, "", self._settings.hostname, *offers, "Ok"))

    def _greeted(self, argument: str, *, extended: bool) -> bool:
        if not _is_helo(argument):
            self._say(replies.NO_HELO)
            return False
        self._reset()
        self._helo, self._is_extended = argument, extended
        return True

    async def smtp_STARTTLS(self, argument: str) -> None:
        if argument:
            self._say(replies.NO_ARGUMENT)
        elif self._tls_version is not None:
            self._say(replies.TLS_ALREADY)
        elif self._buffered:
            # CVE-2011-0411: what was sent along in plaintext must not be read as if it came under TLS.
            self._say_last(replies.STARTTLS_INJECTION)
        else:
            self._say(replies.START_TLS)
            await self._start_tls()
            self._forget_client()

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
        else:
            self._principal = result
            self._say(replies.AUTHENTICATED)

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
        self._data_began = (self.loop.time(), self._octets)
        try:
            await self._read_data(receipt)
        except BaseException as error:
            self._handler.abandon(receipt)
            if isinstance(error, Exception) and not isinstance(error, ConnectionError):
                # We no longer know where in the data we are: the session cannot go on.
                self._handler.log("session failed", level="error", traceback=traceback.format_exc())
                self._say(replies.TRY_LATER)
                raise ConnectionAbortedError from error
            raise
        finally:
            self._data_began = None
        if self._has_bad_recipient:
            self._handler.abandon(receipt)
            return self._handler.refuse_envelope(self._principal, client)
        # A client that goes away now does not undo what is being committed.
        return await asyncio.shield(self._handler.finish(receipt))

    def _say_answer(self, answer: Answer) -> None:
        """Answer a message; a refused one is no misuse of the session."""
        self._out.append(self._encoded(replies.answer(answer)))
        if isinstance(answer, Refused) and answer.reason is Reason.CREDENTIAL:
            self._closing = True

    @property
    def _protocol(self) -> str:
        """The keyword for the Received field (RFC 3848)."""
        return "ESMTPSA" if self._tls_version is not None else "ESMTPA"

    async def _read_data(self, receipt: Receipt) -> None:
        """Hand over the octets up to CRLF.CRLF, without the dots that hid dots (RFC 5321 section 4.5.2).

        A CRLF is put in front, so that the end is found at the very start too; each piece ends before a
        CRLF, so that none splits a line end from the dot behind it.
        """
        self._buffered[:0] = b"\r\n"
        skip = 2
        while True:
            try:
                piece = await self._reader.readuntil(_END_OF_DATA)
            except asyncio.IncompleteReadError as error:
                raise ConnectionAbortedError from error
            except asyncio.LimitOverrunError as error:
                end = self._buffered.rfind(b"\r\n", 0, error.consumed)
                piece = await self._reader.readexactly(end if end > 0 else error.consumed)
                await receipt.write(_unstuffed(piece)[skip:])
                skip = 0
                continue
            await receipt.write(_unstuffed(piece[:-3])[skip:])
            return

    # ------------------------------------------------------------ the rest

    async def smtp_RSET(self, argument: str) -> None:
        if argument:
            self._say(replies.NO_ARGUMENT)
            return
        self._reset()
        self._say(replies.OK)

    async def smtp_NOOP(self, argument: str) -> None:
        self._say(replies.OK)

    async def smtp_QUIT(self, argument: str) -> None:
        if argument:
            self._say(replies.NO_ARGUMENT)
        else:
            self._say_last(replies.BYE)

    async def smtp_VRFY(self, argument: str) -> None:
        self._say(replies.CANNOT_VERIFY)

    async def smtp_EXPN(self, argument: str) -> None:
        self._say(replies.NOT_IMPLEMENTED)

    async def smtp_HELP(self, argument: str) -> None:
        self._say(replies.NOT_IMPLEMENTED)


def _unstuffed(piece: bytes) -> bytes:
    return piece.replace(b"\r\n.", b"\r\n") if b"\r\n." in piece else piece
