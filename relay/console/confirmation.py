"""The page behind the link that is mailed to an address: a button confirms it (R2).

Mail scanners and previews follow links, so to look confirms nothing: only what the button sends does.
A code that is wrong, late, used or forged gets one and the same page, which tells nothing of which.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from html import escape

from relay.console.guesses import Guesses
from relay.console.page import page
from relay.control import confirmation
from relay.control.confirmation import IdentityRow
from relay.control.ground import ControlError, Ground, StoreUnavailable
from relay.httpd import Request, Response, Route

_ASK = """\
<p>Account <strong>{account}</strong> wants to send mail as this address through {hostname}.</p>
<dl><dt>Address</dt><dd><strong>{address}</strong></dd></dl>
<p>If you agree, confirm it. If you do not know what this is about, close this page:
nothing happens then.</p>
<form method="post">
<input type="hidden" name="code" value="{code}">
<button>Confirm this address</button>
</form>"""

_DONE = """\
<p>Account <strong>{account}</strong> may now send mail as <strong>{address}</strong>.
You can close this page.</p>"""

_WRONG = """\
<p>No address waits for this code: it was used already, is too old, was replaced by a newer one, or is not
complete.</p>
<p>If you confirmed the address before, all is well. Otherwise use the link in the newest mail, or ask whoever
wants to send as your address to have a new one mailed to you.</p>"""

_WAIT = (
    "<p>Too many wrong codes came from your network. Open the link in the mail again in a few minutes.</p>"
)

_AWAY = "<p>The gateway cannot look it up at present. Nothing is lost: try again in a few minutes.</p>"


class ConfirmationPages:
    """``/confirm``: GET asks, POST confirms.  ``ground.actor`` is who the audit names, with the address."""

    def __init__(self, ground: Ground, log: Callable[..., None]) -> None:
        self._ground = ground
        self._log = log
        self._guesses = Guesses()
        # One look-up at a time: strangers at this door must not take the threads that mail needs.
        self._turn = asyncio.Lock()

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("/confirm", frozenset({"GET"}), self._ask),
            Route("/confirm", frozenset({"POST"}), self._confirm),
        )

    async def _ask(self, request: Request) -> Response:
        code = request.query_fields().get("code", "")
        return await self._answer(request, code, confirmation.find, self._question)

    async def _confirm(self, request: Request) -> Response:
        code = request.form_fields().get("code", "")
        return await self._answer(request, code, confirmation.confirm, self._thanks)

    async def _answer(
        self,
        request: Request,
        code: str,
        operation: Callable[[Ground, str], IdentityRow],
        show: Callable[[IdentityRow, str], Response],
    ) -> Response:
        """The page for what the operation finds, or the one that says why nothing was found."""
        wait_seconds = self._guesses.wait_seconds(request.client, time.monotonic())
        if wait_seconds:
            return page(429, "Please wait", _WAIT, {"retry-after": str(wait_seconds)})
        ground = replace(self._ground, actor=f"{self._ground.actor} from {request.client}")
        try:
            async with self._turn:
                asked = await asyncio.to_thread(operation, ground, code)
        except ControlError:
            self._guesses.note_wrong(request.client, time.monotonic())
            return page(404, "This link does not confirm anything", _WRONG)
        except StoreUnavailable:
            return page(503, "Please try again later", _AWAY, {"retry-after": "60"})
        return show(asked, code)

    def _question(self, asked: IdentityRow, code: str) -> Response:
        body = _ASK.format(
            account=escape(asked.account_id),
            hostname=escape(self._ground.hostname),
            address=escape(asked.name),
            code=escape(code),
        )
        return page(200, "Confirm your address", body)

    def _thanks(self, asked: IdentityRow, _code: str) -> Response:
        self._log("verification", account=asked.account_id, identity=asked.name, status="SUCCESS")
        body = _DONE.format(account=escape(asked.account_id), address=escape(asked.name))
        return page(200, "The address is confirmed", body)
