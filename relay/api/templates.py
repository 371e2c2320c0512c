"""Templates of the caller, found and filled for sending; ``templates_v*`` manage them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from relay.api import message_parts as parts
from relay.api import models
from relay.api.values import APIError, Caller
from relay.control import templates
from relay.control.templates import TemplateRow
from relay.submission.compose import SimpleMessage, Text, compose
from relay.submission.template import TemplateError, compiled, parse_data

# What is rendered on the loop; more waits for a thread.
_SMALL_CHARACTERS = 8 * 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a template, with gaps."""

    subject: str
    text: str | None
    html: str | None


async def find(caller: Caller, name: str | None, arn: str | None, service: str) -> Parts:
    """The caller's template, by name or ARN; another account's are of no use to it."""
    prefix = f"arn:aws:ses:{caller.region}:{caller.account_id}:template/"
    if arn is not None and not arn.startswith(prefix):
        raise _missing(arn, service)
    wanted = arn.removeprefix(prefix) if arn is not None else name or ""
    row = await asyncio.to_thread(templates.find, caller.ground, caller.account_id, wanted)
    if row is None:
        raise _missing(wanted, service)
    return parts_of(row)


def parts_of(row: TemplateRow) -> Parts:
    return Parts(row.subject, row.text, row.html)


def _missing(name: str, service: str) -> APIError:
    code = "TemplateDoesNotExistException" if service == models.SES else "NotFoundException"
    return APIError(code, f"Template {name} does not exist.")


async def of_content(caller: Caller, given: Mapping[str, Any]) -> Parts:
    """v2: a template by name, by ARN, or in the call itself."""
    if "TemplateContent" in given:
        inline = given["TemplateContent"]
        return Parts(inline.get("Subject", ""), inline.get("Text"), inline.get("Html"))
    if "TemplateName" not in given and "TemplateArn" not in given:
        raise APIError(
            "BadRequestException", "Template: TemplateName, TemplateArn or TemplateContent is needed."
        )
    return await find(caller, given.get("TemplateName"), given.get("TemplateArn"), models.SESV2)


def data_of(text: str) -> dict[str, Any]:
    try:
        return parse_data(text)
    except TemplateError as error:
        raise APIError("InvalidParameterValue", str(error)) from error


async def filled(template: Parts, data: Mapping[str, Any]) -> parts.Content:
    """The template with its gaps filled; APIError if there is nothing to fill one with."""
    source = f"{template.subject}{template.text}{template.html}"
    try:
        if len(source) <= _SMALL_CHARACTERS and "{{#" not in source:
            return _rendered(template, data)
        return await asyncio.to_thread(_rendered, template, data)
    except TemplateError as error:
        raise APIError("InvalidParameterValue", str(error)) from error


def preview(template: Parts, data: str) -> str:
    """The message that a template makes, without addresses; TemplateError if it makes none."""
    content = _rendered(template, parse_data(data))
    message = SimpleMessage("", (), (), (), content.subject, content.text, content.html)
    return compose(message, "preview").decode("ascii", "replace")


def _rendered(template: Parts, data: Mapping[str, Any]) -> parts.Content:
    subject, text, html = (
        None if part is None else compiled(part)(data)
        for part in (template.subject, template.text, template.html)
    )
    return parts.Content(Text(subject or ""), text=_text(text), html=_text(html))


def _text(part: str | None) -> Text | None:
    return None if part is None else Text(part)


def with_extras(content: parts.Content, given: Mapping[str, Any]) -> parts.Content:
    """v2: header fields and attachments that a call adds."""
    fields, attachments = given.get("Headers", ()), given.get("Attachments", ())
    return replace(content, fields=parts.fields(fields), attachments=parts.attachments(attachments))
