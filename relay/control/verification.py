"""Verification: DNS is asked about domains, and what it answers decides the status (R2).

``verify`` does it for one identity at the owner's word; ``Watch`` for all of them, when each is due.
Several workers and nodes may watch one store: whoever moves ``check_at`` first does the look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from relay.control import confirmation
from relay.control.ground import Ground, now
from relay.control.identities import DOMAIN, IdentityView, dns_records, show
from relay.control.proof import (
    FAILED,
    SUCCESS,
    Result,
    Standing,
    anyone,
    everyone,
    judge,
    key_result,
    next_look,
    restarted,
    token_result,
)
from relay.resolver import DNS, Absent, Found, Unavailable
from relay.store import identities
from relay.store.changes import ControlWrite
from relay.store.engine import StoreUnavailable
from relay.store.identities import IdentityRow, KeyRow

# A look that its process did not live to finish is another's after this.
_LOOK_SECONDS = 300
_AT_ONCE = 20
_LONGEST_SLEEP_SECONDS = 2.0
PENDING_KEY, SIGNING_KEY = "pending", "signing"


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """One DNS record: what the owner was told to publish, and what is there.

    ``found`` are the values of that name; ``reason`` says why nobody could answer.  ``key_id`` is None
    for the ownership token.
    """

    type: str
    name: str
    expected: str
    found: tuple[str, ...]
    result: Result
    reason: str | None
    key_id: int | None

    def as_record(self) -> dict[str, Any]:
        record = asdict(self)
        del record["key_id"]
        return {**record, "found": list(self.found)}


@dataclass(frozen=True, slots=True)
class Verification:
    """An identity after a look at DNS, and what was seen."""

    view: IdentityView
    records: tuple[RecordCheck, ...]


async def look(row: IdentityRow, keys: Sequence[KeyRow], dns: DNS) -> tuple[RecordCheck, ...]:
    """Ask DNS for every record of a domain."""
    wanted = dns_records(row, keys)
    ids: list[int | None] = [*(key.id for key in keys), None]
    looks = [_record(one, key_id, row, dns) for one, key_id in zip(wanted, ids, strict=True)]
    return tuple(await asyncio.gather(*looks))


async def _record(wanted: dict[str, str], key_id: int | None, row: IdentityRow, dns: DNS) -> RecordCheck:
    compare = token_result if key_id is None else key_result
    check = await _ask(wanted, key_id, compare, wanted["name"], dns)
    if key_id is not None or check.result in (Result.FOUND, Result.UNAVAILABLE):
        return check
    # Where a DNS host takes no underscore, SES lets the token stand at the domain itself.
    bare = await _ask(wanted, key_id, compare, row.name, dns)
    return replace(bare, name=row.name) if bare.result is Result.FOUND else check


async def _ask(
    wanted: dict[str, str],
    key_id: int | None,
    compare: Callable[[str, Sequence[str]], Result],
    name: str,
    dns: DNS,
) -> RecordCheck:
    answer = await dns.txt(name)
    found = answer.records if isinstance(answer, Found) else ()
    result, reason = compare(wanted["value"], found), None
    if isinstance(answer, Unavailable):
        result, reason = Result.UNAVAILABLE, answer.reason
    elif isinstance(answer, Absent) and answer.no_such_name:
        reason = "no such name"
    return RecordCheck(wanted["type"], wanted["name"], wanted["value"], found, result, reason, key_id)


# ---------------------------------------------------------------- what follows


def verify(ground: Ground, name: str, account_id: str) -> Verification:
    """Ask DNS now, apply what it says, and begin anew for what had failed; an address is mailed anew."""
    view = show(ground, name, account_id)
    if view.row.type == DOMAIN:
        checks = asyncio.run(look(view.row, view.keys, ground.dns()))
        apply(ground, view.row, checks, now(), restart=True)
        return Verification(show(ground, name, account_id), checks)
    if view.row.verification_status != SUCCESS:
        with ground.write() as write:
            confirmation.ask(ground, write, view.row)
    return Verification(show(ground, name, account_id), ())


def apply(
    ground: Ground, seen: IdentityRow, checks: Sequence[RecordCheck], at: int, *, restart: bool = False
) -> IdentityRow | None:
    """Write what the look means; the identity as it is then, None if it is gone."""
    with ground.write() as write:
        row = identities.find(write.connection, seen.account_id, seen.name)
        if row is None or row.id != seen.id:
            return row
        owned, signed = _standings(row)
        if restart:
            owned, signed = restarted(owned, at), restarted(signed, at)
        evidence = _evidence(write, row, checks)
        owned = judge(owned, evidence.ownership, at, ground.intervals)
        signed = judge(signed, evidence.signing, at, ground.intervals)
        check_at = next_look((owned, signed), evidence.awaits_key, at, ground.intervals)
        return _write(write, row, {**_columns(owned, signed), "check_at": check_at})


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What a look says of ownership, of the keys that sign, and whether a key still waits."""

    ownership: Result
    signing: Result
    awaits_key: bool


