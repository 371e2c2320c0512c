"""The part of SNS's HTTP interface that who is told of events needs: certificate, confirming, unsubscribing.

Programs fetch the URLs in our messages, or call the same by POST as the AWS SDKs do, and get SNS's XML; what
they show (the token, the subscription's ARN) is the secret, so there is no signature to check.  People who
follow the link in a mail get a page with a button: scanners of mail follow links too, and change nothing.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from xml.sax.saxutils import escape as escape_xml

from relay.console.guesses import Guesses
from relay.console.page import page
from relay.control import topics
from relay.control.ground import ControlError, Ground, StoreUnavailable
from relay.control.topics import Subscribed
from relay.httpd import Request, Response, Route, plain

_NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"
_XML = "text/xml; charset=utf-8"
# A certificate never changes under its name.
_FOR_A_DAY = {"cache-control": "public, max-age=86400"}

_ASK = """\
<p>{question}</p>
<dl><dt>Topic</dt><dd>{topic}</dd><dt>Address</dt><dd><strong>{address}</strong></dd></dl>
<p>If you do not know what this is about, close this page: nothing happens then.</p>
<form method="post">
<input type="hidden" name="page" value="1">
<button>{button}</button>
</form>"""


@dataclass(frozen=True, slots=True)
class _Call:
    """A call by its action: what finds the subscription that it is about, and what is done with it."""

    find: Callable[[Ground, dict[str, str]], Subscribed]
    do: Callable[[Ground, dict[str, str]], str]
    question: str
    button: str
    done: str


class SNSDesk:
    """Answers for one worker process.  ``ground.actor`` is who the audit names, with the address."""

    def __init__(self, ground: Ground, log: Callable[..., None]) -> None:
        self._ground = ground
        self._log = log
        self._guesses = Guesses()

    def routes(self) -> tuple[Route, ...]:
        methods = frozenset({"GET", "POST"})
        return (
            Route("/SimpleNotificationService-{key}.pem", frozenset({"GET"}), self._certificate),
            Route("/sns", methods, self.answer),
            Route("/sns/", methods, self.answer),
        )

    async def _certificate(self, request: Request) -> Response:
        try:
            key_id = int(request.parameters["key"], 16)
        except ValueError:
            key_id = -1
        if not 0 <= key_id < 1 << 63:
            return plain(404, "There is no such certificate.")
        try:
            pem = await asyncio.to_thread(topics.certificate, self._ground, key_id)
        except StoreUnavailable:
            return plain(503, "The gateway cannot look it up at present.", {"retry-after": "60"})
        if pem is None:
            return plain(404, "There is no such certificate.")
        return Response(200, pem.encode(), "application/x-pem-file", _FOR_A_DAY)

    async def answer(self, request: Request) -> Response:
        """A call without a signature."""
        fields = {**request.query_fields(), **(request.form_fields() if request.method == "POST" else {})}
        action = fields.get("Action", "")
        call = _CALLS.get(action)
        if call is None:
            return _error(400, "InvalidAction", "ConfirmSubscription and Unsubscribe are answered here")
        wait_seconds = self._guesses.wait_seconds(request.client, time.monotonic())
        if wait_seconds:
            again = {"retry-after": str(wait_seconds)}
            return _error(429, "Throttled", "Too many wrong calls; try again later", again)
        ground = replace(self._ground, actor=f"{self._ground.actor} from {request.client}")
        try:
            return await self._perform(ground, request, call, action, fields)
        except ControlError as error:
            self._guesses.note_wrong(request.client, time.monotonic())
            if "page" in fields:
                return page(404, "This link does nothing any more", f"<p>{escape(error.text)}</p>")
            status, code = (404, "NotFound") if error.code == "not_found" else (400, "InvalidParameter")
            return _error(status, code, error.text)
        except StoreUnavailable:
            text = "The gateway cannot look it up at present"
            return _error(503, "ServiceUnavailable", text, {"retry-after": "60"})

    async def _perform(
        self, ground: Ground, request: Request, call: _Call, action: str, fields: dict[str, str]
    ) -> Response:
        one = await asyncio.to_thread(call.find, ground, fields)
        if request.method == "GET" and one.row.protocol == "email":
            return _question(call, one)
        arn = await asyncio.to_thread(call.do, ground, fields)
        self._log("subscription", action=action, subscription=arn)
        if "page" in fields:
            return page(200, "Done", f"<p>{call.done}</p>")
        return _result(action, arn)


def _confirm(ground: Ground, fields: dict[str, str]) -> str:
    return topics.confirm(ground, fields["Token"], fields.get("TopicArn"))


def _unsubscribe(ground: Ground, fields: dict[str, str]) -> str:
    topics.unsubscribe(ground, fields["SubscriptionArn"])
    return fields["SubscriptionArn"]


_CALLS = {
    "ConfirmSubscription": _Call(
        lambda ground, fields: topics.find_by_token(ground, fields.get("Token", "")),
        _confirm,
        "Shall this address be told of bounces, complaints and other events of this topic?",
        "Confirm the subscription",
        "The subscription is confirmed. You can close this page.",
    ),
    "Unsubscribe": _Call(
        lambda ground, fields: topics.find(ground, fields.get("SubscriptionArn", "")),
        _unsubscribe,
        "Shall this address get no more notifications of this topic?",
        "Unsubscribe",
        "No more notifications are sent to you. You can close this page.",
    ),
}


def _question(call: _Call, one: Subscribed) -> Response:
    body = _ASK.format(
        question=call.question,
        topic=escape(f"{one.topic.name} of account {one.topic.account_id}"),
        address=escape(one.row.endpoint),
        button=call.button,
    )
    return page(200, call.button, body)


def _result(action: str, arn: str) -> Response:
    inner = (
        f"<ConfirmSubscriptionResult><SubscriptionArn>{escape_xml(arn)}</SubscriptionArn>"
        "</ConfirmSubscriptionResult>"
        if action == "ConfirmSubscription"
        else ""
    )
    request_id = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
    text = f'<{action}Response xmlns="{_NAMESPACE}">{inner}{request_id}</{action}Response>'
    return Response(200, text.encode(), _XML)


def _error(status: int, code: str, text: str, headers: dict[str, str] | None = None) -> Response:
    fault = "Sender" if status < 500 else "Receiver"
    body = (
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>{fault}</Type><Code>{code}</Code>'
        f"<Message>{escape_xml(text)}</Message></Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    )
    return Response(status, body.encode(), _XML, headers or {})
