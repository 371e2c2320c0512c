"""``http`` and ``https``: as SNS posts to an endpoint, so that programs written for it read it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from relay.feedback import envelope, sns_message
from relay.feedback.posting import NotPosted, Post
from relay.feedback.signer import Signer
from relay.httpc import Answer, Client, Connections, NotReached, parse_url
from relay.queue.values import NewMessage
from relay.store.secrets import Secrets

# More of an answer than this nobody needs; what comes after it is not read.
MOST_ANSWER_BYTES = 64 * 1024
_AGENT = "Amazon Simple Notification Service Agent"


@dataclass(frozen=True, slots=True)
class HTTP:
    """The protocol, for one worker process; ``seconds`` is the longest wait for an answer."""

    client: Client
    signer: Signer
    secrets: Secrets
    seconds: float

    def lane(self, connections: int) -> HTTPLane:
        return HTTPLane(self, self.client.connections(connections))


class HTTPLane:
    """The connections to one endpoint."""

    at_once: ClassVar[int] = 1

    def __init__(self, way: HTTP, connections: Connections) -> None:
        self._way = way
        self._connections = connections

    async def post(self, these: Sequence[Post]) -> NewMessage | None:
        [one] = these
        known = sns_message.known(self._way.secrets, one)
        kind = sns_message.kind(one)
        headers = _headers(one, kind)
        if one.to.row.raw_delivery and kind == envelope.NOTIFICATION:
            headers.append(("x-amz-sns-rawdelivery", "true"))
            body = one.notification.body.encode()
        else:
            body = await sns_message.compose(one, self._way.signer, known.get("token", ""))
        headers += authorization(known)
        await send(self._connections, one, headers, body, self._way.seconds)
        return None

    async def aclose(self) -> None:
        await self._connections.aclose()


def _headers(one: Post, kind: str) -> list[tuple[str, str]]:
    headers = [
        ("Content-Type", "text/plain; charset=UTF-8"),
        ("User-Agent", _AGENT),
        ("x-amz-sns-message-type", kind),
        ("x-amz-sns-message-id", one.message_id),
        ("x-amz-sns-topic-arn", one.topic_arn),
    ]
    if kind != envelope.CONFIRMATION:
        headers.append(("x-amz-sns-subscription-arn", one.subscription_arn))
    return headers


def authorization(known: dict[str, str]) -> list[tuple[str, str]]:
    """The user and password that stood in the endpoint's URL, if any (RFC 7617)."""
    if "basic" not in known:
        return []
    return [("Authorization", f"Basic {base64.b64encode(known['basic'].encode()).decode()}")]


async def send(
    connections: Connections, one: Post, headers: list[tuple[str, str]], body: bytes, seconds: float
) -> None:
    """POST it; NotPosted unless the answer is 2xx."""
    to = parse_url(one.to.row.endpoint)
    if to is None:
        raise NotPosted(f"{one.to.row.endpoint} is no URL")
    try:
        answer = await connections.request(
            "POST", to, headers, body, seconds=seconds, most_bytes=MOST_ANSWER_BYTES
        )
    except NotReached as error:
        raise NotPosted(str(error)) from error
    if not 200 <= answer.status <= 299:
        raise NotPosted(_words(answer))


def _words(answer: Answer) -> str:
    if 300 <= answer.status <= 399:
        return f"{answer.status}: redirects are not followed, give the final URL"
    said = " ".join(answer.body[:200].decode("utf-8", "replace").split())
    return f"{answer.status} {said}".strip()
