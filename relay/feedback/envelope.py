"""SNS's JSON around a notification, and the text that its signature is made over.  Pure.

Keys stand in SNS's order.  What is signed are the values of some keys in the order of their names, each
after its key, every one on a line of its own (SNS, "Verifying the signatures of Amazon SNS messages").
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

NOTIFICATION = "Notification"
CONFIRMATION = "SubscriptionConfirmation"
UNSUBSCRIBED = "UnsubscribeConfirmation"

# SES gives its event records this subject, and its notifications and first messages none.
_EVENT_SUBJECT = "Amazon SES Email Event Notification"
_SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    CONFIRMATION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    UNSUBSCRIBED: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_ORDER = (
    "Type",
    "MessageId",
    "Token",
    "TopicArn",
    "Subject",
    "Message",
    "SubscribeURL",
    "Timestamp",
    "SignatureVersion",
    "Signature",
    "SigningCertURL",
    "UnsubscribeURL",
)


def timestamp(microseconds: int) -> str:
    """``2024-05-01T10:00:00.000Z``."""
    at = datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


def subject(message: str) -> str | None:
    """The subject that SES gives to what it publishes."""
    return _EVENT_SUBJECT if message.startswith('{"eventType"') else None


def to_be_signed(fields: Mapping[str, str]) -> bytes:
    """The text that the signature is made over."""
    pairs = [(key, fields[key]) for key in _SIGNED[fields["Type"]] if key in fields]
    return "".join(f"{key}\n{value}\n" for key, value in pairs).encode()


def compose(fields: Mapping[str, str]) -> bytes:
    """The document, spaced as SNS spaces it."""
    lines = [f'  "{key}" : {_quoted(fields[key])}' for key in _ORDER if key in fields]
    return ("{\n" + ",\n".join(lines) + "\n}").encode()


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def document(message: str) -> bytes:
    """A message as JSON: it is JSON but for the first ones on a topic, which are plain text."""
    return message.encode() if message.startswith("{") else orjson.dumps({"message": message})
