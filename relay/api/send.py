"""Sending by API: whatever form a call has, it becomes a raw message and takes the accept path of SMTP (R18).

A parameter beats the header field of the same meaning (R5).  The answer to a refusal is SES's error with
SES's text; what failed, and the reference under which it is kept, follow it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from relay.api import models
from relay.api.values import APIError, Caller
from relay.intake import Receipt
from relay.submission.address import AddressError, Mailbox
from relay.submission.answer import Accepted, Reason, Refused
from relay.submission.compose import Attachment, ComposeError, SimpleMessage, Text, compose
from relay.submission.envelope import Envelope
from relay.submission.headers import HeaderBlock, HeaderError, parse_headers
from relay.submission.originator import parse_from
from relay.submission.recipients import parse_recipient, recipients_of
from relay.submission.submission import Parameters

_PIECE_BYTES = 64 * 1024
_RAW, _SIMPLE = "ses:SendRawEmail", "ses:SendEmail"


# ---------------------------------------------------------------- the calls


async def send_raw_email(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """v1 SendRawEmail."""
    octets = _with_crlf(given["RawMessage"]["Data"])
    headers = _headers(octets)
    envelope = Envelope(
        _mailbox(given["Source"]) if "Source" in given else _sender(headers),
        _mailboxes(given["Destinations"]) if given.get("Destinations") else _recipients(headers),
    )
    parameters = Parameters(
        source_arn=given.get("SourceArn"),
        from_arn=given.get("FromArn"),
        return_path_arn=given.get("ReturnPathArn"),
        configuration_set=given.get("ConfigurationSetName"),
        tags=_tags(given.get("Tags")),
        action=_RAW,
        api_version="1",
    )
    return {"MessageId": await _send(caller, envelope, parameters, octets, models.SES)}


async def send_email(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """v1 SendEmail."""
    destination, content = given["Destination"], given["Message"]
    message = SimpleMessage(
        from_=given["Source"],
        to=tuple(destination.get("ToAddresses", ())),
        cc=tuple(destination.get("CcAddresses", ())),
        reply_to=tuple(given.get("ReplyToAddresses", ())),
        subject=_some_text(content["Subject"]),
        text=_text(content["Body"].get("Text")),
        html=_text(content["Body"].get("Html")),
    )
    envelope = Envelope(_mailbox(given.get("ReturnPath", given["Source"])), _destination(destination))
    parameters = Parameters(
        source_arn=given.get("SourceArn"),
        from_arn=given.get("SourceArn"),
        return_path_arn=given.get("ReturnPathArn"),
        configuration_set=given.get("ConfigurationSetName"),
        tags=_tags(given.get("Tags")),
        action=_SIMPLE,
        api_version="1",
    )
    return {"MessageId": await _send(caller, envelope, parameters, _composed(caller, message), models.SES)}


async def send_email_v2(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """v2 SendEmail with Raw or Simple content."""
    content = given["Content"]
    if len(content) != 1:
        raise APIError("BadRequestException", "Content: one of Raw, Simple and Template is needed.")
    if "Raw" in content:
        octets, headers, action = _raw_v2(given, content["Raw"]["Data"])
    elif "Simple" in content:
        octets, headers, action = _composed(caller, _simple_v2(given, content["Simple"])), None, _SIMPLE
    else:
        raise APIError("BadRequestException", "Content: Template is not offered here.")
    parameters = Parameters(
        from_arn=given.get("FromEmailAddressIdentityArn"),
        source_arn=given.get("FromEmailAddressIdentityArn"),
        return_path_arn=given.get("FeedbackForwardingEmailAddressIdentityArn"),
        configuration_set=given.get("ConfigurationSetName"),
        tags=_tags(given.get("EmailTags")),
        action=action,
        api_version="2",
    )
    envelope = _envelope_v2(given, headers)
    return {"MessageId": await _send(caller, envelope, parameters, octets, models.SESV2)}


def _raw_v2(given: Mapping[str, Any], data: bytes) -> tuple[bytes, HeaderBlock, str]:
    octets = _with_crlf(data)
    return octets, _headers(octets), _RAW


def _envelope_v2(given: Mapping[str, Any], headers: HeaderBlock | None) -> Envelope:
    """The forwarding address, else From's; recipients as named, else those of the header."""
    source = given.get("FeedbackForwardingEmailAddress") or given.get("FromEmailAddress")
    recipients = _destination(given.get("Destination", {}))
    if headers is None:
        if source is None:
            raise APIError("BadRequestException", "FromEmailAddress is needed for Simple content.")
        return Envelope(_mailbox(source), recipients)
    return Envelope(_mailbox(source) if source else _sender(headers), recipients or _recipients(headers))


def _simple_v2(given: Mapping[str, Any], content: Mapping[str, Any]) -> SimpleMessage:
    destination = given.get("Destination", {})
    return SimpleMessage(
        from_=given.get("FromEmailAddress", ""),
        to=tuple(destination.get("ToAddresses", ())),
        cc=tuple(destination.get("CcAddresses", ())),
        reply_to=tuple(given.get("ReplyToAddresses", ())),
        subject=_some_text(content["Subject"]),
        text=_text(content["Body"].get("Text")),
        html=_text(content["Body"].get("Html")),
        fields=tuple((one["Name"], one["Value"]) for one in content.get("Headers", ())),
        attachments=tuple(_attachment(one) for one in content.get("Attachments", ())),
    )


# ---------------------------------------------------------------- parts of a message


def _some_text(content: Mapping[str, str]) -> Text:
    return Text(content["Data"], content.get("Charset", "UTF-8"))


def _text(content: Mapping[str, str] | None) -> Text | None:
    return _some_text(content) if content else None


