"""Verification of addresses: whoever reads their mail has the code (R2).

The code goes out by our own queue, within a link if others can reach our pages; the store keeps its hash.
It serves once, and for 24 hours.
"""

from __future__ import annotations

import hashlib

from relay.authorization.identities import identity_arn
from relay.control.ground import ControlError, Ground, letters, now
from relay.control.proof import FAILED, PENDING, SUCCESS
from relay.queue.own_mail import OwnMail, instant, letter, queued
from relay.queue.spool import insert_messages
from relay.queue.values import NewMessage
from relay.store import identities
from relay.store.changes import ControlWrite
from relay.store.identities import IdentityRow as IdentityRow  # pages know control only

# 160 bits: nobody guesses one.
_LETTERS = 32

_TEXT = """\
Account {account} wants to send mail as {address}
through {hostname}.

If you agree, {way}:

    relay identity confirm {code}

The code serves once, until {until:%Y-%m-%d %H:%M} UTC.
If you do not know what this is about, do nothing: the address then stays unverified.
"""


_BY_CODE = "confirm with this code, or give it to whoever runs the relay"
_BY_LINK = """\
open this page and press its button:

    {link}

or give this code to whoever runs the relay"""


def ask(ground: Ground, write: ControlWrite, row: IdentityRow) -> None:
    """Mail a new code to the address; one that was sent before no longer serves."""
    code, at = letters(_LETTERS), now()
    until = at + ground.intervals.confirm_seconds * 1_000_000
    identities.change(
        write,
        row,
        "VerifyEmailIdentity",
        verification_status=PENDING,
        verification_requested_at=at,
        check_at=until,
        confirmation=_hashed(code),
    )
    insert_messages(write.connection, [_mail(ground, row, code, at, until)])


def find(ground: Ground, code: str) -> IdentityRow:
    """The address that waits for this code; ControlError if none does."""
    with ground.store.read() as connection:
        row = identities.find_by_confirmation(connection, _hashed(code))
    return _if_it_waits(ground, row)


def confirm(ground: Ground, code: str) -> IdentityRow:
    """The address whose code this is, now verified.  An unknown, used or late code is all the same."""
    find(ground, code)  # the one writer is not for who only guesses
    with ground.write() as write:
        row = _if_it_waits(ground, identities.find_by_confirmation(write.connection, _hashed(code)))
        identities.change(
            write, row, "ConfirmEmailIdentity", verification_status=SUCCESS, check_at=None, confirmation=None
        )
    return row


def _if_it_waits(ground: Ground, row: IdentityRow | None) -> IdentityRow:
    if row is None or _is_late(ground, row, now()):
        raise ControlError(
            "invalid_code",
            "no address waits for this code: it is not one, was used, or is too old; "
            "`relay identity verify` mails a new one",
        )
    return row


def expire(ground: Ground, seen: IdentityRow, at: int) -> IdentityRow | None:
    """Give up on an address whose code nobody used in time; the row as it is then, None if it is gone."""
    with ground.write() as write:
        row = identities.find(write.connection, seen.account_id, seen.name)
        if row is None or row.id != seen.id or row.verification_status != PENDING:
            return row
        if not _is_late(ground, row, at):
            return row
        identities.change(
            write, row, "UpdateVerification", verification_status=FAILED, check_at=None, confirmation=None
        )
        return identities.find(write.connection, row.account_id, row.name)


def _is_late(ground: Ground, row: IdentityRow, at: int) -> bool:
    asked_at = row.verification_requested_at or 0
    return at >= asked_at + ground.intervals.confirm_seconds * 1_000_000


def _hashed(code: str) -> str:
    return hashlib.sha256(code.strip().upper().encode()).hexdigest()


def _mail(ground: Ground, row: IdentityRow, code: str, at: int, until: int) -> NewMessage:
    message_id = ground.new_id()
    arn = identity_arn(ground.region, row.account_id, row.name)
    mail = OwnMail(
        id=message_id,
        account_id=row.account_id,
        identity_arn=arn,
        to=row.name,
        octets=_octets(ground, row, code, at, until, message_id),
        at=at,
        expires_at=until,
        record={"confirmation_of": arn},
    )
    return queued(mail)


def _octets(ground: Ground, row: IdentityRow, code: str, at: int, until: int, message_id: int) -> bytes:
    mail = letter(ground.hostname, message_id, row.name, f"Confirm {row.name}", at)
    mail.set_content(
        _TEXT.format(
            account=row.account_id,
            address=row.name,
            hostname=ground.hostname,
            way=_way(ground, code),
            code=code,
            until=instant(until),
        ),
        cte="7bit",  # a link that nobody's reader takes apart
    )
    return mail.as_bytes()


def _way(ground: Ground, code: str) -> str:
    if not ground.public_url:
        return _BY_CODE
    return _BY_LINK.format(link=f"{ground.public_url}/confirm?code={code}")
