"""Suppression lists in the operator's hand: shown, added to, taken from, brought along, taken away.

An import is read to its end before anything is written: every bad line is named, and with one bad line
nothing is done.  An account in the sandbox may only take from its list, as in SES: what is on it got
there by its own mail.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from relay.control import accounts
from relay.control.ground import ControlError, Ground, now
from relay.store import suppression
from relay.store.changes import account_subject
from relay.store.suppression import REASONS
from relay.store.suppression import Entry as Entry  # the commands show it
from relay.submission.address import AddressError, parse_mailbox

# All or nothing is one transaction, and so many lines hold up the others for about a second.
MOST_LINES = 100_000


class _BadLine(Exception):
    """What is wrong with one line."""


def entries(
    ground: Ground,
    account_id: str,
    reason: str | None = None,
    since: int = 0,
    limit: int | None = None,
    until: int | None = None,
    after: str = "",
) -> Iterator[Entry]:
    """The account's list in the order of its addresses, from the one behind ``after`` (folded) on;
    ``since`` and ``until`` are microseconds UTC."""
    accounts.get(ground, account_id)
    return suppression.entries(ground.store, account_id, reason, since, limit, until, after)


def find(ground: Ground, account_id: str, address: str) -> Entry | None:
    """Its entry on the account's list."""
    wanted = _address(address)
    with ground.store.read() as connection:
        return suppression.find(connection, account_id, wanted)


def add(ground: Ground, account_id: str, address: str, reason: str) -> Entry:
    """Send no more to the address; on the list already, it gets this reason."""
    _may_add(ground, account_id)
    entry = Entry(account_id, _address(address), reason, now())
    with ground.write() as write:
        suppression.add(write.connection, [entry])
        write.note(
            account_subject(account_id), "PutSuppressedDestination", address=entry.address, reason=reason
        )
    return entry


def remove(ground: Ground, account_id: str, address: str) -> None:
    """Send to the address again."""
    accounts.get(ground, account_id)
    with ground.write() as write:
        if not suppression.remove(write.connection, account_id, address):
            raise ControlError(
                "not_found", f"{address} is not on the list; `relay suppression list` shows it"
            )
        write.note(account_subject(account_id), "DeleteSuppressedDestination", address=address)


def import_(ground: Ground, account_id: str, lines: Iterable[str]) -> int:
    """Add what the lines say, all of it or nothing; gives the number of addresses."""
    _may_add(ground, account_id)
    found = _read(account_id, lines, now())
    if not found:
        raise ControlError(
            "nothing_to_do", "there is no line to import, such as: user@customer.example,BOUNCE"
        )
    with ground.write() as write:
        suppression.add(write.connection, found.values())
        write.note(account_subject(account_id), "ImportSuppressedDestinations", addresses=len(found))
    return len(found)


def _may_add(ground: Ground, account_id: str) -> None:
    if not accounts.get(ground, account_id).production:
        raise ControlError(
            "in_sandbox",
            f"account {account_id} is in the sandbox, where nothing is put on the list by hand;"
            f" `relay account update {account_id} --production` takes it out",
        )


def _address(text: str) -> str:
    try:
        return str(parse_mailbox(text))
    except AddressError as error:
        raise ControlError("invalid_address", f"{text!r}: {error.reason}") from error


# ---------------------------------------------------------------- lines


def _read(account_id: str, lines: Iterable[str], at: int) -> dict[suppression.Key, Entry]:
    found: dict[suppression.Key, Entry] = {}
    faults = []
    for number, line in enumerate(lines, 1):
        if number > MOST_LINES:
            raise ControlError("too_long", f"more than {MOST_LINES} lines; import it in parts")
        if not line.strip():
            continue
        try:
            address, reason = _json_line(line) if line.lstrip().startswith("{") else _csv_line(line)
            entry = Entry(account_id, _plain(address), _reason(reason), at)
            found[entry.key] = entry
        except _BadLine as error:
            faults.append(f"line {number}: {error}")
    if faults:
        raise ControlError("invalid_lines", "\n".join(["nothing was imported:", *faults]))
    return found


def _csv_line(line: str) -> tuple[Any, Any]:
    try:
        [fields] = csv.reader([line.strip()], strict=True)
        address, reason = fields
    except (ValueError, csv.Error):
        raise _BadLine("not ADDRESS,REASON such as user@customer.example,BOUNCE") from None
    return address.strip(), reason.strip()


def _json_line(line: str) -> tuple[Any, Any]:
    """``EmailAddress`` and ``Reason`` are what SES's own API calls them."""
    try:
        given = {name.lower(): value for name, value in orjson.loads(line).items()}
    except orjson.JSONDecodeError:
        raise _BadLine("not JSON") from None
    return given.get("address", given.get("emailaddress")), given.get("reason")


def _plain(address: Any) -> str:
    if not isinstance(address, str):
        raise _BadLine('no "address"')
    try:
        return str(parse_mailbox(address))
    except AddressError as error:
        raise _BadLine(f"{address!r}: {error.reason}") from None


def _reason(reason: Any) -> str:
    if not isinstance(reason, str) or reason.upper() not in REASONS:
        raise _BadLine(f"the reason {reason!r} is neither BOUNCE nor COMPLAINT")
    return reason.upper()


def csv_line(entry: Entry) -> str:
    """As ``import_`` reads it: an address has neither comma nor quotes."""
    return f"{entry.address},{entry.reason}"


def json_line(entry: Entry) -> str:
    return orjson.dumps({"address": entry.address, "reason": entry.reason}).decode()
