"""IAM users and their own policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Delete, Row, delete, func, insert, select

from relay.store.changes import ControlWrite, user_subject
from relay.store.tables import iam_user, user_policy


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user.  ``unique_id`` is never used again, whatever is made under the same name."""

    id: int
    account_id: str
    name: str
    path: str
    unique_id: str
    tags: dict[str, str]
    created_at: int

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account_id}:user{self.path}{self.name}"


def add(write: ControlWrite, user: UserRow) -> None:
    row = {
        "id": user.id,
        "account_id": user.account_id,
        "name": user.name,
        "path": user.path,
        "unique_id": user.unique_id,
        "tags": orjson.dumps(user.tags).decode(),
        "created_at": user.created_at,
    }
    write.connection.execute(insert(iam_user), [row])
    write.record(user_subject(user.unique_id), "CreateUser", arn=user.arn, tags=user.tags)


def remove(write: ControlWrite, user: UserRow) -> None:
    """The user and its policies; its credentials must be gone."""
    write.connection.execute(delete(user_policy).where(user_policy.c.user_id == user.id))
    write.connection.execute(delete(iam_user).where(iam_user.c.id == user.id))
    write.record(user_subject(user.unique_id), "DeleteUser", arn=user.arn)


def find(connection: Connection, account_id: str, name: str) -> UserRow | None:
    """By name, which IAM compares without case."""
    query = select(iam_user).where(
        iam_user.c.account_id == account_id, func.lower(iam_user.c.name) == name.lower()
    )
    row = connection.execute(query).first()
    return _user(row) if row else None


def every(connection: Connection, account_id: str) -> list[UserRow]:
    query = select(iam_user).where(iam_user.c.account_id == account_id).order_by(iam_user.c.name)
    return [_user(row) for row in connection.execute(query)]


def _user(row: Row[Any]) -> UserRow:
    fields = dict(row._mapping)
    return UserRow(**{**fields, "tags": orjson.loads(fields["tags"])})


def put_policy(write: ControlWrite, user: UserRow, row_id: int, name: str, document: str, at: int) -> None:
    """Store the policy under its name, over one that was there."""
    write.connection.execute(_of(user, name))
    row = {
        "id": row_id,
        "account_id": user.account_id,
        "user_id": user.id,
        "name": name,
        "document": document,
        "updated_at": at,
    }
    write.connection.execute(insert(user_policy), [row])
    write.record(user_subject(user.unique_id), "PutUserPolicy", arn=user.arn, name=name, document=document)


def delete_policy(write: ControlWrite, user: UserRow, name: str) -> bool:
    write.record(user_subject(user.unique_id), "DeleteUserPolicy", arn=user.arn, name=name)
    return write.connection.execute(_of(user, name)).rowcount > 0


def _of(user: UserRow, name: str) -> Delete:
    return delete(user_policy).where(user_policy.c.user_id == user.id, user_policy.c.name == name)


def policies(connection: Connection, user: UserRow) -> dict[str, str]:
    """The user's own policies, by name."""
    query = (
        select(user_policy.c.name, user_policy.c.document)
        .where(user_policy.c.user_id == user.id)
        .order_by(user_policy.c.name)
    )
    return dict(connection.execute(query).all())
