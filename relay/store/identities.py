"""Identities, their signing keys and their policies."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from relay.authorization.identities import parse_identity_arn
from relay.store.changes import ControlWrite, identity_subject
from relay.store.sealed import place
from relay.store.tables import dkim_key, identity, identity_policy

_DKIM = "PutEmailIdentityDkimSigningAttributes"


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """An identity as stored; statuses are SES's API v2 names, instants microseconds UTC."""

    id: int
    account_id: str
    name: str
    type: str
    verification_status: str
    verification_token: str
    dkim_enabled: bool
    dkim_status: str
    feedback_forwarding: bool
    configuration_set: str | None
    created_at: int
    verification_requested_at: int | None = None
    check_at: int | None = None
    failing_since: int | None = None
    dkim_requested_at: int | None = None
    dkim_failing_since: int | None = None
    confirmation: str | None = None
    mail_from_domain: str | None = None
    mail_from_status: str | None = None
    mail_from_on_failure: str | None = None
    mail_from_requested_at: int | None = None
    bounce_topic: str | None = None
    complaint_topic: str | None = None
    delivery_topic: str | None = None
    headers_in_bounce: bool = False
    headers_in_complaint: bool = False
    headers_in_delivery: bool = False


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A signing key without its private half."""

    id: int
    selector: str
    algorithm: str
    public_record: str
    status: str


def add(write: ControlWrite, row: IdentityRow) -> None:
    write.connection.execute(insert(identity), [asdict(row)])
    _record(write, row, "CreateEmailIdentity", verification_status=row.verification_status)


def change(
    write: ControlWrite, row: IdentityRow, action: str, because: str | None = None, **values: Any
) -> None:
    """``because`` stands in the audit when it was not asked for."""
    write.connection.execute(update(identity).where(identity.c.id == row.id).values(values))
    detail = {name: value for name, value in values.items() if name != "confirmation"}
    if because is not None:
        detail["because"] = because
    _record(write, row, action, **detail)


def touch(connection: Connection, row: IdentityRow, **values: Any) -> None:
    """Change what no cache holds: when it is looked at, and since when it waits."""
    connection.execute(update(identity).where(identity.c.id == row.id).values(values))


def due(connection: Connection, at: int, limit: int) -> list[IdentityRow]:
    """Identities to be looked at, the longest due first."""
    query = select(identity).where(identity.c.check_at <= at).order_by(identity.c.check_at).limit(limit)
    return [IdentityRow(**row) for row in connection.execute(query).mappings()]


def next_check(connection: Connection) -> int | None:
    """When the next identity is due."""
    return connection.execute(select(func.min(identity.c.check_at))).scalar()


def claim_check(connection: Connection, row: IdentityRow, until: int) -> bool:
    """Take the look on: ours, unless another process moved it first."""
    ours = identity.c.id == row.id, identity.c.check_at == row.check_at
    return connection.execute(update(identity).where(*ours).values(check_at=until)).rowcount == 1


def remove(write: ControlWrite, row: IdentityRow) -> None:
    """The identity with its keys and policies."""
    for table in (dkim_key, identity_policy):
        write.connection.execute(delete(table).where(table.c.identity_id == row.id))
    write.connection.execute(delete(identity).where(identity.c.id == row.id))
    _record(write, row, "DeleteEmailIdentity")


def find(connection: Connection, account_id: str, name: str) -> IdentityRow | None:
    query = select(identity).where(identity.c.account_id == account_id, identity.c.name == name)
    row = connection.execute(query).mappings().first()
    return IdentityRow(**row) if row else None


def lock(write: ControlWrite, account_id: str, name: str) -> IdentityRow | None:
    """The identity as it is now, not to change until the transaction ends."""
    query = select(identity).where(identity.c.account_id == account_id, identity.c.name == name)
    row = write.connection.execute(query.with_for_update()).mappings().first()
    return IdentityRow(**row) if row else None


def find_by_arn(connection: Connection, arn: str) -> IdentityRow | None:
    """The identity that the ARN names to the letter, whatever its region: a store has one."""
    named = parse_identity_arn(arn)
    return find(connection, named.account_id, named.name) if named else None


def find_by_confirmation(connection: Connection, hashed: str) -> IdentityRow | None:
    """The address that waits for the code with this hash."""
    row = connection.execute(select(identity).where(identity.c.confirmation == hashed)).mappings().first()
    return IdentityRow(**row) if row else None


def every(connection: Connection, account_id: str | None) -> list[IdentityRow]:
    """All of an account, or of all accounts."""
    query = select(identity).order_by(identity.c.account_id, identity.c.name)
    if account_id is not None:
        query = query.where(identity.c.account_id == account_id)
    return [IdentityRow(**row) for row in connection.execute(query).mappings()]


def in_dns(connection: Connection, limit: int) -> list[IdentityRow]:
    """Verified identities that have records in DNS."""
    has_records = or_(identity.c.type == "DOMAIN", identity.c.mail_from_domain.is_not(None))
    query = select(identity).where(identity.c.verification_status == "SUCCESS", has_records)
    rows = connection.execute(query.order_by(identity.c.account_id, identity.c.name).limit(limit))
    return [IdentityRow(**row) for row in rows.mappings()]


def _record(write: ControlWrite, row: IdentityRow, action: str, **detail: Any) -> None:
    write.record(identity_subject(row.account_id, row.name), action, **detail)


# ---------------------------------------------------------------- keys


def key_place(key_id: int) -> str:
    """Where a private key is sealed for."""
    return place(dkim_key.c.private_key, key_id)


def add_key(write: ControlWrite, of: IdentityRow, key: KeyRow, sealed: bytes, at: int) -> None:
    row = {
        **asdict(key),
        "account_id": of.account_id,
        "identity_id": of.id,
        "private_key": sealed,
        "created_at": at,
    }
    write.connection.execute(insert(dkim_key), [row])
    _record(write, of, _DKIM, added=key.selector, algorithm=key.algorithm, status=key.status)


def remove_keys(
    write: ControlWrite, of: IdentityRow, algorithm: str | None = None, status: str | None = None
) -> None:
    """Its keys, or those of one algorithm or status."""
    query = delete(dkim_key).where(dkim_key.c.identity_id == of.id)
    if algorithm is not None:
        query = query.where(dkim_key.c.algorithm == algorithm)
    if status is not None:
        query = query.where(dkim_key.c.status == status)
    write.connection.execute(query)
    _record(write, of, _DKIM, removed=algorithm or status or "all")


def promote_key(write: ControlWrite, of: IdentityRow, key: KeyRow) -> None:
    """A key that waited signs from now on, instead of the one of its algorithm before it."""
    others = dkim_key.c.identity_id == of.id, dkim_key.c.algorithm == key.algorithm, dkim_key.c.id != key.id
    write.connection.execute(delete(dkim_key).where(*others))
    write.connection.execute(update(dkim_key).where(dkim_key.c.id == key.id).values(status="signing"))
    _record(write, of, _DKIM, signs=key.selector)


def keys(connection: Connection, identity_id: int) -> list[KeyRow]:
    columns = (
        dkim_key.c.id,
        dkim_key.c.selector,
        dkim_key.c.algorithm,
        dkim_key.c.public_record,
        dkim_key.c.status,
    )
    query = select(*columns).where(dkim_key.c.identity_id == identity_id).order_by(dkim_key.c.id)
    return [KeyRow(**row) for row in connection.execute(query).mappings()]


# ---------------------------------------------------------------- policies


def put_policy(write: ControlWrite, of: IdentityRow, row_id: int, name: str, document: str, at: int) -> None:
    """Store the policy under its name, over one that was there."""
    write.connection.execute(_policy(of.id, name))
    row = {
        "id": row_id,
        "account_id": of.account_id,
        "identity_id": of.id,
        "name": name,
        "document": document,
        "updated_at": at,
    }
    write.connection.execute(insert(identity_policy), [row])
    _record(write, of, "PutIdentityPolicy", name=name, document=document)


def delete_policy(write: ControlWrite, of: IdentityRow, name: str) -> bool:
    _record(write, of, "DeleteIdentityPolicy", name=name)
    return write.connection.execute(_policy(of.id, name)).rowcount > 0


def _policy(identity_id: int, name: str) -> Any:
    return delete(identity_policy).where(
        identity_policy.c.identity_id == identity_id, identity_policy.c.name == name
    )


def policies(connection: Connection, identity_id: int) -> dict[str, str]:
    """The identity's policies, by name."""
    query = (
        select(identity_policy.c.name, identity_policy.c.document)
        .where(identity_policy.c.identity_id == identity_id)
        .order_by(identity_policy.c.name)
    )
    return dict(connection.execute(query).all())


def replace_in_policies(write: ControlWrite, principal_arn: str, replacement: str) -> int:
    """Write ``replacement`` for a principal's ARN in every policy that names it; gives their number.

    As IAM does when a user is deleted: the grant stays visible and is nobody's, so that a user made anew
    under the same name inherits nothing.
    """
    quoted = f'"{principal_arn}"'
    find = func.instr if write.connection.dialect.name == "sqlite" else func.strpos
    query = (
        select(identity_policy.c.id, identity_policy.c.document, identity.c.account_id, identity.c.name)
        .join(identity, identity.c.id == identity_policy.c.identity_id)
        .where(find(identity_policy.c.document, quoted) > 0)
    )
    rows = write.connection.execute(query).all()
    for row in rows:
        document = row.document.replace(quoted, f'"{replacement}"')
        write.connection.execute(
            update(identity_policy).where(identity_policy.c.id == row.id).values(document=document)
        )
        write.record(
            identity_subject(row.account_id, row.name), "DeleteUser", replaced=principal_arn, by=replacement
        )
    return len(rows)
