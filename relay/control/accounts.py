"""Accounts: made, listed, changed, paused; what each has used of its quota, and how its mail fared."""

from __future__ import annotations

import re
import secrets as random
from dataclasses import dataclass
from typing import Any

from relay.control import reputation
from relay.control.ground import ControlError, Ground, now
from relay.control.reputation import Record
from relay.quotas.window import UNLIMITED, Quota
from relay.store import accounts, quotas, usage
from relay.store.accounts import AccountRow as AccountRow  # the commands show it
from relay.store.changes import ControlWrite
from relay.store.suppression import write_reasons
from relay.store.usage import Line

_LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class Standing:
    """An account with the quota that holds for it, in recipients, and what of it is used.

    ``record`` is its reputation, ``identities`` what it sent in whose name in the same days.
    """

    row: AccountRow
    quota: Quota
    sent_24h: int
    record: Record
    identities: tuple[Line, ...]

    @property
    def left_24h(self) -> int:
        """What may still be sent in these 24 hours; -1 for any number."""
        limit = self.quota.max_24h_send
        return UNLIMITED if limit == UNLIMITED else max(limit - self.sent_24h, 0)


def create(
    ground: Ground,
    name: str,
    account_id: str | None = None,
    production: bool = False,
    max_24h_send: int | None = None,
    max_send_rate: int | None = None,
) -> AccountRow:
    """A new account, in the sandbox unless ``production``; a quota that is None is the default one."""
    if account_id is not None and not re.fullmatch(r"[0-9]{12}", account_id):
        raise ControlError("invalid_account_id", f"{account_id!r} is not an account id: it has 12 digits")
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ControlError("invalid_name", f"an account's name has 1 to {_LONGEST_NAME} printable characters")
    row = AccountRow(
        account_id=account_id or str(random.randbelow(9 * 10**11) + 10**11),
        name=name,
        production=production,
        paused=False,
        pause_reason=None,
        max_24h_send=max_24h_send,
        max_send_rate=max_send_rate,
        created_at=now(),
    )
    with ground.write() as write:
        if accounts.find(write.connection, row.account_id):
            raise ControlError("already_exists", f"account {row.account_id} exists already")
        accounts.add(write, row)
    return row


def get(ground: Ground, account_id: str) -> AccountRow:
    with ground.store.read() as connection:
        return require(connection, account_id)


def require(connection: Any, account_id: str) -> AccountRow:
    """The account, within the caller's transaction; ControlError if there is none."""
    return _present(accounts.find(connection, account_id), account_id)


def quota_of(ground: Ground, row: AccountRow) -> Quota:
    """What holds for the account: its own numbers, else the settings' for sandbox or production."""
    return ground.quotas.of(row.production, row.max_24h_send, row.max_send_rate)


def standing(ground: Ground, account_id: str) -> Standing:
    """The account with its quota and what it has used."""
    first = reputation.first_day(ground.reputation)
    with ground.store.read() as connection:
        row = _present(accounts.find(connection, account_id), account_id)
        sent = quotas.sent_24h(connection, account_id, now())
        identities = tuple(usage.lines(connection, ("identity_arn",), first=first, account_id=account_id))
    record = reputation.record(ground, account_id)
    return Standing(row, quota_of(ground, row), sent, record, identities)


def every(ground: Ground) -> list[AccountRow]:
    with ground.store.read() as connection:
        return accounts.every(connection)


def update(
    ground: Ground, account_id: str, suppressed_reasons: frozenset[str] | None = None, **values: Any
) -> AccountRow:
    """Change name, production, quotas or what gets an address on the suppression list; what is None stays."""
    given = {name: value for name, value in values.items() if value is not None}
    if suppressed_reasons is not None:
        given["suppressed_reasons"] = write_reasons(suppressed_reasons)
    if not given:
        raise ControlError("nothing_to_do", "name what to change, such as --production")
    return _change(ground, account_id, "UpdateAccount", **given)


def pause(ground: Ground, account_id: str, reason: str) -> AccountRow:
    """Refuse all mail of the account until it is resumed."""
    return _change(ground, account_id, "PauseAccount", paused=True, pause_reason=reason or None)


def resume_own(ground: Ground, account_id: str, reason: str) -> AccountRow:
    """Lift a pause if it was for this reason; one for another is the operator's to lift."""
    row = get(ground, account_id)
    if row.pause_reason != reason:
        raise ControlError("paused", f"the account is paused: {row.pause_reason or 'the operator knows why'}")
    return resume(ground, account_id)


def resume(ground: Ground, account_id: str) -> AccountRow:
    """Take its mail again; its reputation begins anew, or it would be paused again at once."""
    with ground.write() as write:
        row = _present(accounts.find(write.connection, account_id), account_id)
        anew = reputation.begun_anew(write, account_id) if row.paused else {}
        return _changed(write, account_id, "ResumeAccount", paused=False, pause_reason=None, **anew)


def _change(ground: Ground, account_id: str, action: str, **values: Any) -> AccountRow:
    with ground.write() as write:
        return _changed(write, account_id, action, **values)


def _changed(write: ControlWrite, account_id: str, action: str, **values: Any) -> AccountRow:
    _present(accounts.find(write.connection, account_id), account_id)
    accounts.change(write, account_id, action, **values)
    return _present(accounts.find(write.connection, account_id), account_id)


def _present(row: AccountRow | None, account_id: str) -> AccountRow:
    if row is None:
        raise ControlError("not_found", f"no account {account_id}; `relay account list` shows all")
    return row