def _attachment(one: Mapping[str, Any]) -> Attachment:
    return Attachment(
        file_name=one["FileName"],
        content=one["RawContent"],
        media_type=one.get("ContentType", "application/octet-stream"),
        disposition=one.get("ContentDisposition", "ATTACHMENT").lower(),
        description=one.get("ContentDescription"),
        content_id=one.get("ContentId"),
        transfer_encoding=one.get("ContentTransferEncoding", "BASE64"),
    )


def _composed(caller: Caller, message: SimpleMessage) -> bytes:
    try:
        return compose(message, f"{caller.intake.next_id():x}")
    except ComposeError as error:
        raise APIError("InvalidParameterValue", str(error)) from error


def _with_crlf(octets: bytes) -> bytes:
    """Lines that all end in LF get CRLF.

    Deliberate: HTTP delimits the message, so a bare LF ends no data, and SDKs send what their language's
    library writes.  Where some lines end in CRLF and others do not, nobody can tell what was meant: such
    a message is refused on the accept path.
    """
    return octets.replace(b"\n", b"\r\n") if b"\r" not in octets else octets


def _headers(octets: bytes) -> HeaderBlock:
    """The header block, for the addresses that stand in for parameters; the accept path checks it anew."""
    head, _, _ = octets.partition(b"\r\n\r\n")
    try:
        return parse_headers(head.rstrip(b"\r\n") + b"\r\n")
    except HeaderError as error:
        raise APIError("InvalidParameterValue", error.reason) from error


def _sender(headers: HeaderBlock) -> Mailbox:
    """Where no parameter names it: Return-Path, else From (SES API reference, SendRawEmail)."""
    for name in ("return-path", "from"):
        for field in headers.all(name):
            try:
                return parse_from(field.body).mailbox
            except HeaderError as error:
                raise APIError("InvalidParameterValue", error.reason) from error
    raise APIError("InvalidParameterValue", "Missing required header 'From'.")


def _recipients(headers: HeaderBlock) -> tuple[Mailbox, ...]:
    try:
        return _some(recipients_of(headers))
    except AddressError as error:
        raise APIError("InvalidParameterValue", error.reason) from error


def _destination(destination: Mapping[str, Any]) -> tuple[Mailbox, ...]:
    lists = (destination.get(name, ()) for name in ("ToAddresses", "CcAddresses", "BccAddresses"))
    return _mailboxes(one for addresses in lists for one in addresses)


def _mailboxes(texts: Iterable[str]) -> tuple[Mailbox, ...]:
    return tuple(dict.fromkeys(_mailbox(text) for text in texts))


def _mailbox(text: str) -> Mailbox:
    try:
        return parse_recipient(text)
    except AddressError as error:
        raise APIError("InvalidParameterValue", f"{error.reason}: {text[:80]}") from error


def _some(recipients: tuple[Mailbox, ...]) -> tuple[Mailbox, ...]:
    if not recipients:
        raise APIError("InvalidParameterValue", "The message has no recipients.")
    return recipients


def _tags(tags: Iterable[Mapping[str, str]] | None) -> tuple[tuple[str, str], ...] | None:
    return None if tags is None else tuple((one["Name"], one["Value"]) for one in tags)


# ---------------------------------------------------------------- the accept path


async def _send(
    caller: Caller, envelope: Envelope, parameters: Parameters, octets: bytes, service: str
) -> str:
    """The id of the message, durable; APIError if it was refused."""
    _some(envelope.recipients)
    intake = caller.intake
    refusing = intake.refusing()
    if refusing is not None:
        raise _refusal(refusing, service)
    intake.transaction_opened()
    receipt = intake.receive(caller.principal, caller.client, envelope, parameters)
    try:
        # A client that goes away now does not undo what is being committed.
        answer = await asyncio.shield(_finish(receipt, octets))
    finally:
        intake.transaction_closed()
    if isinstance(answer, Accepted):
        return answer.message_id
    raise _refusal(answer, service)


async def _finish(receipt: Receipt, octets: bytes) -> Accepted | Refused:
    for start in range(0, len(octets), _PIECE_BYTES):
        await receipt.write(octets[start : start + _PIECE_BYTES])
    return await receipt.finish()


_V1 = {
    Reason.ACCESS_DENIED: "AccessDenied",
    Reason.NOT_VERIFIED: "MessageRejected",
    Reason.PAUSED: "AccountSendingPausedException",
    Reason.CONFIGURATION_SET: "ConfigurationSetDoesNotExistException",
    Reason.CONFIGURATION_SET_PAUSED: "ConfigurationSetSendingPausedException",
    Reason.DAILY_QUOTA: "Throttling",
    Reason.SENDING_RATE: "Throttling",
    Reason.CREDENTIAL: "InvalidClientTokenId",
    Reason.UNAVAILABLE: "ServiceUnavailable",
    Reason.LOW_DISK: "ServiceUnavailable",
}
_V2 = _V1 | {
    Reason.PAUSED: "SendingPausedException",
    Reason.CONFIGURATION_SET: "NotFoundException",
    Reason.CONFIGURATION_SET_PAUSED: "SendingPausedException",
}


def _refusal(refused: Refused, service: str) -> APIError:
    """SES's error for a refusal of the accept path; what SES does not say stands behind its sentence."""
    names = _V2 if service == models.SESV2 else _V1
    text = refused.text.removeprefix("Message rejected: ").removeprefix("Access denied: ")
    more = [refused.explanation] if refused.explanation else []
    if refused.reference:
        more.append(f"reference {refused.reference}")
    detail = f" ({'; '.join(more)})" if more else ""
    return APIError(names.get(refused.reason, "InvalidParameterValue"), f"{text}{detail}")
