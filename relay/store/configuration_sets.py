"""Configuration sets: what an account fixes for the mail that names one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from relay.store.changes import ControlWrite, configuration_set_subject
from relay.store.tables import configuration_set, identity


@dataclass(frozen=True, slots=True)
class ConfigurationSetRow:
    """``tls_policy`` is OPTIONAL or REQUIRE, as SES has it; ``created_at`` is microseconds UTC."""

    id: int
    account_id: str
    name: str
    sending_enabled: bool
    created_at: int
    tls_policy: str
    max_delivery_seconds: int | None = None
    suppressed_reasons: str | None = None  # a JSON list; None follows the account


def add(write: ControlWrite, row: ConfigurationSetRow) -> None:
    write.connection.execute(insert(configuration_set), [asdict(row)])
    _record(write, row, "CreateConfigurationSet", tls_policy=row.tls_policy)


def change(write: ControlWrite, row: ConfigurationSetRow, action: str, **values: Any) -> None:
    found = configuration_set.c.id == row.id
    write.connection.execute(update(configuration_set).where(found).values(values))
    _record(write, row, action, **values)


def remove(write: ControlWrite, row: ConfigurationSetRow) -> None:
    write.connection.execute(delete(configuration_set).where(configuration_set.c.id == row.id))
    _record(write, row, "DeleteConfigurationSet")


def find(connection: Connection, account_id: str, name: str) -> ConfigurationSetRow | None:
    found = (configuration_set.c.account_id == account_id, configuration_set.c.name == name)
    row = connection.execute(select(configuration_set).where(*found)).mappings().first()
    return ConfigurationSetRow(**row) if row else None


def every(connection: Connection, account_id: str | None) -> list[ConfigurationSetRow]:
    """All of an account, or of all accounts."""
    query = select(configuration_set).order_by(configuration_set.c.account_id, configuration_set.c.name)
    if account_id is not None:
        query = query.where(configuration_set.c.account_id == account_id)
    return [ConfigurationSetRow(**row) for row in connection.execute(query).mappings()]


def default_of(connection: Connection, account_id: str, name: str) -> list[str]:
    """The identities whose default set it is."""
    found = (identity.c.account_id == account_id, identity.c.configuration_set == name)
    return list(connection.execute(select(identity.c.name).where(*found).order_by(identity.c.name)).scalars())


def _record(write: ControlWrite, row: ConfigurationSetRow, action: str, **detail: Any) -> None:
    write.record(configuration_set_subject(row.account_id, row.name), action, **detail)
