"""Parts of a message as calls name them: addresses, texts, attachments, tags, the header of a raw one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.api.accepting import has_bare_lines
from relay.api.large import Octets
from relay.api.values import APIError, Caller
from relay.submission.address import AddressError, Mailbox
from relay.submission.compose import Attachment, ComposeError, SimpleMessage, Text, compose
from relay.submission.headers import HeaderBlock, HeaderError, parse_headers
from relay.submission.originator import parse_from
from relay.submission.recipients import parse_recipient, recipients_of

# More than a header block may have; what is longer is refused on the accept path.
_MOST_HEADER_BYTES = 256 * 1024
# What is composed on the loop; more waits for a thread.
_SMALL_BYTES = 16 * 1024


def some_text(content: Mapping[str, str]) -> Text:
    return Text(content["Data"], content.get("Charset", "UTF-8"))


def text(content: Mapping[str, str] | None) -> Text | None:
    return some_text(content) if content else None


def fields(headers: Iterable[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((one["Name"], one["Value"]) for one in headers)


def attachments(given: Iterable[Mapping[str, Any]]) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(
            file_name=one["FileName"],
            content=bytes(one["RawContent"]),
            media_type=one.get("ContentType", "application/octet-stream"),
            disposition=one.get("ContentDisposition", "ATTACHMENT").lower(),
            description=one.get("ContentDescription"),
            content_id=one.get("ContentId"),
            transfer_encoding=one.get("ContentTransferEncoding", "BASE64"),
        )
        for one in given
    )


@dataclass(frozen=True, slots=True)
class Content:
    """What a message says, whoever gets it."""

    subject: Text
    text: Text | None
    html: Text | None
    fields: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()


def simple_content(given: Mapping[str, Any]) -> Content:
    """Of ``Message`` in v1, ``Content.Simple`` in v2."""
    body = given["Body"]
    return Content(
        some_text(given["Subject"]),
        text(body.get("Text")),
        text(body.get("Html")),
        fields(given.get("Headers", ())),
        attachments(given.get("Attachments", ())),
    )


async def composed(
    caller: Caller, from_: str, given: Mapping[str, Any], to: Mapping[str, Any], content: Content
) -> bytes:
    """The raw message to the addresses of a destination."""
    message = SimpleMessage(
        from_=from_,
        to=tuple(to.get("ToAddresses", ())),
        cc=tuple(to.get("CcAddresses", ())),
        reply_to=tuple(given.get("ReplyToAddresses", ())),
        subject=content.subject,
        text=content.text,
        html=content.html,
        fields=content.fields,
        attachments=content.attachments,
    )
    seed = f"{caller.intake.next_id():x}"
    try:
        if _size(content) <= _SMALL_BYTES:
            return compose(message, seed)
        return await asyncio.to_thread(compose, message, seed)
    except ComposeError as error:
        raise APIError("InvalidParameterValue", str(error)) from error


def _size(content: Content) -> int:
    texts = sum(len(one.data) for one in (content.text, content.html) if one is not None)
    return texts + sum(len(one.content) for one in content.attachments)


def headers_of(octets: Octets) -> HeaderBlock:
    """The header block of a raw message, for the addresses that stand in for parameters.

    The accept path checks it anew, with the rest.
    """
    head = bytes(octets[:_MOST_HEADER_BYTES])
    if has_bare_lines(octets):
        head = head.replace(b"\n", b"\r\n")
    head, _, _ = head.partition(b"\r\n\r\n")
    try:
        return parse_headers(head.rstrip(b"\r\n") + b"\r\n")
    except HeaderError as error:
        raise APIError("InvalidParameterValue", error.reason) from error


def sender_of(headers: HeaderBlock) -> Mailbox:
    """Where no parameter names it: Return-Path, else From (SES API reference, SendRawEmail)."""
    for name in ("return-path", "from"):
        for field in headers.all(name):
            try:
                return parse_from(field.body).mailbox
            except HeaderError as error:
                raise APIError("InvalidParameterValue", error.reason) from error
    raise APIError("InvalidParameterValue", "Missing required header 'From'.")


def header_recipients(headers: HeaderBlock) -> tuple[Mailbox, ...]:
    try:
        return recipients_of(headers)
    except AddressError as error:
        raise APIError("InvalidParameterValue", error.reason) from error


def destination(given: Mapping[str, Any]) -> tuple[Mailbox, ...]:
    lists = (given.get(name, ()) for name in ("ToAddresses", "CcAddresses", "BccAddresses"))
    return mailboxes(one for addresses in lists for one in addresses)


def mailboxes(texts: Iterable[str]) -> tuple[Mailbox, ...]:
    return tuple(dict.fromkeys(mailbox(text) for text in texts))


def mailbox(text: str) -> Mailbox:
    try:
        return parse_recipient(text)
    except AddressError as error:
        raise APIError("InvalidParameterValue", f"{error.reason}: {text[:80]}") from error


def tags(given: Iterable[Mapping[str, str]] | None) -> tuple[tuple[str, str], ...] | None:
    return None if given is None else fields(given)
