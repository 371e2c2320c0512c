"""A notification as SNS would send it: signed, with where to unsubscribe."""

from __future__ import annotations

import orjson

from relay.feedback import envelope
from relay.feedback.posting import Post
from relay.feedback.signer import Signer
from relay.store.secrets import Secrets
from relay.store.topics import secret_place


def known(secrets: Secrets, one: Post) -> dict[str, str]:
    """What only the poster may know of a subscription."""
    row = one.to.row
    if row.secret is None:
        return {}
    opened: dict[str, str] = orjson.loads(secrets.open(row.secret, secret_place(row.id)))
    return opened


def kind(one: Post) -> str:
    """The ``Type``: a handshake is an event type of its own."""
    handshakes = (envelope.CONFIRMATION, envelope.UNSUBSCRIBED)
    of = one.notification.event_type
    return of if of in handshakes else envelope.NOTIFICATION


async def compose(one: Post, signer: Signer, token: str = "") -> bytes:
    """The signed document; a handshake needs the ``token``."""
    await signer.ready()
    version = one.to.topic.signature_version
    type_ = kind(one)
    fields = {
        "Type": type_,
        "MessageId": one.message_id,
        "TopicArn": one.topic_arn,
        "Message": one.notification.body,
        "Timestamp": envelope.timestamp(one.notification.created_at),
    }
    if type_ == envelope.NOTIFICATION:
        if (subject := envelope.subject(one.notification.body)) is not None:
            fields["Subject"] = subject
    else:
        fields |= {"Token": token, "SubscribeURL": signer.subscribe_url(one.topic_arn, token)}
    fields["Signature"] = signer.sign(envelope.to_be_signed(fields), version)
    fields |= {"SignatureVersion": str(version), "SigningCertURL": signer.certificate_url}
    if type_ == envelope.NOTIFICATION:
        fields["UnsubscribeURL"] = signer.unsubscribe_url(one.subscription_arn)
    return envelope.compose(fields)
