"""Templates, in the words of SES v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.api import models
from relay.api.pages import page, page_size
from relay.api.tags import labels, tags_of
from relay.api.targets import nothing, template
from relay.api.templates import parts_of, preview
from relay.api.templates_v1 import instant, must_find
from relay.api.values import APIError, Caller, Operations, in_thread
from relay.control import templates
from relay.control.tags import arn_of
from relay.submission.template import TemplateError

_DEFAULT_PAGE = 10
_NOT_FOUND = "NotFoundException"


def create(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    named = labels(given.get("Tags", ()))
    parts = _parts(given["TemplateContent"])
    templates.create(caller.ground, caller.account_id, given["TemplateName"], *parts, labels=named)
    return {}


def _parts(given: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    return given.get("Subject", ""), given.get("Text"), given.get("Html")


def get(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = must_find(caller, given["TemplateName"], _NOT_FOUND)
    return {
        "TemplateName": row.name,
        "TemplateContent": {"Subject": row.subject, "Text": row.text, "Html": row.html},
        "Tags": tags_of(caller, arn_of(caller.ground, caller.account_id, "template", row.name)),
    }


def list_(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    made = templates.names(caller.ground, caller.account_id)
    names, token = page(
        caller, list(made), given.get("NextToken"), page_size(given, "PageSize", _DEFAULT_PAGE)
    )
    return {
        "TemplatesMetadata": [
            {"TemplateName": name, "CreatedTimestamp": instant(made[name])} for name in names
        ],
        "NextToken": token,
    }


def update(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = must_find(caller, given["TemplateName"], _NOT_FOUND)
    templates.update(caller.ground, row, *_parts(given["TemplateContent"]))
    return {}


def delete(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    templates.delete(caller.ground, must_find(caller, given["TemplateName"], _NOT_FOUND))
    return {}


def test_render(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = must_find(caller, given["TemplateName"], _NOT_FOUND)
    try:
        return {"RenderedTemplate": preview(parts_of(row), given["TemplateData"])}
    except TemplateError as error:
        raise APIError("BadRequestException", str(error)) from error


_OF_TEMPLATE = template("TemplateName")

OPERATIONS: Operations = {
    (models.SESV2, name): in_thread(work, name, target)
    for name, work, target in (
        ("CreateEmailTemplate", create, _OF_TEMPLATE),
        ("GetEmailTemplate", get, _OF_TEMPLATE),
        ("ListEmailTemplates", list_, nothing),
        ("UpdateEmailTemplate", update, _OF_TEMPLATE),
        ("DeleteEmailTemplate", delete, _OF_TEMPLATE),
        ("TestRenderEmailTemplate", test_render, _OF_TEMPLATE),
    )
}
