"""What all our SMTP servers do alike: greeting, STARTTLS, reading the data, the commands without effect.

Data ends at CRLF.CRLF and nowhere else, and is handed on octet by octet as it came.  Who may send, and
what becomes of it, is the subclass's.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import traceback
from collections.abc import Awaitable, Callable

from relay.session import replies
from relay.session.stream import Arrival, Host, SMTPStream

Write = Callable[[bytes], Awaitable[None]]

_END_OF_DATA = b"\r\n.\r\n"
_is_helo = re.compile(r"[!-~]{1,255}").fullmatch


class SMTPCommands(SMTPStream):
    """A session that does nothing with mail yet."""

    def __init__(
        self, handler: Host, tls_context: ssl.SSLContext, sessions: set[SMTPStream], arrival: Arrival
    ) -> None:
        super().__init__(handler, tls_context, sessions, arrival)
        self._forget_client()

    def _forget_client(self) -> None:
        """What the client said so far counts no more (RFC 3207 section 4.2)."""
        self._helo = ""
        self._is_extended = False
        self._reset()

    # ------------------------------------------------------------ greeting and TLS

    async def smtp_HELO(self, argument: str) -> None:
        if self._greeted(argument, extended=False):
            self._say(replies.reply(250, "", self._settings.hostname))

    async def smtp_EHLO(self, argument: str) -> None:
        if not self._greeted(argument, extended=True):
            return
        self._say(replies.reply(250, "", self._settings.hostname, *self._offers(), "Ok"))

    def _offers(self) -> list[str]:
        """The extensions in the answer to EHLO."""
        offers = ["8BITMIME", f"SIZE {self._settings.max_message_bytes}", "PIPELINING"]
        if self._tls_version is None:
            offers.append("STARTTLS")
        if self._settings.enhanced_status_codes:
            offers.append("ENHANCEDSTATUSCODES")
        return offers

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

    # ------------------------------------------------------------ the data

    async def _take_data(self, write: Write, abandon: Callable[[], None]) -> None:
        """Hand over the octets of a message; whatever ends that early abandons it."""
        self._data_began = (self.loop.time(), self._octets)
        try:
            await self._read_data(write)
        except BaseException as error:
            abandon()
            if isinstance(error, Exception) and not isinstance(error, ConnectionError):
                # We no longer know where in the data we are: the session cannot go on.
                self._handler.log("session failed", level="error", traceback=traceback.format_exc())
                self._say(replies.TRY_LATER)
                raise ConnectionAbortedError from error
            raise
        finally:
            self._data_began = None

    async def _read_data(self, write: Write) -> None:
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
                await write(_unstuffed(piece)[skip:])
                skip = 0
                continue
            await write(_unstuffed(piece[:-3])[skip:])
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
