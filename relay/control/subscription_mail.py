"""The mail that asks an address whether it wants the notifications of a topic."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from urllib.parse import urlencode

import orjson

from relay.control.ground import Ground, now
from relay.queue.spool import NewMessage, insert_messages
from relay.queue.values import QueuedMessage, QueuedRecipient
from relay.store.changes import ControlWrite
from relay.store.topics import Subscribed, topic_arn
from relay.submission.identifiers import ses_message_id

_TEXT = """\
Account {account} wants to send the notifications of its topic

    {topic}

of bounces, complaints and other events of mail, to {address}
through {hostname}.

If you agree, {way}:

    relay topic confirm {token}

The code serves until {until:%Y-%m-%d %H:%M} UTC.
If you do not know what this is about, do nothing: nothing more is sent then.
"""
_BY_CODE = "confirm with this code, or give it to whoever runs the relay"
_BY_LINK = """\
open this page and press its button:

    {link}

or give this code to whoever runs the relay"""


def ask(ground: Ground, write: ControlWrite, one: Subscribed, token: str) -> None:
    """Mail the token to the address, by our own queue and from the null sender."""
    message_id, at, row = ground.new_id(), now(), one.row
    arn = topic_arn(ground.region, one.topic.account_id, one.topic.name)
    until = row.expires_at or at
    octets = _octets(ground, one, arn, token, at, ses_message_id(message_id))
    head, _, body = octets.partition(b"\r\n\r\n")
    message = QueuedMessage(
        id=message_id,
        account_id=row.account_id,
        identity_arn=arn,
        reverse_path="",
        return_path="",
        configuration_set=None,
        received_at=at,
        expires_at=until,
        size_bytes=len(octets),
        header=head + b"\r\n",
        body=(body,),
        chunks=1,
    )
    to = QueuedRecipient(0, row.endpoint, row.endpoint.rpartition("@")[2])
    record = orjson.dumps({"confirmation_of": f"{arn}:{row.uuid}"}).decode()
    insert_messages(write.connection, [NewMessage(message, (to,), record, lease=None)])


def _octets(ground: Ground, one: Subscribed, arn: str, token: str, at: int, message_id: str) -> bytes:
    mail = EmailMessage(policy=SMTP)
    mail["From"] = f"Mail relay <no-reply@{ground.hostname}>"
    mail["To"] = one.row.endpoint
    mail["Subject"] = "Confirm your subscription"
    mail["Date"] = format_datetime(_instant(at))
    mail["Message-ID"] = f"<{message_id}@{ground.hostname}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(
        _TEXT.format(
            account=one.row.account_id,
            topic=arn,
            address=one.row.endpoint,
            hostname=ground.hostname,
            way=_way(ground, arn, token),
            token=token,
            until=_instant(one.row.expires_at or at),
        )
    )
    return mail.as_bytes()


def _way(ground: Ground, arn: str, token: str) -> str:
    if not ground.public_url:
        return _BY_CODE
    query = urlencode({"Action": "ConfirmSubscription", "TopicArn": arn, "Token": token}, safe=":")
    return _BY_LINK.format(link=f"{ground.public_url}/sns/?{query}")


def _instant(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC)
