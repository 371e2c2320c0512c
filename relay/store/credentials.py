"""Access keys.  The secret is stored sealed; nobody can read it back, only use it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from relay.store.changes import ControlWrite, credential_subject
from relay.store.sealed import place
from relay.store.tables import credential


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """An access key of a user, or of a service that acts for ``source_arn``.

    ``networks`` are where it may be used from, None for anywhere.
    """

    access_key_id: str
    account_id: str
    user_id: int | None
    service: str | None
    source_arn: str | None
    active: bool
    created_at: int
    networks: tuple[str, ...] | None = None


_COLUMNS = (
    credential.c.access_key_id,
    credential.c.account_id,
    credential.c.user_id,
    credential.c.service,
    credential.c.source_arn,
    credential.c.active,
    credential.c.created_at,
    credential.c.networks,
)


def secret_place(access_key_id: str) -> str:
    """Where a secret is sealed for."""
    return place(credential.c.secret, access_key_id)


def add(write: ControlWrite, row: CredentialRow, sealed_secret: bytes) -> None:
    values = {**asdict(row), "networks": _stored(row.networks), "secret": sealed_secret}
    write.connection.execute(insert(credential), [values])
    write.record(credential_subject(row.access_key_id), "CreateAccessKey", **asdict(row))


def set_active(write: ControlWrite, access_key_id: str, active: bool) -> None:
    found = credential.c.access_key_id == access_key_id
    write.connection.execute(update(credential).where(found).values(active=active))
    write.record(credential_subject(access_key_id), "UpdateAccessKey", active=active)


def set_networks(write: ControlWrite, access_key_id: str, networks: tuple[str, ...] | None) -> None:
    found = credential.c.access_key_id == access_key_id
    write.connection.execute(update(credential).where(found).values(networks=_stored(networks)))
    write.record(credential_subject(access_key_id), "UpdateAccessKey", networks=networks)


def remove(write: ControlWrite, access_key_id: str) -> None:
    write.connection.execute(delete(credential).where(credential.c.access_key_id == access_key_id))
    write.record(credential_subject(access_key_id), "DeleteAccessKey")


def find(connection: Connection, access_key_id: str) -> CredentialRow | None:
    query = select(*_COLUMNS).where(credential.c.access_key_id == access_key_id)
    row = connection.execute(query).mappings().first()
    return _row(row) if row else None


def every(connection: Connection, account_id: str) -> list[CredentialRow]:
    query = select(*_COLUMNS).where(credential.c.account_id == account_id).order_by(credential.c.created_at)
    return [_row(row) for row in connection.execute(query).mappings()]


def networks_of(stored: str | None) -> tuple[str, ...] | None:
    """The networks as the column holds them."""
    return None if stored is None else tuple(json.loads(stored))


def _stored(networks: tuple[str, ...] | None) -> str | None:
    return None if networks is None else json.dumps(networks)


def _row(row: RowMapping) -> CredentialRow:
    return CredentialRow(**{**row, "networks": networks_of(row["networks"])})


def of_user(connection: Connection, user_id: int) -> list[str]:
    query = select(credential.c.access_key_id).where(credential.c.user_id == user_id)
    return list(connection.execute(query).scalars())


def count_of_user(connection: Connection, user_id: int) -> int:
    query = select(func.count()).select_from(credential).where(credential.c.user_id == user_id)
    return connection.execute(query).scalar_one()
