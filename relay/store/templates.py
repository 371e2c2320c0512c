"""Templates: messages with gaps, which an account sends filled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from relay.store.changes import ControlWrite
from relay.store.tables import email_template


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """A template; ``text`` or ``html`` may be None.  ``created_at`` is microseconds UTC."""

    id: int
    account_id: str
    name: str
    subject: str
    text: str | None
    html: str | None
    created_at: int


def add(write: ControlWrite, row: TemplateRow) -> None:
    write.connection.execute(insert(email_template), [asdict(row)])
    _note(write, row, "CreateEmailTemplate")


def change(write: ControlWrite, row: TemplateRow) -> None:
    """Its parts become those of ``row``."""
    parts = {"subject": row.subject, "text": row.text, "html": row.html}
    write.connection.execute(update(email_template).where(email_template.c.id == row.id).values(parts))
    _note(write, row, "UpdateEmailTemplate")


def remove(write: ControlWrite, row: TemplateRow) -> None:
    write.connection.execute(delete(email_template).where(email_template.c.id == row.id))
    _note(write, row, "DeleteEmailTemplate")


def _note(write: ControlWrite, row: TemplateRow, action: str) -> None:
    write.note(f"template:{row.account_id}:{row.name}", action)


def find(connection: Connection, account_id: str, name: str) -> TemplateRow | None:
    found = email_template.c.account_id == account_id, email_template.c.name == name
    row = connection.execute(select(email_template).where(*found)).first()
    return _row(row) if row else None


def count(connection: Connection, account_id: str) -> int:
    query = select(func.count()).select_from(email_template).where(email_template.c.account_id == account_id)
    return connection.execute(query).scalar_one()


def names(connection: Connection, account_id: str) -> dict[str, int]:
    """The account's templates by name, each with when it was made."""
    columns = email_template.c.name, email_template.c.created_at
    query = select(*columns).where(email_template.c.account_id == account_id).order_by(email_template.c.name)
    return dict(connection.execute(query).all())


def _row(row: Row[Any]) -> TemplateRow:
    return TemplateRow(**row._mapping)
