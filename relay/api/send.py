"""Sending by API: whatever form a call has, it becomes a raw message and takes the accept path of SMTP (R18).

A parameter beats the header field of the same meaning (R5).  The answer to a refusal is SES's error with
SES's text; what failed, and the reference under which it is kept, follow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.api import message_parts as parts
from relay.api import models, templates
from relay.api.accepting import accept
from relay.api.large import Octets
from relay.api.values import APIError, Caller, refuse_members
from relay.submission.address import Mailbox
from relay.submission.envelope import Envelope
from relay.submission.submission import Parameters

Given = Mapping[str, Any]
Tags = tuple[tuple[str, str], ...] | None

RAW, SIMPLE, TEMPLATED = "ses:SendRawEmail", "ses:SendEmail", "ses:SendTemplatedEmail"
# What a call of v2 may say that has no meaning here; to pass over it would be to promise it.
NOT_OFFERED = ("EndpointId", "TenantName", "ListManagementOptions", "ConfigurationOverrides")


# ---------------------------------------------------------------- v1


async def send_raw_email(caller: Caller, given: Given) -> dict[str, Any]:
    octets = given["RawMessage"]["Data"]
    headers = parts.headers_of(octets)
    envelope = Envelope(
        parts.mailbox(given["Source"]) if "Source" in given else parts.sender_of(headers),
        parts.mailboxes(given.get("Destinations", ())) or parts.header_recipients(headers),
    )
    parameters = Parameters(
        source_arn=given.get("SourceArn"),
        from_arn=given.get("FromArn"),
        return_path_arn=given.get("ReturnPathArn"),
        configuration_set=given.get("ConfigurationSetName"),
        tags=parts.tags(given.get("Tags")),
        action=RAW,
        api_version="1",
    )
    return {"MessageId": await accept(caller, envelope, parameters, octets, models.SES)}


async def send_email(caller: Caller, given: Given) -> dict[str, Any]:
    return await _send_v1(caller, given, parts.simple_content(given["Message"]), SIMPLE)


async def send_templated_email(caller: Caller, given: Given) -> dict[str, Any]:
    template = await templates.find(caller, given["Template"], given.get("TemplateArn"), models.SES)
    content = await templates.filled(template, templates.data_of(given["TemplateData"]))
    return await _send_v1(caller, given, content, TEMPLATED)


async def _send_v1(caller: Caller, given: Given, content: parts.Content, action: str) -> dict[str, Any]:
    to = given["Destination"]
    octets = await parts.composed(caller, given["Source"], given, to, content)
    envelope = Envelope(source_v1(given), parts.destination(to))
    parameters = parameters_v1(given, parts.tags(given.get("Tags")), action)
    return {"MessageId": await accept(caller, envelope, parameters, octets, models.SES)}


def source_v1(given: Given) -> Mailbox:
    return parts.mailbox(given.get("ReturnPath", given["Source"]))


def parameters_v1(given: Given, tags: Tags, action: str) -> Parameters:
    return Parameters(
        source_arn=given.get("SourceArn"),
        from_arn=given.get("SourceArn"),
        return_path_arn=given.get("ReturnPathArn"),
        configuration_set=given.get("ConfigurationSetName"),
        tags=tags,
        action=action,
        api_version="1",
    )


# ---------------------------------------------------------------- v2


async def send_email_v2(caller: Caller, given: Given) -> dict[str, Any]:
    """Raw, Simple or Template."""
    refuse_members(given, NOT_OFFERED)
    content = given["Content"]
    if len(content) != 1:
        raise APIError("BadRequestException", "Content: one of Raw, Simple and Template is needed.")
    if "Raw" in content:
        return await _send_raw_v2(caller, given, content["Raw"]["Data"])
    to = given.get("Destination", {})
    if "Simple" in content:
        filled, action = parts.simple_content(content["Simple"]), SIMPLE
    else:
        template = await templates.of_content(caller, content["Template"])
        data = templates.data_of(content["Template"].get("TemplateData", "{}"))
        filled = templates.with_extras(await templates.filled(template, data), content["Template"])
        action = TEMPLATED
    octets = await parts.composed(caller, from_v2(given), given, to, filled)
    envelope = Envelope(source_v2(given), parts.destination(to))
    parameters = parameters_v2(given, parts.tags(given.get("EmailTags")), action)
    return {"MessageId": await accept(caller, envelope, parameters, octets, models.SESV2)}


async def _send_raw_v2(caller: Caller, given: Given, octets: Octets) -> dict[str, Any]:
    """The forwarding address, else From's; recipients as named, else those of the header."""
    headers = parts.headers_of(octets)
    source = given.get("FeedbackForwardingEmailAddress") or given.get("FromEmailAddress")
    named = parts.destination(given.get("Destination", {}))
    envelope = Envelope(
        parts.mailbox(source) if source else parts.sender_of(headers),
        named or parts.header_recipients(headers),
    )
    parameters = parameters_v2(given, parts.tags(given.get("EmailTags")), RAW)
    return {"MessageId": await accept(caller, envelope, parameters, octets, models.SESV2)}


def from_v2(given: Given) -> str:
    if "FromEmailAddress" not in given:
        raise APIError("BadRequestException", "FromEmailAddress is needed for content that is not Raw.")
    return str(given["FromEmailAddress"])


def source_v2(given: Given) -> Mailbox:
    return parts.mailbox(given.get("FeedbackForwardingEmailAddress") or from_v2(given))


def parameters_v2(given: Given, tags: Tags, action: str) -> Parameters:
    return Parameters(
        from_arn=given.get("FromEmailAddressIdentityArn"),
        source_arn=given.get("FromEmailAddressIdentityArn"),
        return_path_arn=given.get("FeedbackForwardingEmailAddressIdentityArn"),
        configuration_set=given.get("ConfigurationSetName"),
        tags=tags,
        action=action,
        api_version="2",
    )
