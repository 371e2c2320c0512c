"""Verification: DNS is asked about domains, and what it answers decides the status (R2).

``verify`` does it for one identity at the owner's word; ``Watch`` for all of them, when each is due.
Several workers and nodes may watch one store: whoever moves ``check_at`` first does the look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay.control import confirmation
from relay.control.ground import Ground, now
from relay.control.identities import DOMAIN, IdentityView, dns_records, mail_from_records, show
from relay.control.proof import (
    FAILED,
    PENDING,
    SUCCESS,
    TEMPORARY_FAILURE,
    Purpose,
    RecordCheck,
    Result,
    Standing,
    anyone,
    everyone,
    judge,
    key_result,
    mx_result,
    next_look,
    restarted,
    spf_result,
    token_result,
)
from relay.resolver import DNS, Absent, Answer, Found, Unavailable
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
class Verification:
    """An identity after a look at DNS, and what was seen."""

    view: IdentityView
    records: tuple[RecordCheck, ...]


async def look(row: IdentityRow, keys: Sequence[KeyRow], dns: DNS, hostname: str) -> tuple[RecordCheck, ...]:
    """Ask DNS for every record of an identity; an address has those of its MAIL FROM domain at most."""
    wanted = dns_records(row, keys)
    ids: list[int | None] = [*(key.id for key in keys), None]
    looks = [_record(one, key_id, row, dns) for one, key_id in zip(wanted, ids, strict=False)]
    if row.mail_from_domain is not None:
        looks += [_mail_from_mx(row, dns, hostname), _mail_from_spf(row, dns, hostname)]
    return tuple(await asyncio.gather(*looks))


async def _mail_from_mx(row: IdentityRow, dns: DNS, hostname: str) -> RecordCheck:
    wanted, _ = mail_from_records(row, hostname)
    answer = await dns.mx(wanted["name"])
    found = [(one.preference, one.host) for one in answer.records] if isinstance(answer, Found) else []
    result, reason = _unless_unavailable(mx_result(hostname, found), answer)
    shown = tuple(f"{preference} {host}" for preference, host in sorted(found))
    name, value = wanted["name"], wanted["value"]
    return RecordCheck("MX", name, value, shown, result, reason, None, Purpose.MAIL_FROM)


async def _mail_from_spf(row: IdentityRow, dns: DNS, hostname: str) -> RecordCheck:
    _, wanted = mail_from_records(row, hostname)
    check = await _ask(wanted, None, spf_result, wanted["name"], dns)
    return replace(check, purpose=Purpose.ADVICE)


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
    result, reason = _unless_unavailable(compare(wanted["value"], found), answer)
    return RecordCheck(wanted["type"], wanted["name"], wanted["value"], found, result, reason, key_id)


def _unless_unavailable(result: Result, answer: Answer[Any]) -> tuple[Result, str | None]:
    """What was found by comparing, unless nobody could say; with the reason for what is not there."""
    if isinstance(answer, Unavailable):
        return Result.UNAVAILABLE, answer.reason
    is_unknown = isinstance(answer, Absent) and answer.no_such_name
    return result, "no such name" if is_unknown else None


# ---------------------------------------------------------------- what follows


def verify(ground: Ground, name: str, account_id: str) -> Verification:
    """Ask DNS now, apply what it says, and begin anew for what had failed; an address is mailed anew."""
    view = show(ground, name, account_id)
    if not _is_looked_up(view.row):
        with ground.write() as write:
            confirmation.ask(ground, write, view.row)
        return Verification(show(ground, name, account_id), ())
    checks = asyncio.run(look(view.row, view.keys, ground.dns(), ground.hostname))
    apply(ground, view.row, checks, now(), restart=True)
    return Verification(show(ground, name, account_id), checks)


def _is_looked_up(row: IdentityRow) -> bool:
    """Whether DNS has something to say of it: an address that waits for its code has asked elsewhere."""
    return row.type == DOMAIN or row.verification_status == SUCCESS


def apply(
    ground: Ground, seen: IdentityRow, checks: Sequence[RecordCheck], at: int, *, restart: bool = False
) -> IdentityRow | None:
    """Write what the look means; the identity as it is then, None if it is gone."""
    with ground.write() as write:
        row = identities.find(write.connection, seen.account_id, seen.name)
        if row is None or row.id != seen.id:
            return row
        before = _standings(row)
        if restart:
            before = {column: restarted(one, at) for column, one in before.items()}
        if row.mail_from_domain != seen.mail_from_domain:  # it was another one that was looked at
            checks = [one for one in checks if one.purpose is Purpose.IDENTITY]
        evidence = _evidence(write, row, checks)
        after = {
            column: judge(one, evidence.results[column], at, ground.intervals)
            for column, one in before.items()
        }
        check_at = next_look(list(after.values()), evidence.awaits_key, at, ground.intervals)
        return _write(write, row, {**_columns(after), "check_at": check_at})


# What a status is of: the beginning of its columns.
_VERIFICATION, _DKIM, _MAIL_FROM = "verification", "dkim", "mail_from"


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What a look says, by what the status is of, and whether a key still waits."""

    results: dict[str, Result]
    awaits_key: bool


