"""What happened to a message, as the JSON documents that SES writes of it.

Two shapes: a *notification*, which an identity's topic gets (``notificationType``, with who submitted it),
and an *event*, which a configuration set's destination gets (``eventType``, with tags).  The fields are
those of SES's Developer Guide, "Contents of notifications" and "Contents of event data"; where its text
and its samples differ, programs were written against the samples.

``relay.outcome.event_rows`` reads the values from what the queue wrote down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import orjson

from relay.outcome.bounce_types import BounceKind
from relay.submission.identifiers import ses_message_id

SEND, DELIVERY, DELIVERY_DELAY = "Send", "Delivery", "DeliveryDelay"
BOUNCE, COMPLAINT, REJECT = "Bounce", "Complaint", "Reject"
# Each type by its name in the API's version 2, which is how event destinations are stored.
TYPES: Mapping[str, str] = {
    "SEND": SEND,
    "REJECT": REJECT,
    "BOUNCE": BOUNCE,
    "COMPLAINT": COMPLAINT,
    "DELIVERY": DELIVERY,
    "DELIVERY_DELAY": DELIVERY_DELAY,
}
# The types that an identity may have a topic for.
NOTIFIED = (BOUNCE, COMPLAINT, DELIVERY)
# What is only written down if somebody listens when the message is accepted.
LISTENED = frozenset({SEND, DELIVERY, DELIVERY_DELAY})

# Past this SES cuts the list of header fields and says so.
_MOST_HEADER_BYTES = 10 * 1024


@dataclass(frozen=True, slots=True)
class Mail:
    """The message that something happened to, as submitted.

    ``id`` is its key, ``received_at`` microseconds UTC, ``source`` the MAIL FROM; ``headers`` are
    (name, unfolded value) in the order of submission.  ``operation`` is the API's name without ``ses:``.
    """

    id: int
    received_at: int
    source: str
    source_arn: str
    source_ip: str
    caller_identity: str
    account_id: str
    destination: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    from_domain: str
    operation: str
    configuration_set: str | None = None
    source_tls: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """One recipient of a bounce or delay; what is None was not said."""

    address: str
    status: str | None = None
    diagnostic: str | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection to the next hop, as far as there was one."""

    remote_ip: str | None = None
    outgoing_ip: str | None = None
    tls: str | None = None


_NOWHERE = Connected()


@dataclass(frozen=True, slots=True)
class Sent:
    """Accepted: what is delivered or bounced later."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop took it for these recipients, with the same reply."""

    at: int
    recipients: tuple[str, ...]
    response: str
    by: Connected = _NOWHERE


@dataclass(frozen=True, slots=True)
class Delayed:
    """It is tried again until ``expires_at``."""

    at: int
    delay_type: str
    expires_at: int
    recipients: tuple[Diagnosed, ...]
    by: Connected = _NOWHERE


@dataclass(frozen=True, slots=True)
class Bounced:
    """Given up for these recipients, for the same kind of reason."""

    at: int
    kind: BounceKind
    feedback_id: str
    recipients: tuple[Diagnosed, ...]
    by: Connected = _NOWHERE


@dataclass(frozen=True, slots=True)
class Complained:
    """Somebody called it unwanted.  ``arrived_at`` is when the report says that it was received."""

    at: int
    feedback_id: str
    recipients: tuple[str, ...]
    subtype: str | None = None
    user_agent: str | None = None
    feedback_type: str | None = None
    arrived_at: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Accepted and then not sent, for what it carries."""

    reason: str = "Bad content"


Happened = Sent | Delivered | Delayed | Bounced | Complained | Rejected

_TYPE_OF: Mapping[type, str] = {
    Sent: SEND,
    Delivered: DELIVERY,
    Delayed: DELIVERY_DELAY,
    Bounced: BOUNCE,
    Complained: COMPLAINT,
    Rejected: REJECT,
}


def type_of(what: Happened) -> str:
    """Its ``eventType``."""
    return _TYPE_OF[type(what)]


def feedback_id(event_id: int, part: int = 0) -> str:
    """The id of a bounce or complaint: of the event row it is told by, and its number in that row."""
    whole = ses_message_id(event_id)
    if not part:
        return whole
    digest = blake2b(f"{event_id}/{part}".encode(), digest_size=4).hexdigest()
    return f"{whole[:17]}{digest}{whole[25:-6]}{part:06d}"


# ---------------------------------------------------------------- the two shapes


def notification(mail: Mail, what: Happened, hostname: str, *, with_headers: bool) -> str:
    """What an identity's topic gets; ``with_headers`` is the owner's choice for this type."""
    told: dict[str, Any] = {
        "timestamp": _instant(mail.received_at),
        "source": mail.source,
        "sourceArn": mail.source_arn,
        "sourceIp": mail.source_ip,
        "callerIdentity": mail.caller_identity,
        "sendingAccountId": mail.account_id,
        "messageId": ses_message_id(mail.id),
        "destination": mail.destination,
    }
    if with_headers:
        told |= _headers(mail.headers)
        told["commonHeaders"] = _common_headers(mail, is_event=False)
    name, detail = _detail(mail, what, hostname)
    remote_ip = getattr(what, "by", _NOWHERE).remote_ip
    if remote_ip:
        detail["remoteMtaIp"] = remote_ip
    return orjson.dumps({"notificationType": type_of(what), name: detail, "mail": told}).decode()


def event(mail: Mail, what: Happened, hostname: str) -> str:
    """What a configuration set's destination gets."""
    told: dict[str, Any] = {
        "timestamp": _instant(mail.received_at),
        "source": mail.source,
        "sourceArn": mail.source_arn,
        "sendingAccountId": mail.account_id,
        "messageId": ses_message_id(mail.id),
        "destination": mail.destination,
    }
    if isinstance(what, Delayed):  # as in SES's sample, which quotes no header
        told["headersTruncated"] = False
    else:
        told |= _headers(mail.headers)
        told["commonHeaders"] = _common_headers(mail, is_event=True)
    told["tags"] = _tags(mail, what)
    name, detail = _detail(mail, what, hostname)
    return orjson.dumps({"eventType": type_of(what), "mail": told, name: detail}).decode()


