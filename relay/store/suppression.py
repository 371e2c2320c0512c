"""Suppression lists: addresses that an account no longer sends to, each with its reason.

Addresses are compared without regard to letter case, local parts too: what SES does is not documented, and
a mailbox that bounced as ``Bob@`` bounces as ``bob@``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Connection, Row, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from relay.store.engine import Store
from relay.store.prepared import Prepared, padded
from relay.store.tables import account, configuration_set, suppressed

BOUNCE, COMPLAINT = "BOUNCE", "COMPLAINT"
REASONS = (BOUNCE, COMPLAINT)
# Accounts and addresses stand in two lists: a list of pairs would have SQLite read the whole table.  What
# they find crosswise besides is left out again.
_MOST_ADDRESSES = 500
_PAGE = 1000
_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

# The account and the address in lower case.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """An address on an account's list.  ``at`` is microseconds UTC; ``message_id`` is what it bounced."""

    account_id: str
    address: str
    reason: str
    at: int
    message_id: int | None = None
    feedback_id: str | None = None

    @property
    def key(self) -> Key:
        return self.account_id, folded(self.address)


def folded(address: str) -> str:
    """The form in which addresses are compared."""
    return address.lower()


def _put(insert: Any) -> Any:
    """An entry, in the place of an older one."""
    statement = insert(suppressed)
    new = statement.excluded
    values = {name: new[name] for name in ("address", "reason", "at", "message_id", "feedback_id")}
    return statement.on_conflict_do_update(
        index_elements=[suppressed.c.account_id, suppressed.c.folded],
        set_=values,
        where=new["at"] >= suppressed.c.at,
    )


_PUT = {name: _put(insert) for name, insert in _INSERTS.items()}


def matching(connection: Connection, keys: Collection[Key]) -> dict[Key, str]:
    """Which of them are on their account's list, each with its reason."""
    wanted = frozenset(keys)
    accounts = list({account_id for account_id, _ in wanted})
    addresses = list({address for _, address in wanted})
    found: dict[Key, str] = {}
    for start in range(0, len(addresses), _MOST_ADDRESSES):
        lists = padded(accounts), padded(addresses[start : start + _MOST_ADDRESSES])
        rows = _matching(*map(len, lists))(connection, *lists[0], *lists[1]).fetchall()
        found |= {(account_id, address): reason for account_id, address, reason in rows}
    return {key: reason for key, reason in found.items() if key in wanted}


@cache
def _matching(accounts: int, addresses: int) -> Prepared:
    """The question about so many accounts and addresses."""
    lists = [f"account_{n}" for n in range(accounts)], [f"address_{n}" for n in range(addresses)]
    query = select(suppressed.c.account_id, suppressed.c.folded, suppressed.c.reason).where(
        suppressed.c.account_id.in_([bindparam(name) for name in lists[0]]),
        suppressed.c.folded.in_([bindparam(name) for name in lists[1]]),
    )
    return Prepared(query, *lists[0], *lists[1])


def add(connection: Connection, entries: Iterable[Entry]) -> None:
    """Put them on their lists; of two for one address the newer stays."""
    newest: dict[Key, Entry] = {}
    for entry in entries:
        held = newest.get(entry.key)
        if held is None or entry.at >= held.at:
            newest[entry.key] = entry
    # In one order, so that two transactions never wait for each other.
    rows = [_row(newest[key], key[1]) for key in sorted(newest)]
    if rows:
        connection.execute(_PUT[connection.dialect.name], rows)


def _row(entry: Entry, folded: str) -> dict[str, Any]:
    return {
        "account_id": entry.account_id,
        "folded": folded,
        "address": entry.address,
        "reason": entry.reason,
        "at": entry.at,
        "message_id": entry.message_id,
        "feedback_id": entry.feedback_id,
    }


def remove(connection: Connection, account_id: str, address: str) -> bool:
    """Take it off the list; whether it was on it."""
    found = suppressed.c.account_id == account_id, suppressed.c.folded == folded(address)
    return connection.execute(delete(suppressed).where(*found)).rowcount == 1


def find(connection: Connection, account_id: str, address: str) -> Entry | None:
    """Its entry on the account's list."""
    found = suppressed.c.account_id == account_id, suppressed.c.folded == folded(address)
    row = connection.execute(select(suppressed).where(*found)).first()
    return _entry(row) if row else None


def entries(
    store: Store,
    account_id: str,
    reason: str | None = None,
    since: int = 0,
    limit: int | None = None,
    until: int | None = None,
    after: str = "",
) -> Iterator[Entry]:
    """The list in the order of its addresses, however long: read in pages, none of which holds the store.

    ``after`` is the folded address before the first.
    """
    query = select(suppressed).where(suppressed.c.account_id == account_id, suppressed.c.at >= since)
    if until is not None:
        query = query.where(suppressed.c.at <= until)
    if reason is not None:
        query = query.where(suppressed.c.reason == reason)
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        page = query.where(suppressed.c.folded > after).order_by(suppressed.c.folded).limit(size)
        with store.read() as connection:
            rows = connection.execute(page).all()
        for row in rows:
            yield _entry(row)
        if len(rows) < size:
            return
        after, left = rows[-1].folded, None if left is None else left - size


def _entry(row: Row[Any]) -> Entry:
    return Entry(row.account_id, row.address, row.reason, row.at, row.message_id, row.feedback_id)


# ---------------------------------------------------------------- for which reasons


def parse_reasons(text: str) -> frozenset[str]:
    """What a column ``suppressed_reasons`` says."""
    return frozenset(orjson.loads(text))


def write_reasons(reasons: Collection[str]) -> str:
    """The other way round."""
    return orjson.dumps([reason for reason in REASONS if reason in reasons]).decode()


def reasons_of(
    connection: Connection, senders: Sequence[tuple[str, str | None]]
) -> dict[tuple[str, str | None], frozenset[str]]:
    """For which reasons addresses get on the list, by the account and the configuration set of a message.

    A set without a say of its own, or gone since, leaves it to the account.
    """
    ids = {account_id for account_id, _ in senders}
    of_accounts = select(account.c.account_id, account.c.suppressed_reasons).where(
        account.c.account_id.in_(ids)
    )
    found: dict[tuple[str, str | None], frozenset[str]] = {
        (row.account_id, None): parse_reasons(row.suppressed_reasons)
        for row in connection.execute(of_accounts)
    }
    names = {name for _, name in senders if name is not None}
    if names:
        columns = (
            configuration_set.c.account_id,
            configuration_set.c.name,
            configuration_set.c.suppressed_reasons,
        )
        of_sets = select(*columns).where(
            configuration_set.c.account_id.in_(ids),
            configuration_set.c.name.in_(names),
            configuration_set.c.suppressed_reasons.is_not(None),
        )
        found.update(
            {
                (row.account_id, row.name): parse_reasons(row.suppressed_reasons)
                for row in connection.execute(of_sets)
            }
        )
    none: frozenset[str] = frozenset()
    return {one: found.get(one, found.get((one[0], None), none)) for one in senders}
