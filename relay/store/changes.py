"""The change feed: what in the control plane is no longer as somebody may have cached it.

Control-plane writes are serialised, so that the numbers of the feed are in commit order, and each says
which ``subject`` it touched.  A worker reads the feed every 200 ms; a group commit reads it too, and a
message that was judged on a subject changed since is judged again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, text

from relay.authorization.identities import identity_arn
from relay.store import audit, ledger
from relay.store.engine import Store
from relay.store.prepared import Prepared
from relay.store.tables import change, meta

# Any constant will do, as long as nobody else takes the same advisory lock in this database.
_CONTROL_LOCK = 0x72656C6179
CHANNEL = "relay_change"
_NEWEST = Prepared(select(func.max(change.c.seq)))
_IDENTITY = "identity"


def account_subject(account_id: str) -> str:
    return f"account:{account_id}"


def user_subject(unique_id: str) -> str:
    """Of a user with its policies, by its immutable id."""
    return f"user:{unique_id}"


def credential_subject(access_key_id: str) -> str:
    return f"credential:{access_key_id}"


def identity_subject(account_id: str, name: str) -> str:
    """Of an identity with its policies and keys, whether it exists or not."""
    return f"{_IDENTITY}:{account_id}:{name}"


def identity_of(subject: str) -> tuple[str, str] | None:
    """The account and the case-folded name, if the subject is an identity."""
    kind, _, rest = subject.partition(":")
    account_id, _, name = rest.partition(":")
    return (account_id, name.lower()) if kind == "identity" else None


def configuration_set_subject(account_id: str, name: str) -> str:
    return f"configuration-set:{account_id}:{name}"


def topic_subject(account_id: str, name: str) -> str:
    """Of a topic with its subscriptions and the accounts it is open to."""
    return f"topic:{account_id}:{name}"


@dataclass(frozen=True, slots=True)
class ControlWrite:
    """A control-plane transaction under way: its connection, and where changes are recorded."""

    connection: Connection
    actor: str

    def record(self, subject: str, action: str, **detail: Any) -> None:
        """Note that ``subject`` was changed by ``action`` ("PutIdentityPolicy"): for caches and the audit."""
        at = time.time_ns() // 1000
        row = {"at": at, "subject": subject, "action": action, "actor": self.actor}
        self.connection.execute(insert(change), [row])
        self._keep(at, subject, action, detail)

    def note(self, subject: str, action: str, **detail: Any) -> None:
        """The same for what no cache holds."""
        self._keep(time.time_ns() // 1000, subject, action, detail)

    def _keep(self, at: int, subject: str, action: str, detail: dict[str, Any]) -> None:
        """Into the audit, and what concerns an identity into its owner's ledger."""
        audit.add(self.connection, at, self.actor, action, subject, detail)
        arn = _identity_arn(self.connection, subject)
        if arn is not None:
            told = {"action": action, "actor": self.actor, "detail": detail}
            ledger.append(self.connection, [ledger.entry(arn, at, ledger.CHANGE, told)])


def _identity_arn(connection: Connection, subject: str) -> str | None:
    """The ARN of the identity that a subject names; a store without a region has none, and no mail."""
    kind, _, rest = subject.partition(":")
    if kind != _IDENTITY:
        return None
    account_id, _, name = rest.partition(":")
    region = connection.execute(select(meta.c.value).where(meta.c.name == "region")).scalar()
    return identity_arn(region, account_id, name) if region else None


@contextmanager
def control_write(store: Store, actor: str) -> Iterator[ControlWrite]:
    """One control-plane transaction, one at a time over all processes and nodes."""
    with store.write() as connection:
        if not store.is_sqlite:  # SQLite has one writer anyway
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CONTROL_LOCK})
        yield ControlWrite(connection, actor)
        if not store.is_sqlite:
            connection.execute(text(f"NOTIFY {CHANNEL}"))


def newest(connection: Connection) -> int:
    """The number of the newest change; 0 before the first."""
    found = _NEWEST(connection).fetchone()
    return found[0] or 0 if found else 0


def newest_at(connection: Connection) -> int:
    """When the newest change was made, microseconds UTC; 0 before the first."""
    return connection.execute(select(change.c.at).order_by(change.c.seq.desc()).limit(1)).scalar() or 0


def since(connection: Connection, seq: int, limit: int = 10_000) -> list[tuple[int, str]]:
    """The (number, subject) pairs after ``seq``, oldest first, at most ``limit``."""
    query = (
        select(change.c.seq, change.c.subject).where(change.c.seq > seq).order_by(change.c.seq).limit(limit)
    )
    return [(row.seq, row.subject) for row in connection.execute(query)]
