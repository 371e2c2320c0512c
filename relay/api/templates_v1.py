"""Templates, in the words of SES v1."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from relay.api import models
from relay.api.pages import page, page_size
from relay.api.targets import nothing, template
from relay.api.templates import parts_of, preview
from relay.api.values import APIError, Caller, Operations, Target, in_thread
from relay.control import templates
from relay.control.templates import TemplateRow
from relay.submission.template import MissingAttribute, TemplateError

_DEFAULT_PAGE = 10


def must_find(caller: Caller, name: str, code: str) -> TemplateRow:
    row = templates.find(caller.ground, caller.account_id, name)
    if row is None:
        raise APIError(code, f"Template {name} does not exist.")
    return row


def instant(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def create(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    new = given["Template"]
    templates.create(caller.ground, caller.account_id, new["TemplateName"], *_parts(new))
    return {}


def _parts(given: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
    return given.get("SubjectPart", ""), given.get("TextPart"), given.get("HtmlPart")


def get(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = must_find(caller, given["TemplateName"], "TemplateDoesNotExistException")
    parts = {"SubjectPart": row.subject, "TextPart": row.text, "HtmlPart": row.html}
    return {"Template": {"TemplateName": row.name, **parts}}


def list_(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    made = templates.names(caller.ground, caller.account_id)
    names, token = page(
        caller, list(made), given.get("NextToken"), page_size(given, "MaxItems", _DEFAULT_PAGE)
    )
    return {
        "TemplatesMetadata": [{"Name": name, "CreatedTimestamp": instant(made[name])} for name in names],
        "NextToken": token,
    }


def update(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    changed = given["Template"]
    row = must_find(caller, changed["TemplateName"], "TemplateDoesNotExistException")
    templates.update(caller.ground, row, *_parts(changed))
    return {}


def delete(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """No error if there is none, as in SES."""
    row = templates.find(caller.ground, caller.account_id, given["TemplateName"])
    if row is not None:
        templates.delete(caller.ground, row)
    return {}


def _named(caller: Caller, given: Mapping[str, Any]) -> Target:
    return template("TemplateName")(caller, given["Template"])


def test_render(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    row = must_find(caller, given["TemplateName"], "TemplateDoesNotExistException")
    try:
        return {"RenderedTemplate": preview(parts_of(row), given["TemplateData"])}
    except MissingAttribute as error:
        raise APIError("MissingRenderingAttributeException", str(error)) from error
    except TemplateError as error:
        raise APIError("InvalidRenderingParameterException", str(error)) from error


OPERATIONS: Operations = {
    (models.SES, name): in_thread(work, name, target)
    for name, work, target in (
        ("CreateTemplate", create, _named),
        ("GetTemplate", get, template("TemplateName")),
        ("ListTemplates", list_, nothing),
        ("UpdateTemplate", update, _named),
        ("DeleteTemplate", delete, template("TemplateName")),
        ("TestRenderTemplate", test_render, template("TemplateName")),
    )
}
