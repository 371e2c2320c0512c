"""Templates: made, changed, removed; what cannot be read as a template is not stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from relay.control import accounts, tags
from relay.control.ground import ControlError, Ground, now
from relay.store import tags as stored_tags
from relay.store import templates
from relay.store.templates import TemplateRow as TemplateRow  # the API shows it
from relay.submission.template import TemplateError, compiled

# SES's quotas; the size is that of all parts together.
_MOST = 10_000
_MOST_CHARACTERS = 500 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch


def create(
    ground: Ground,
    account_id: str,
    name: str,
    subject: str,
    text: str | None,
    html: str | None,
    labels: Mapping[str, str] | None = None,
) -> TemplateRow:
    """A new template."""
    accounts.get(ground, account_id)
    if not _NAME(name):
        raise ControlError("invalid_name", f"{name!r}: a template's name has 1 to 64 of A-Z a-z 0-9 _ -")
    row = TemplateRow(ground.new_id(), account_id, name, subject, text, html, now())
    _check(row)
    with ground.write() as write:
        if templates.find(write.connection, account_id, name):
            raise ControlError("already_exists", f"Template {name} already exists.")
        if templates.count(write.connection, account_id) >= _MOST:
            raise ControlError("limit_exceeded", f"account {account_id} has {_MOST} templates already")
        templates.add(write, row)
        tags.add(write, account_id, tags.arn_of(ground, account_id, "template", name), labels or {})
    return row


def find(ground: Ground, account_id: str, name: str) -> TemplateRow | None:
    with ground.store.read() as connection:
        return templates.find(connection, account_id, name)


def names(ground: Ground, account_id: str) -> dict[str, int]:
    """The account's templates by name, each with when it was made (microseconds UTC)."""
    with ground.store.read() as connection:
        return templates.names(connection, account_id)


def update(ground: Ground, row: TemplateRow, subject: str, text: str | None, html: str | None) -> None:
    """Other parts for a template."""
    changed = replace(row, subject=subject, text=text, html=html)
    _check(changed)
    with ground.write() as write:
        templates.change(write, changed)


def delete(ground: Ground, row: TemplateRow) -> None:
    """Remove it; mail that names it is refused from then on."""
    with ground.write() as write:
        templates.remove(write, row)
        stored_tags.forget(write, tags.arn_of(ground, row.account_id, "template", row.name))


def _check(row: TemplateRow) -> None:
    parts = {"subject": row.subject, "text": row.text, "html": row.html}
    if row.text is None and row.html is None:
        raise ControlError("invalid_template", "a template has a text part, an HTML part or both")
    if sum(len(part or "") for part in parts.values()) > _MOST_CHARACTERS:
        raise ControlError("invalid_template", f"a template has at most {_MOST_CHARACTERS} characters")
    for name, part in parts.items():
        try:
            compiled(part or "")
        except TemplateError as error:
            raise ControlError("invalid_template", f"{name} part: {error}") from error
