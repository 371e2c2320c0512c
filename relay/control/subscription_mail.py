"""The mail that asks an address whether it wants the notifications of a topic."""

from __future__ import annotations

from urllib.parse import urlencode

from relay.control.ground import Ground, now
from relay.queue.own_mail import OwnMail, instant, letter, queued
from relay.queue.spool import insert_messages
from relay.store.changes import ControlWrite
from relay.store.topics import Subscribed, topic_arn

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
    mail = OwnMail(
        id=message_id,
        account_id=row.account_id,
        identity_arn=arn,
        to=row.endpoint,
        octets=_octets(ground, one, arn, token, at, message_id),
        at=at,
        expires_at=row.expires_at or at,
        record={"confirmation_of": f"{arn}:{row.uuid}"},
    )
    insert_messages(write.connection, [queued(mail)])


def _octets(ground: Ground, one: Subscribed, arn: str, token: str, at: int, message_id: int) -> bytes:
    mail = letter(ground.hostname, message_id, one.row.endpoint, "Confirm your subscription", at)
    mail.set_content(
        _TEXT.format(
            account=one.row.account_id,
            topic=arn,
            address=one.row.endpoint,
            hostname=ground.hostname,
            way=_way(ground, arn, token),
            token=token,
            until=instant(one.row.expires_at or at),
        )
    )
    return mail.as_bytes()


def _way(ground: Ground, arn: str, token: str) -> str:
    if not ground.public_url:
        return _BY_CODE
    query = urlencode({"Action": "ConfirmSubscription", "TopicArn": arn, "Token": token}, safe=":")
    return _BY_LINK.format(link=f"{ground.public_url}/sns/?{query}")
