"""The owner's ledger: what happened in an identity's name, so that nobody can change it unnoticed.

Entries are appended in the transaction of what they tell of, by whoever makes it, without waiting for
anybody.  One sealer at a time numbers what is new, per identity, and chains it: each hash is over the one
before and the entry.  Entries commit in no order of their own; the order of sealing counts.  The database
refuses to touch a sealed one; who gets past that breaks the chain, and ``verify`` says where.

The hash is SHA-256, in hexadecimal, over the text of the hash before (64 zeros for the first) and the entry
as JSON in UTF-8: keys sorted, no spaces, nothing escaped that need not be (RFC 8785), numbers are integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnClause, Connection, bindparam, func, literal_column, select, text, update

from relay.store.engine import Store
from relay.store.prepared import Prepared, Row, RowInsert
from relay.store.tables import ledger

CHANGE, ACCEPTED, REFUSED = "change", "accepted", "refused"
_BEFORE_THE_FIRST = "0" * 64
# Any constant will do, as long as nobody else takes the same advisory lock in this database.
_SEALER_LOCK = 0x6C6564676572
_PAGE = 1000

_INSERT = RowInsert(ledger, "identity_arn", "at", "kind", "detail")
# Said, because SQLAlchemy would give SQLite a parameter for it.
_FROM_FIRST: ColumnClause[int] = literal_column("0")
_UNSEALED = Prepared(
    select(ledger.c.id, ledger.c.identity_arn, ledger.c.at, ledger.c.kind, ledger.c.detail)
    .where(ledger.c.seq.is_(None))
    .order_by(ledger.c.id)
    .limit(bindparam("limit"))
    .offset(_FROM_FIRST),
    "limit",
)
_HEAD = Prepared(
    select(ledger.c.seq, ledger.c.hash)
    .where(ledger.c.identity_arn == bindparam("arn"), ledger.c.seq.is_not(None))
    .order_by(ledger.c.seq.desc())
    .limit(literal_column("1"))
    .offset(_FROM_FIRST),
    "arn",
)
_SEAL = Prepared(
    update(ledger)
    .where(ledger.c.id == bindparam("of_id"))
    .values(seq=bindparam("to_seq"), hash=bindparam("to_hash")),
    *("to_seq", "to_hash", "of_id"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened; ``at`` is microseconds UTC, ``detail`` JSON with sorted keys."""

    identity_arn: str
    at: int
    kind: str
    detail: str

    def row(self) -> Row:
        return self.identity_arn, self.at, self.kind, self.detail


def entry(identity_arn: str, at: int, kind: str, detail: dict[str, Any]) -> Entry:
    return Entry(identity_arn, at, kind, orjson.dumps(detail, option=orjson.OPT_SORT_KEYS).decode())


def append(connection: Connection, entries: Iterable[Entry]) -> None:
    """Write them down, in the caller's transaction."""
    _INSERT(connection, [one.row() for one in entries])


# ---------------------------------------------------------------- sealing


def canonical(seq: int, of: Entry) -> str:
    """The entry as it is hashed; ``of.detail`` has this form already, and ``of.kind`` needs no escape."""
    arn = orjson.dumps(of.identity_arn).decode()
    return f'{{"at":{of.at},"detail":{of.detail},"identity_arn":{arn},"kind":"{of.kind}","seq":{seq}}}'


def link(before: str, seq: int, of: Entry) -> str:
    """The hash of an entry that follows the one with the hash ``before``."""
    return hashlib.sha256((before + canonical(seq, of)).encode()).hexdigest()


def is_any_unsealed(connection: Connection) -> bool:
    return _UNSEALED(connection, 1).fetchone() is not None


