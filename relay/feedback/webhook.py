"""``webhook``: the event as plain JSON, signed by the Standard Webhooks scheme.

The signature is HMAC-SHA256 over ``id.timestamp.body``; the timestamp is that of the attempt, the id that of
the notification whatever the attempt (standardwebhooks.com, version 1).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from relay.feedback import envelope, sns_message
from relay.feedback.http import authorization, send
from relay.feedback.posting import Post
from relay.httpc import Client, Connections
from relay.queue.values import NewMessage
from relay.store.secrets import Secrets


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


@dataclass(frozen=True, slots=True)
class Webhook:
    """The protocol, for one worker process."""

    client: Client
    secrets: Secrets
    seconds: float

    def lane(self, connections: int) -> WebhookLane:
        return WebhookLane(self, self.client.connections(connections))


class WebhookLane:
    """The connections to one receiver."""

    at_once: ClassVar[int] = 1

    def __init__(self, way: Webhook, connections: Connections) -> None:
        self._way = way
        self._connections = connections

    async def post(self, these: Sequence[Post]) -> NewMessage | None:
        [one] = these
        known = sns_message.known(self._way.secrets, one)
        body, at = envelope.document(one.notification.body), int(time.time())
        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", "relay"),
            ("webhook-id", one.message_id),
            ("webhook-timestamp", str(at)),
            ("webhook-signature", signature(base64.b64decode(known["key"]), one.message_id, at, body)),
            *authorization(known),
        ]
        await send(self._connections, one, headers, body, self._way.seconds)
        return None

    async def aclose(self) -> None:
        await self._connections.aclose()
