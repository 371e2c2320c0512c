"""Configuration sets: what an account fixes for the mail that names one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Row, delete, insert, select, update

from relay.outcome.events import TYPES
from relay.store.changes import ControlWrite, configuration_set_subject
from relay.store.tables import configuration_set, event_destination, identity

_STORED = {name: stored for stored, name in TYPES.items()}


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


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """An event destination; ``event_types`` by the names of ``eventType``."""

    id: int
    name: str
    enabled: bool
    event_types: frozenset[str]
    topic_arn: str


def add(write: ControlWrite, row: ConfigurationSetRow) -> None:
    write.connection.execute(insert(configuration_set), [asdict(row)])
    _record(write, row, "CreateConfigurationSet", tls_policy=row.tls_policy)


def change(write: ControlWrite, row: ConfigurationSetRow, action: str, **values: Any) -> None:
    found = configuration_set.c.id == row.id
    write.connection.execute(update(configuration_set).where(found).values(values))
    _record(write, row, action, **values)


def remove(write: ControlWrite, row: ConfigurationSetRow) -> None:
    of = event_destination.c.configuration_set_id == row.id
    write.connection.execute(delete(event_destination).where(of))
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


# ---------------------------------------------------------------- event destinations


def put_destination(write: ControlWrite, of: ConfigurationSetRow, one: DestinationRow) -> None:
    """Store the destination under its name, over one that was there."""
    write.connection.execute(_destination(of, one.name))
    stored = sorted(_STORED[name] for name in one.event_types)
    row = {
        "id": one.id,
        "account_id": of.account_id,
        "configuration_set_id": of.id,
        "name": one.name,
        "enabled": one.enabled,
        "event_types": orjson.dumps(stored).decode(),
        "topic_arn": one.topic_arn,
    }
    write.connection.execute(insert(event_destination), [row])
    detail = {"name": one.name, "enabled": one.enabled, "event_types": stored, "topic_arn": one.topic_arn}
    _record(write, of, "PutConfigurationSetEventDestination", **detail)


def remove_destination(write: ControlWrite, of: ConfigurationSetRow, name: str) -> bool:
    """Remove it; False if there is none of that name."""
    if write.connection.execute(_destination(of, name)).rowcount == 0:
        return False
    _record(write, of, "DeleteConfigurationSetEventDestination", name=name)
    return True


def _destination(of: ConfigurationSetRow, name: str) -> Any:
    columns = event_destination.c
    return delete(event_destination).where(columns.configuration_set_id == of.id, columns.name == name)


def destinations(connection: Connection, set_id: int) -> list[DestinationRow]:
    """The set's, by name."""
    of = event_destination.c.configuration_set_id == set_id
    rows = connection.execute(select(event_destination).where(of).order_by(event_destination.c.name))
    return [_destination_row(row) for row in rows]


def _destination_row(row: Row[Any]) -> DestinationRow:
    # A type that a later release added says nothing here.
    taken = frozenset(TYPES[name] for name in orjson.loads(row.event_types) if name in TYPES)
    return DestinationRow(row.id, row.name, row.enabled, taken, row.topic_arn)


def _record(write: ControlWrite, row: ConfigurationSetRow, action: str, **detail: Any) -> None:
    write.record(configuration_set_subject(row.account_id, row.name), action, **detail)