def seal(connection: Connection, limit: int) -> int:
    """Number and chain the next entries, at most ``limit``; gives how many.

    None if another process is at it: SQLite has one writer anyway, on PostgreSQL a lock says so.
    """
    if connection.dialect.name == "postgresql":
        lock = text("SELECT pg_try_advisory_xact_lock(:key)")
        if not connection.execute(lock, {"key": _SEALER_LOCK}).scalar():
            return 0
    entries = [(id_, Entry(*of)) for id_, *of in _UNSEALED(connection, limit).fetchall()]
    if entries:
        heads = {arn: _head(connection, arn) for arn in {of.identity_arn for _, of in entries}}
        _SEAL.many(connection, [_sealed(id_, of, heads) for id_, of in entries])
    return len(entries)


def _head(connection: Connection, arn: str) -> tuple[int, str]:
    """Number and hash of the identity's last sealed entry."""
    row = _HEAD(connection, arn).fetchone()
    return (row[0], row[1]) if row else (0, _BEFORE_THE_FIRST)


def _sealed(id_: int, of: Entry, heads: dict[str, tuple[int, str]]) -> Row:
    """What the row gets; it is its identity's head from now on."""
    seq, before = heads[of.identity_arn]
    heads[of.identity_arn] = seq, hash_ = seq + 1, link(before, seq + 1, of)
    return seq, hash_, id_


def _entry(row: Any) -> Entry:
    return Entry(row.identity_arn, row.at, row.kind, row.detail)


# ---------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class Sealed:
    """An entry with its number and hash; both are None while it waits for the sealer."""

    entry: Entry
    seq: int | None
    hash: str | None


def newest(connection: Connection, arn: str, limit: int, since: int = 0) -> list[Sealed]:
    """An identity's entries, the newest first: those that wait, then the sealed ones."""
    of_identity = select(ledger).where(ledger.c.identity_arn == arn, ledger.c.at >= since).limit(limit)
    waiting = of_identity.where(ledger.c.seq.is_(None)).order_by(ledger.c.id.desc())
    sealed = of_identity.where(ledger.c.seq.is_not(None)).order_by(ledger.c.seq.desc())
    rows = [*connection.execute(waiting), *connection.execute(sealed)]
    return [Sealed(_entry(row), row.seq, row.hash) for row in rows[:limit]]


def count_unsealed(connection: Connection, arn: str) -> int:
    query = select(func.count()).select_from(ledger).where(ledger.c.seq.is_(None))
    return int(connection.execute(query.where(ledger.c.identity_arn == arn)).scalar_one())


def chain(store: Store, arn: str) -> Iterator[Sealed]:
    """All sealed entries of an identity from the first on.

    Page by page, each read for itself: a long view of the store would keep its log from shrinking, and
    what is sealed does not change.
    """
    after = 0
    while page := _page(store, arn, after):
        yield from (Sealed(_entry(row), row.seq, row.hash) for row in page)
        after = page[-1].seq


def _page(store: Store, arn: str, after: int) -> Sequence[Any]:
    query = select(ledger).where(ledger.c.identity_arn == arn, ledger.c.seq > after)
    with store.read() as connection:
        return connection.execute(query.order_by(ledger.c.seq).limit(_PAGE)).all()


@dataclass(frozen=True, slots=True)
class Verified:
    """How far a chain holds: ``seq`` and ``hash`` of the last entry that does, and what is wrong after it."""

    seq: int
    hash: str
    fault: str | None = None


def verify(entries: Iterable[Sealed]) -> Verified:
    """Follow a chain from its first entry; it ends at the first one that is not as it was sealed."""
    seq, hash_ = 0, _BEFORE_THE_FIRST
    for one in entries:
        if one.seq != seq + 1:
            return Verified(seq, hash_, f"entry {seq + 1} is missing: entry {one.seq} follows {seq}")
        if one.hash != link(hash_, one.seq, one.entry):
            return Verified(seq, hash_, f"entry {one.seq} is not as it was sealed, or one before it was")
        seq, hash_ = one.seq, one.hash
    return Verified(seq, hash_)


def exported(one: Sealed) -> str:
    """The entry as a line of an export: what was hashed, and its hash."""
    assert one.seq is not None
    assert one.hash is not None
    return f'{{"hash":"{one.hash}",{canonical(one.seq, one.entry)[1:]}'
