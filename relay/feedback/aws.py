"""``sns`` and ``sqs``: to a topic or queue at AWS, or at what speaks its language.

boto3 is an extra of the installation (``relay[aws]``), loaded when the first subscription needs it, and works
in threads of its own.  Credentials are found as boto3 finds them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, ClassVar

from relay.feedback import envelope, sns_message
from relay.feedback.posting import NotPosted, Post
from relay.feedback.signer import Signer
from relay.queue.values import NewMessage

_NEEDS = "sns and sqs need boto3, which is not installed: pip install 'relay[aws]'"


@dataclass(frozen=True, slots=True)
class AWS:
    """Both protocols.  It is its own lane: boto3 keeps the connections.  ``endpoint_url`` empty is AWS."""

    signer: Signer
    endpoint_url: str
    seconds: float
    threads: Executor
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)
    _queues: dict[str, str] = field(default_factory=dict)
    _making: threading.Lock = field(default_factory=threading.Lock)
    at_once: ClassVar[int] = 1

    def lane(self, connections: int) -> AWS:
        return self

    async def post(self, these: Sequence[Post]) -> NewMessage | None:
        [one] = these
        message = one.notification.body
        if one.to.row.protocol == "sqs" and not one.to.row.raw_delivery:
            message = (await sns_message.compose(one, self.signer)).decode()
        await asyncio.get_running_loop().run_in_executor(self.threads, self._send, one, message)
        return None

    async def aclose(self) -> None:
        pass

    def _send(self, one: Post, message: str) -> None:
        try:
            import boto3  # noqa: F401
            from boto3.exceptions import Boto3Error
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise NotPosted(_NEEDS) from error
        try:
            if one.to.row.protocol == "sns":
                self._publish(one, message)
            else:
                self._enqueue(one, message)
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise NotPosted(str(error)) from error

    def _publish(self, one: Post, message: str) -> None:
        arn = one.to.row.endpoint
        subject = envelope.subject(message)
        named = {"Subject": subject} if subject else {}
        self._client("sns", arn.split(":")[3]).publish(TopicArn=arn, Message=message, **named)

    def _enqueue(self, one: Post, message: str) -> None:
        arn = one.to.row.endpoint
        client = self._client("sqs", arn.split(":")[3])
        if arn not in self._queues:
            account_id, name = arn.split(":")[4:6]
            found = client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account_id)
            self._queues[arn] = found["QueueUrl"]
        client.send_message(QueueUrl=self._queues[arn], MessageBody=message)

    def _client(self, service: str, region: str) -> Any:
        import boto3
        from botocore.config import Config

        with self._making:  # making one is not safe among threads, using it is
            if (service, region) not in self._clients:
                limits = Config(
                    connect_timeout=self.seconds,
                    read_timeout=self.seconds,
                    retries={"total_max_attempts": 1},  # ours are durable
                )
                self._clients[service, region] = boto3.client(
                    service, region_name=region, endpoint_url=self.endpoint_url or None, config=limits
                )
            return self._clients[service, region]