def _evidence(write: ControlWrite, row: IdentityRow, checks: Sequence[RecordCheck]) -> _Evidence:
    """The look summed up, after keys that waited and were seen have taken over."""
    results = {check.key_id: check.result for check in checks if check.purpose is Purpose.IDENTITY}
    for key in identities.keys(write.connection, row.id):
        if key.status == PENDING_KEY and results.get(key.id) is Result.FOUND:
            identities.promote_key(write, row, key)
    keys = identities.keys(write.connection, row.id)
    signing = [results[key.id] for key in keys if key.status == SIGNING_KEY and key.id in results]
    mail_from = [one.result for one in checks if one.purpose is Purpose.MAIL_FROM]
    return _Evidence(
        {
            _VERIFICATION: anyone(results.values()),
            _DKIM: everyone(signing),
            _MAIL_FROM: everyone(mail_from) if mail_from else Result.UNAVAILABLE,
        },
        awaits_key=any(key.status == PENDING_KEY for key in keys),
    )


def _standings(row: IdentityRow) -> dict[str, Standing]:
    """The statuses that DNS decides on; an address is verified by its code."""
    found = {}
    if row.type == DOMAIN:
        asked_at, failing_since = row.verification_requested_at, row.failing_since
        found[_VERIFICATION] = Standing(row.verification_status, asked_at, failing_since)
        found[_DKIM] = Standing(row.dkim_status, row.dkim_requested_at, row.dkim_failing_since)
    if row.mail_from_domain is not None:
        # One column for both: while it fails, since when it fails.
        since = row.mail_from_requested_at
        found[_MAIL_FROM] = Standing(row.mail_from_status or PENDING, since, since)
    return found


def _columns(standings: dict[str, Standing]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in standings.items():
        found[f"{name}_status"] = one.status
        found[f"{name}_requested_at"] = one.requested_at
        if name in _FAILING:
            found[_FAILING[name]] = one.failing_since
        elif one.status == TEMPORARY_FAILURE:
            found[f"{name}_requested_at"] = one.failing_since
    return found


_FAILING = {_VERIFICATION: "failing_since", _DKIM: "dkim_failing_since"}


def _write(write: ControlWrite, row: IdentityRow, values: dict[str, Any]) -> IdentityRow:
    """Only a status that changed is news to the caches."""
    after = replace(row, **values)
    if _statuses(after) == _statuses(row):
        identities.touch(write.connection, row, **values)
    else:
        identities.change(write, row, "UpdateVerification", **values)
    return after


def _statuses(row: IdentityRow) -> tuple[str, str, str | None]:
    return row.verification_status, row.dkim_status, row.mail_from_status


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
        after = await (self._ask_dns(row) if _is_looked_up(row) else self._look_at_address(row))
        if after is not None and _statuses(after) != _statuses(row):
            is_wrong = {FAILED, TEMPORARY_FAILURE} & {after.verification_status, after.mail_from_status}
            level = "warning" if is_wrong else "info"
            self._log(
                "verification",
                level=level,
                account=row.account_id,
                identity=row.name,
                status=after.verification_status,
                dkim=after.dkim_status,
                mail_from=after.mail_from_status,
            )

    async def _ask_dns(self, row: IdentityRow) -> IdentityRow | None:
        keys = await asyncio.to_thread(self._keys, row)
        checks = await look(row, keys, self._dns, self._ground.hostname)
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