def _instant(microseconds: int) -> str:
    """``2016-10-19T23:20:52.240Z``."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:03d}Z"


# ---------------------------------------------------------------- the mail


def _headers(headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The fields as submitted, as many as SES quotes."""
    kept, size = [], 0
    for name, value in headers:
        size += len(name) + len(value) + 4  # colon, blank and line end
        if size >= _MOST_HEADER_BYTES:
            break
        kept.append({"name": name, "value": value})
    return {"headersTruncated": size >= _MOST_HEADER_BYTES, "headers": kept}


# A comma within quotes, a comment or an angle address parts nothing.
_ADDRESS = re.compile(r'(?:[^,"(<]|"(?:[^"\\]|\\.)*+"?|\([^()]*+\)?|<[^<>]*+>?)+')


def _common_headers(mail: Mail, *, is_event: bool) -> dict[str, Any]:
    """Well-known fields by name, those that are there.

    SES's notifications have the addresses of a field in one text and the author's Message-ID; its events
    have them apart, and SES's own id.
    """
    first: dict[str, str] = {}
    for name, value in mail.headers:
        first.setdefault(name.lower(), value)
    found: dict[str, Any] = {}
    for key, name in _COMMON_LISTS.items():
        if name in first:
            value = first[name]
            found[key] = list(_addresses(value)) if is_event else [value]
    if "date" in first:
        found["date"] = first["date"]
    if is_event:
        found["messageId"] = ses_message_id(mail.id)
    elif "message-id" in first:
        found["messageId"] = first["message-id"]
    if "subject" in first:
        found["subject"] = first["subject"]
    return found


_COMMON_LISTS = {
    "from": "from",
    "sender": "sender",
    "replyTo": "reply-to",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
}


def _addresses(value: str) -> Iterator[str]:
    for found in _ADDRESS.finditer(value):
        if text := found.group().strip():
            yield text


def _tags(mail: Mail, what: Happened) -> dict[str, list[str]]:
    """SES's own tags, then the sender's; each value stands in a list."""
    by = getattr(what, "by", _NOWHERE)
    auto = {
        "ses:operation": mail.operation,
        "ses:configuration-set": mail.configuration_set,
        "ses:source-ip": mail.source_ip,
        "ses:source-tls-version": mail.source_tls,
        "ses:from-domain": mail.from_domain,
        "ses:caller-identity": mail.caller_identity,
        "ses:outgoing-ip": by.outgoing_ip,
        "ses:outgoing-tls-version": by.tls,
    }
    tags = {name: [value] for name, value in auto.items() if value}
    return tags | {name: [value] for name, value in mail.tags}


# ---------------------------------------------------------------- what happened


def _detail(mail: Mail, what: Happened, hostname: str) -> tuple[str, dict[str, Any]]:
    """The member that is named for the type, and its value."""
    match what:
        case Sent():
            return "send", {}
        case Rejected():
            return "reject", {"reason": what.reason}
        case Delivered():
            return "delivery", _delivery(mail, what, hostname)
        case Delayed():
            return "deliveryDelay", _delay(what, hostname)
        case Bounced():
            return "bounce", _bounce(what, hostname)
        case Complained():
            return "complaint", _complaint(what)


def _delivery(mail: Mail, what: Delivered, hostname: str) -> dict[str, Any]:
    return {
        "timestamp": _instant(what.at),
        "processingTimeMillis": max(what.at - mail.received_at, 0) // 1000,
        "recipients": what.recipients,
        "smtpResponse": what.response,
        "reportingMTA": hostname,
    }


def _delay(what: Delayed, hostname: str) -> dict[str, Any]:
    return {
        "timestamp": _instant(what.at),
        "delayType": what.delay_type,
        "expirationTime": _instant(what.expires_at),
        "reportingMTA": hostname,
        "delayedRecipients": [_diagnosed(one) for one in what.recipients],
    }


def _bounce(what: Bounced, hostname: str) -> dict[str, Any]:
    return {
        "feedbackId": what.feedback_id,
        "bounceType": what.kind.type,
        "bounceSubType": what.kind.subtype,
        "bouncedRecipients": [_diagnosed(one, action="failed") for one in what.recipients],
        "timestamp": _instant(what.at),
        "reportingMTA": f"dns; {hostname}",
    }


def _diagnosed(one: Diagnosed, action: str | None = None) -> dict[str, Any]:
    """An action only beside a status: without a delivery report SES tells the address alone."""
    found = {
        "emailAddress": one.address,
        "action": action if one.status else None,
        "status": one.status,
        "diagnosticCode": one.diagnostic,
    }
    return {name: value for name, value in found.items() if value is not None}


def _complaint(what: Complained) -> dict[str, Any]:
    found: dict[str, Any] = {
        "feedbackId": what.feedback_id,
        "complaintSubType": what.subtype,
        "complainedRecipients": [{"emailAddress": address} for address in what.recipients],
        "timestamp": _instant(what.at),
    }
    reported = {
        "userAgent": what.user_agent,
        "complaintFeedbackType": what.feedback_type,
        "arrivalDate": None if what.arrived_at is None else _instant(what.arrived_at),
    }
    return found | {name: value for name, value in reported.items() if value is not None}
