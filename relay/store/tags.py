"""Tags: what an account writes on its identities, configuration sets and templates, by their ARN."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, delete, insert, select

from relay.store.changes import ControlWrite
from relay.store.tables import resource_tag


def of(connection: Connection, arn: str) -> dict[str, str]:
    """The tags of one thing, by their names."""
    columns = resource_tag.c.name, resource_tag.c.value
    query = select(*columns).where(resource_tag.c.arn == arn).order_by(resource_tag.c.name)
    return dict(connection.execute(query).all())


def put(write: ControlWrite, account_id: str, arn: str, tags: Mapping[str, str]) -> None:
    """Write them on it, each over one of the same name."""
    if not tags:
        return
    _delete(write, arn, tags)
    rows = [
        {"arn": arn, "name": name, "value": value, "account_id": account_id} for name, value in tags.items()
    ]
    write.connection.execute(insert(resource_tag), rows)
    write.note(arn, "TagResource", tags=dict(tags))


def remove(write: ControlWrite, arn: str, names: Collection[str]) -> None:
    _delete(write, arn, names)
    write.note(arn, "UntagResource", names=list(names))


def _delete(write: ControlWrite, arn: str, names: Collection[str]) -> None:
    found = resource_tag.c.arn == arn, resource_tag.c.name.in_(list(names))
    write.connection.execute(delete(resource_tag).where(*found))


def forget(write: ControlWrite, arn: str) -> None:
    """The thing is gone, and its tags with it."""
    write.connection.execute(delete(resource_tag).where(resource_tag.c.arn == arn))
