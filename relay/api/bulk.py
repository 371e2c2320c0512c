"""One template to many destinations: each is a message of its own, with a result of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.api import message_parts as parts
from relay.api import models, send, templates
from relay.api.accepting import answered, told
from relay.api.send import Given
from relay.api.templates import Parts
from relay.api.values import APIError, Caller, refuse_members
from relay.submission.address import Mailbox
from relay.submission.answer import Accepted, Reason
from relay.submission.envelope import Envelope
from relay.submission.submission import Parameters

_ACTION = "ses:SendBulkTemplatedEmail"
# SES: destinations in one call.
_MOST = 50


@dataclass(frozen=True, slots=True)
class _Names:
    """What results are called on a wire."""

    success: str
    invalid: str
    refused: Mapping[Reason, str]


_V1 = _Names(
    "Success",
    "InvalidParameterValue",
    {
        Reason.ACCESS_DENIED: "MessageRejected",
        Reason.NOT_VERIFIED: "MessageRejected",
        Reason.PAUSED: "AccountSendingPaused",
        Reason.CONFIGURATION_SET: "ConfigurationSetDoesNotExist",
        Reason.CONFIGURATION_SET_PAUSED: "ConfigurationSetSendingPaused",
        Reason.MAIL_FROM_DOMAIN: "MailFromDomainNotVerified",
        Reason.DAILY_QUOTA: "AccountDailyQuotaExceeded",
        Reason.SENDING_RATE: "AccountThrottled",
        Reason.UNAVAILABLE: "TransientFailure",
        Reason.LOW_DISK: "TransientFailure",
        Reason.LOW_MEMORY: "TransientFailure",
    },
)
_V2 = _Names(
    "SUCCESS",
    "INVALID_PARAMETER",
    {
        Reason.ACCESS_DENIED: "MESSAGE_REJECTED",
        Reason.NOT_VERIFIED: "MESSAGE_REJECTED",
        Reason.PAUSED: "ACCOUNT_SENDING_PAUSED",
        Reason.CONFIGURATION_SET: "CONFIGURATION_SET_NOT_FOUND",
        Reason.CONFIGURATION_SET_PAUSED: "CONFIGURATION_SET_SENDING_PAUSED",
        Reason.MAIL_FROM_DOMAIN: "MAIL_FROM_DOMAIN_NOT_VERIFIED",
        Reason.DAILY_QUOTA: "ACCOUNT_DAILY_QUOTA_EXCEEDED",
        Reason.SENDING_RATE: "ACCOUNT_THROTTLED",
        Reason.UNAVAILABLE: "TRANSIENT_FAILURE",
        Reason.LOW_DISK: "TRANSIENT_FAILURE",
        Reason.LOW_MEMORY: "TRANSIENT_FAILURE",
    },
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One of the messages: what the call says of all, and of this one."""

    from_: str
    source: Mailbox
    call: Given
    to: Given
    template: Parts
    data: str
    default_data: Mapping[str, Any]
    parameters: Parameters
    extras: Given


async def send_bulk_templated_email(caller: Caller, given: Given) -> dict[str, Any]:
    """v1."""
    entries = given["Destinations"]
    _few(entries)
    template = await templates.find(caller, given["Template"], given.get("TemplateArn"), models.SES)
    source, default = send.source_v1(given), templates.data_of(given["DefaultTemplateData"])
    results = []
    for one in entries:
        tags = parts.tags(one.get("ReplacementTags") or given.get("DefaultTags"))
        entry = _Entry(
            from_=given["Source"],
            source=source,
            call=given,
            to=one["Destination"],
            template=template,
            data=one.get("ReplacementTemplateData", "{}"),
            default_data=default,
            parameters=send.parameters_v1(given, tags, _ACTION),
            extras={},
        )
        results.append(await _result(caller, entry, _V1))
    return {"Status": results}


async def send_bulk_email(caller: Caller, given: Given) -> dict[str, Any]:
    """v2."""
    refuse_members(given, send.NOT_OFFERED)
    entries = given["BulkEmailEntries"]
    _few(entries)
    content = given["DefaultContent"].get("Template")
    if content is None:
        raise APIError("BadRequestException", "DefaultContent: Template is needed.")
    template = await templates.of_content(caller, content)
    default = templates.data_of(content.get("TemplateData", "{}"))
    from_, source = send.from_v2(given), send.source_v2(given)
    results = []
    for one in entries:
        tags = parts.tags(one.get("ReplacementTags") or given.get("DefaultEmailTags"))
        replacement = one.get("ReplacementEmailContent", {}).get("ReplacementTemplate", {})
        entry = _Entry(
            from_=from_,
            source=source,
            call=given,
            to=one["Destination"],
            template=template,
            data=replacement.get("ReplacementTemplateData", "{}"),
            default_data=default,
            parameters=send.parameters_v2(given, tags, _ACTION),
            extras={**content, "Headers": _merged(content, one)},
        )
        results.append(await _result(caller, entry, _V2))
    return {"BulkEmailEntryResults": results}


def _few(entries: Sequence[Given]) -> None:
    if len(entries) > _MOST:
        raise APIError("InvalidParameterValue", f"At most {_MOST} destinations are taken in one call.")


def _merged(content: Given, one: Given) -> list[Given]:
    """The header fields of all, and those of this entry in the place of ones with the same name."""
    own = list(one.get("ReplacementHeaders", ()))
    names = {field["Name"].lower() for field in own}
    return [field for field in content.get("Headers", ()) if field["Name"].lower() not in names] + own


async def _result(caller: Caller, entry: _Entry, names: _Names) -> dict[str, str]:
    """What became of one: a refused one keeps no other from being sent."""
    try:
        data = {**entry.default_data, **templates.data_of(entry.data)}
        content = templates.with_extras(await templates.filled(entry.template, data), entry.extras)
        octets = await parts.composed(caller, entry.from_, entry.call, entry.to, content)
        envelope = Envelope(entry.source, parts.destination(entry.to))
    except APIError as error:
        return {"Status": names.invalid, "Error": error.message}
    answer = await answered(caller, envelope, entry.parameters, octets)
    if isinstance(answer, Accepted):
        return {"Status": names.success, "MessageId": answer.message_id}
    return {"Status": names.refused.get(answer.reason, names.invalid), "Error": told(answer)}
