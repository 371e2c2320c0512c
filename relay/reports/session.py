"""A session of another mail server: it may bring one report at a time, and nothing else.

There is no login and nothing is relayed; whom a report claims to come from decides nothing.
"""

from __future__ import annotations

from relay.queue.reports import Reported
from relay.reports.handler import ReportHandler
from relay.reports.mime import MOST_OCTETS
from relay.session import replies
from relay.session.commands import SMTPCommands
from relay.session.replies import Reply
from relay.submission.envelope import CommandError, parse_mail_of_server, parse_rcpt

_ONE_AT_A_TIME = replies.reply(452, "4.5.3", "One report at a time")
_TOO_LONG = replies.reply(552, "5.3.4", "Message is too long.")


class ReportSession(SMTPCommands):
    """The server's side of one connection."""

    _handler: ReportHandler

    def _reset(self) -> None:
        """The one way out of a transaction."""
        self._has_sender = False
        self._reported: Reported | None = None

    def _in_transaction(self) -> bool:
        return self._has_sender

    async def smtp_AUTH(self, argument: str) -> None:
        self._say(replies.NOT_IMPLEMENTED)

    async def smtp_MAIL(self, argument: str) -> None:
        refusal = self._mail_refusal()
        if refusal is not None:
            self._say(refusal)
            return
        try:
            parse_mail_of_server(argument, max_size=self._settings.max_message_bytes)
        except CommandError as error:
            self._say(replies.bad_sender(error))
            return
        self._has_sender = True
        self._say(replies.OK)

    def _mail_refusal(self) -> Reply | None:
        if not self._helo:
            return replies.NO_EHLO
        return replies.NESTED_MAIL if self._has_sender else self._handler.refusing()

    async def smtp_RCPT(self, argument: str) -> None:
        if not self._has_sender:
            self._say(replies.BAD_SEQUENCE)
        elif self._reported is not None:
            self._say(_ONE_AT_A_TIME)
        else:
            await self._recipient(argument)

    async def _recipient(self, argument: str) -> None:
        try:
            mailbox = parse_rcpt(argument)
        except CommandError as error:
            self._say(replies.bad_recipient(error))
            return
        answer = await self._handler.recipient(mailbox, self._origin.ip)
        if isinstance(answer, Reply):
            self._say(answer)
        else:
            self._reported = answer
            self._say(replies.OK)

    async def smtp_DATA(self, argument: str) -> None:
        if argument:
            self._say(replies.NO_ARGUMENT)
        elif not self._has_sender:
            self._say(replies.BAD_SEQUENCE)
        elif self._reported is None:
            self._say(replies.NO_RECIPIENTS)
        else:
            self._say(replies.START_MAIL)
            await self._flush()
            answer = await self._take_report(self._reported)
            self._messages += 1
            self._reset()
            self._say(answer)

    async def _take_report(self, of: Reported) -> Reply:
        start = _Start()
        await self._take_data(start.write, start.clear)
        if start.size_bytes > self._settings.max_message_bytes:
            return _TOO_LONG
        return await self._undisturbed(self._handler.take(of, bytes(start.octets), self._origin.ip))


class _Start:
    """The beginning of a message, as much as is read of it; the rest is counted and dropped.

    A report often has the whole mail in it that it is about, which may be large.
    """

    def __init__(self) -> None:
        self.octets = bytearray()
        self.size_bytes = 0

    async def write(self, piece: bytes) -> None:
        self.size_bytes += len(piece)
        self.octets += piece[: MOST_OCTETS - len(self.octets)]

    def clear(self) -> None:
        self.octets.clear()