def _evidence(write: ControlWrite, row: IdentityRow, checks: Sequence[RecordCheck]) -> _Evidence:
    """The look summed up, after keys that waited and were seen have taken over."""
    results = {check.key_id: check.result for check in checks}
    for key in identities.keys(write.connection, row.id):
        if key.status == PENDING_KEY and results.get(key.id) is Result.FOUND:
            identities.promote_key(write, row, key)
    keys = identities.keys(write.connection, row.id)
    signing = [results[key.id] for key in keys if key.status == SIGNING_KEY and key.id in results]
    return _Evidence(
        ownership=anyone(results.values()),
        signing=everyone(signing),
        awaits_key=any(key.status == PENDING_KEY for key in keys),
    )


def _standings(row: IdentityRow) -> tuple[Standing, Standing]:
    return (
        Standing(row.verification_status, row.verification_requested_at, row.failing_since),
        Standing(row.dkim_status, row.dkim_requested_at, row.dkim_failing_since),
    )


def _columns(owned: Standing, signed: Standing) -> dict[str, Any]:
    return {
        "verification_status": owned.status,
        "verification_requested_at": owned.requested_at,
        "failing_since": owned.failing_since,
        "dkim_status": signed.status,
        "dkim_requested_at": signed.requested_at,
        "dkim_failing_since": signed.failing_since,
    }


def _write(write: ControlWrite, row: IdentityRow, values: dict[str, Any]) -> IdentityRow:
    """Only a status that changed is news to the caches."""
    after = replace(row, **values)
    if _statuses(after) == _statuses(row):
        identities.touch(write.connection, row, **values)
    else:
        identities.change(write, row, "UpdateVerification", **values)
    return after


def _statuses(row: IdentityRow) -> tuple[str, str]:
    return row.verification_status, row.dkim_status


# ---------------------------------------------------------------- all of them, when due


class Watch:
    """The one task of a worker that looks after every identity in the store."""

    def __init__(self, ground: Ground, dns: DNS, log: Callable[..., None]) -> None:
        self._ground = ground
        self._dns = dns
        self._log = log

    async def run(self) -> None:
        """Look at what is due, sleep until the next, until cancelled."""
        while True:
            try:
                claimed, next_at = await asyncio.to_thread(self._claim)
                await asyncio.gather(*(self._look(row) for row in claimed))
            except StoreUnavailable:
                claimed, next_at = [], None
            if len(claimed) < _AT_ONCE:
                await asyncio.sleep(_pause(next_at))

    def _claim(self) -> tuple[list[IdentityRow], int | None]:
        """What is due and ours now, and when the next one is."""
        with self._ground.store.read() as connection:
            at = now()
            due = identities.due(connection, at, _AT_ONCE)
            next_at = identities.next_check(connection)
        until = at + _LOOK_SECONDS * 1_000_000
        return [row for row in due if self._is_ours(row, until)], next_at

    def _is_ours(self, row: IdentityRow, until: int) -> bool:
        with self._ground.store.write() as connection:
            return identities.claim_check(connection, row, until)

    async def _look(self, row: IdentityRow) -> None:
        after = await (self._look_at_domain(row) if row.type == DOMAIN else self._look_at_address(row))
        if after is not None and _statuses(after) != _statuses(row):
            level = "warning" if after.verification_status == FAILED or after.failing_since else "info"
            self._log(
                "verification",
                level=level,
                account=row.account_id,
                identity=row.name,
                status=after.verification_status,
                dkim=after.dkim_status,
            )

    async def _look_at_domain(self, row: IdentityRow) -> IdentityRow | None:
        keys = await asyncio.to_thread(self._keys, row)
        checks = await look(row, keys, self._dns)
        return await asyncio.to_thread(apply, self._ground, row, checks, now())

    async def _look_at_address(self, row: IdentityRow) -> IdentityRow | None:
        return await asyncio.to_thread(confirmation.expire, self._ground, row, now())

    def _keys(self, row: IdentityRow) -> list[KeyRow]:
        with self._ground.store.read() as connection:
            return identities.keys(connection, row.id)


def _pause(next_at: int | None) -> float:
    """Seconds until there is something to do; a new identity is noticed soon."""
    if next_at is None:
        return _LONGEST_SLEEP_SECONDS
    return min(max((next_at - now()) / 1_000_000, 0.05), _LONGEST_SLEEP_SECONDS)
