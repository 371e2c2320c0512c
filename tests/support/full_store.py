"""A store as it is after years: accounts, identities, credentials and a queue, by the hundred thousand.

Rows are made by the store's own types and sealed under its own key, so that the program cannot tell them
from those of its commands; they are inserted in bulk, since a command for each would take a day.  Everything
follows from its number: account ``n`` owns the identities ``n``, ``n + accounts``, ... and lends them to the
user of the account after it, who has a credential.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Table, insert, text, update

from relay.authorization.identities import identity_arn
from relay.control.dkim import NewKey, new_key
from relay.control.users import FIRST_POLICY, FIRST_POLICY_NAME
from relay.outcome.transitions import State
from relay.queue.event_rows import new_row
from relay.queue.notifications import DONE, NewNotification
from relay.queue.notifications import _row as notification_row
from relay.queue.retention import purge_bodies
from relay.queue.spool import insert_messages
from relay.queue.steering import OPERATOR
from relay.queue.values import NewMessage, QueuedMessage, QueuedRecipient
from relay.store import ledger as ledgers
from relay.store.accounts import AccountRow
from relay.store.changes import credential_subject, identity_subject
from relay.store.credentials import CredentialRow, secret_place
from relay.store.engine import Store
from relay.store.identities import IdentityRow, KeyRow, key_place
from relay.store.secrets import Secrets
from relay.store.suppression import BOUNCE
from relay.store.tables import (
    account,
    attempt,
    audit,
    change,
    credential,
    dkim_key,
    iam_user,
    identity,
    identity_policy,
    ledger,
    notification,
    outbox,
    quota,
    recipient,
    refusal,
    suppressed,
    usage_day,
    usage_minute,
    user_policy,
)
from relay.store.users import UserRow
from relay.submission.identifiers import compose_id, id_milliseconds
from tests.support.gateway import REGION, Login, grant

_ACTOR = "cli:fill"
_BATCH = 1_000
_MESSAGES = 500
_DESTINATIONS = 1_000
_DAY_MILLISECONDS = 86_400_000
_UNLIMITED = -1
_MINUTES_SPENT, _DAYS_BILLED, _SUPPRESSED = 5, 60, 10


@dataclass(frozen=True, slots=True)
class Tenants:
    """How many accounts there are, each with a user and a credential, and how many identities they own."""

    accounts: int
    identities: int

    def account_id(self, number: int) -> str:
        return str(500_000_000_000 + number % self.accounts)

    def name(self, number: int) -> str:
        return f"d{number:06}.tenant.example"

    def arn(self, number: int) -> str:
        return identity_arn(REGION, self.account_id(number), self.name(number))

    def user(self, number: int) -> UserRow:
        unique_id = f"AIDA{_letters(number)}"
        return UserRow(_id(1, number), self.account_id(number), "app", "/", unique_id, {}, _at(number))

    def access_key_id(self, number: int) -> str:
        return f"AKIA{_letters(number)}"

    def secret(self, number: int) -> str:
        return f"{number % self.accounts:040}"

    def login_for(self, number: int) -> Login:
        """The credential of the account that identity ``number`` is lent to."""
        from relay.submission.smtp_password import smtp_password

        sender = (number + 1) % self.accounts
        return Login(self.access_key_id(sender), smtp_password(self.secret(sender), REGION))


def _letters(number: int) -> str:
    return base64.b32encode(number.to_bytes(10, "big")).decode()


def _id(kind: int, number: int) -> int:
    """A key of the control plane's own; ``kind`` keeps those of different tables apart in the ledger."""
    return compose_id(1_700_000_000_000 + kind * 10_000_000 + number, 0, 0)


def _at(number: int) -> int:
    return (1_700_000_000_000 + number) * 1000


# ---------------------------------------------------------------- accounts and identities


def fill_tenants(store: Store, secrets: Secrets, tenants: Tenants, keys: int = 8) -> None:
    """Insert them.  The identities share ``keys`` DKIM keys: to generate one takes a tenth of a second."""
    made = [new_key("rsa-sha256") for _ in range(keys)]
    for numbers in _batches(tenants.accounts):
        with store.write() as connection:
            _insert_accounts(connection, secrets, tenants, numbers)
    for numbers in _batches(tenants.identities):
        with store.write() as connection:
            _insert_identities(connection, secrets, tenants, numbers, made)
        store.checkpoint_if_due()


def _batches(count: int, size: int = _BATCH) -> Iterator[range]:
    return (range(first, min(first + size, count)) for first in range(0, count, size))


def _insert_accounts(connection: Connection, secrets: Secrets, tenants: Tenants, numbers: range) -> None:
    users = [tenants.user(number) for number in numbers]
    credentials = [_credential(secrets, tenants, number) for number in numbers]
    _insert(connection, account, [asdict(_account(tenants, number)) for number in numbers])
    _insert(connection, iam_user, [{**asdict(user), "tags": "{}"} for user in users])
    _insert(connection, user_policy, [_first_policy(user) for user in users])
    _insert(connection, credential, credentials)
    _insert(connection, quota, [_quota(user) for user in users])
    _insert(connection, usage_minute, [row for user in users for row in _minutes(user)])
    _insert(connection, usage_day, [row for user in users for row in _days(user)])
    _insert(connection, suppressed, [row for user in users for row in _suppressed(user)])
    _insert(connection, refusal, [_refusal(tenants, number) for number in numbers])
    _note(connection, [credential_subject(row["access_key_id"]) for row in credentials], "CreateAccessKey")


def _account(tenants: Tenants, number: int) -> AccountRow:
    return AccountRow(
        account_id=tenants.account_id(number),
        name=f"tenant {number}",
        production=True,
        paused=False,
        pause_reason=None,
        max_24h_send=_UNLIMITED,
        max_send_rate=_UNLIMITED,
        created_at=_at(number),
    )


def _first_policy(user: UserRow) -> dict[str, Any]:
    return {
        "id": user.id + 1,
        "account_id": user.account_id,
        "user_id": user.id,
        "name": FIRST_POLICY_NAME,
        "document": FIRST_POLICY,
        "updated_at": user.created_at,
    }


def _credential(secrets: Secrets, tenants: Tenants, number: int) -> dict[str, Any]:
    key, user = tenants.access_key_id(number), tenants.user(number)
    row = CredentialRow(key, user.account_id, user.id, None, None, True, user.created_at)
    return {**asdict(row), "secret": secrets.seal(tenants.secret(number).encode(), secret_place(key))}


def _quota(user: UserRow) -> dict[str, Any]:
    minute = time.time_ns() // 60_000_000_000 - _MINUTES_SPENT
    row = {"sent_24h": _MINUTES_SPENT, "from_minute": minute - 1, "credit": 0, "credit_at": 0}
    return {"account_id": user.account_id, **row}


def _minutes(user: UserRow) -> Iterator[dict[str, Any]]:
    now = time.time_ns() // 60_000_000_000
    for minute in range(now - _MINUTES_SPENT, now):
        yield {"account_id": user.account_id, "minute": minute, "recipients": 1}


def _days(user: UserRow) -> Iterator[dict[str, Any]]:
    """Of two months, in its own name, by one worker."""
    today = time.time_ns() // 86_400_000_000_000
    arn = identity_arn(REGION, user.account_id, "tenant.example")
    for day in range(today - _DAYS_BILLED, today):
        key = {"account_id": user.account_id, "day": day, "identity_arn": arn, "worker_id": 1}
        yield {
            **key,
            "messages": 100,
            "recipients": 100,
            "bytes": 400_000,
            "delivered": 99,
            "hard_bounces": 1,
        }


def _suppressed(user: UserRow) -> Iterator[dict[str, Any]]:
    for number in range(_SUPPRESSED):
        address = f"gone{number}@c{number}.example"
        row = {"address": address, "reason": BOUNCE, "at": user.created_at}
        yield {"account_id": user.account_id, "folded": address, **row}


def _refusal(tenants: Tenants, number: int) -> dict[str, Any]:
    at = time.time_ns() // 1000
    return {
        "id": compose_id(at // 1000, 0, 0) - number,
        "reference": _letters(number)[-8:],
        "account_id": tenants.account_id(number),
        "access_key_id": tenants.access_key_id(number),
        "at": at,
        "reason": "access-denied",
        "reply": "554 Access denied",
        "record": "{}",
    }


def _insert_identities(
    connection: Connection, secrets: Secrets, tenants: Tenants, numbers: range, keys: Sequence[NewKey]
) -> None:
    _insert(connection, identity, [asdict(_identity(tenants, number)) for number in numbers])
    signing = [_key(secrets, tenants, number, keys[number % len(keys)]) for number in numbers]
    _insert(connection, dkim_key, signing)
    _insert(connection, identity_policy, [_policy(tenants, number) for number in numbers])
    subjects = [identity_subject(tenants.account_id(number), tenants.name(number)) for number in numbers]
    for action in ("CreateEmailIdentity", "PutEmailIdentityDkimSigningAttributes", "PutIdentityPolicy"):
        _note(connection, subjects, action)
    _insert(connection, ledger, [_ledger_row(tenants.arn(number), _at(number)) for number in numbers])


def _identity(tenants: Tenants, number: int) -> IdentityRow:
    return IdentityRow(
        id=_id(2, number),
        account_id=tenants.account_id(number),
        name=tenants.name(number),
        type="DOMAIN",
        verification_status="SUCCESS",
        verification_token=base64.b64encode(number.to_bytes(32, "big")).decode(),
        dkim_enabled=True,
        dkim_status="SUCCESS",
        feedback_forwarding=True,
        configuration_set=None,
        created_at=_at(number),
        # Looked at again some day, as those that DNS verified are.
        check_at=(time.time_ns() // 1000) + 10**12 + number,
    )


def _key(secrets: Secrets, tenants: Tenants, number: int, key: NewKey) -> dict[str, Any]:
    key_id = _id(3, number)
    row = KeyRow(key_id, key.selector, key.algorithm, key.public_record, "signing")
    return {
        **asdict(row),
        "account_id": tenants.account_id(number),
        "identity_id": _id(2, number),
        "private_key": secrets.seal(key.pem, key_place(key_id)),
        "created_at": _at(number),
    }


def _policy(tenants: Tenants, number: int) -> dict[str, Any]:
    document = grant({"AWS": tenants.user(number + 1).arn}, tenants.arn(number))
    return {
        "id": _id(4, number),
        "account_id": tenants.account_id(number),
        "identity_id": _id(2, number),
        "name": "lend",
        "document": json.dumps(document),
        "updated_at": _at(number),
    }


def _note(connection: Connection, subjects: Sequence[str], action: str) -> None:
    """What the change feed and the audit keep of it."""
    at = time.time_ns() // 1000
    rows = [{"at": at, "actor": _ACTOR, "action": action, "subject": subject} for subject in subjects]
    _insert(connection, change, rows)
    _insert(connection, audit, [{**row, "detail": "{}"} for row in rows])


def _ledger_row(arn: str, at: int) -> dict[str, Any]:
    """The first entry of an identity's chain, sealed."""
    one = ledgers.entry(arn, at, ledgers.CHANGE, {"action": "CreateEmailIdentity", "actor": _ACTOR})
    told = {"identity_arn": arn, "at": at, "kind": one.kind, "detail": one.detail}
    return {**told, "seq": 1, "hash": ledgers.link("0" * 64, 1, one)}


def _insert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    connection.execute(insert(table), list(rows))


# ---------------------------------------------------------------- the queue


@dataclass(frozen=True, slots=True)
class Letter:
    """What every message of the queue consists of."""

    header: bytes = b"From: Alerts <alerts@owner.example>\r\nTo: user@customer.example\r\nSubject: Hello\r\n"
    body: bytes = b"the quick brown fox jumps over the lazy dog\r\n" * 20
    record: str = "{}"


def fill_queue(store: Store, tenants: Tenants, count: int, letter: Letter, state: State) -> None:
    """``count`` messages with a recipient each, accepted in the last three days: held, or due in some hours.

    They are as ``accept`` commits them, and then as an operator or a deferral leaves them.
    """
    now_ms = time.time_ns() // 1_000_000
    first = now_ms - 3 * _DAY_MILLISECONDS
    step = 2.5 * _DAY_MILLISECONDS / count
    arns = [tenants.arn(number) for number in range(min(tenants.identities, _BATCH))]
    for numbers in _batches(count, _MESSAGES):
        news = [
            _message(tenants, arns, number, compose_id(first + int(number * step), 0, number % 4096), letter)
            for number in numbers
        ]
        with store.write() as connection:
            insert_messages(connection, news)
            put(connection, state, news[0].message.id, news[-1].message.id)
        store.checkpoint_if_due()


def _message(
    tenants: Tenants, arns: Sequence[str], number: int, message_id: int, letter: Letter
) -> NewMessage:
    received_at = id_milliseconds(message_id) * 1000
    domain = f"c{number % _DESTINATIONS}.example"
    of = QueuedMessage(
        id=message_id,
        account_id=tenants.account_id(number + 1),
        identity_arn=arns[number % len(arns)],
        reverse_path="bounces@owner.example",
        return_path="bounces@owner.example",
        configuration_set=None,
        received_at=received_at,
        expires_at=received_at + 14 * _DAY_MILLISECONDS * 1000,
        size_bytes=len(letter.header) + len(letter.body),
        header=letter.header,
        body=(letter.body,),
        chunks=1,
    )
    return NewMessage(of, (QueuedRecipient(0, f"user{number}@{domain}", domain),), letter.record, None)


def fill_history(store: Store, tenants: Tenants, count: int, letter: Letter) -> None:
    """``count`` messages delivered yesterday, each with an event that a subscription was told of."""
    first = time.time_ns() // 1_000_000 - 2 * _DAY_MILLISECONDS
    step = 0.9 * _DAY_MILLISECONDS / count
    arns = [tenants.arn(number) for number in range(min(tenants.identities, _BATCH))]
    for numbers in _batches(count, _MESSAGES):
        news = [
            _message(tenants, arns, number, compose_id(first + int(number * step), 1, number % 4096), letter)
            for number in numbers
        ]
        with store.write() as connection:
            insert_messages(connection, news)
            put(connection, State.DELIVERED, news[0].message.id, news[-1].message.id)
            purge_bodies(connection, [new.message.id for new in news])
            _insert(connection, attempt, [_attempt(new.message) for new in news])
            _insert(connection, outbox, [_told(new.message) for new in news])
            _insert(connection, notification, [_notified(new.message) for new in news])
        store.checkpoint_if_due()


def _attempt(of: QueuedMessage) -> dict[str, Any]:
    return {
        "message_id": of.id,
        "number": 0,
        "attempt": 1,
        "at": of.received_at,
        "outcome": "delivered",
        "phase": "dot",
        "host": "mx.customer.example[192.0.2.1]:25",
        "tls": "TLSv1.3",
        "code": 250,
        "enhanced": "2.0.0",
        "reply": "Ok: queued as 4f2Kx10fZ3z9r",
        "duration_us": 40_000,
    }


def _told(of: QueuedMessage) -> dict[str, Any]:
    row = new_row(
        of.id, of.account_id, of.id, "delivery", [{"address": "user@customer.example"}], of.received_at
    )
    return {**row, "state": DONE, "attempts": 1, "worker_id": 1, "worker_epoch": 1}


def _notified(of: QueuedMessage) -> dict[str, Any]:
    new = NewNotification(of.id, of.account_id, 1, of.id, "Delivery", "x" * 1_000, of.received_at)
    return {**notification_row(new), "state": DONE, "attempts": 1}


def put(
    connection: Connection, state: State, first: int = 0, last: int = 2**63 - 1, was: State | None = None
) -> None:
    """Have the recipients of these messages in that state; those that are queued are due in some hours."""
    values: dict[str, Any] = {"state": state.value}
    if state is State.HELD:
        values |= {"held_because": OPERATOR}
    elif state is State.QUEUED:
        # Spread over a day, so that no two are due at once.
        later = int(time.time() * 1_000_000) + 6 * 3_600_000_000
        spread = recipient.c.message_id % 86_400_000_000
        values |= {"held_because": None, "due_at": later + spread, "attempts": 1}
    else:
        values |= {"settled_at": time.time_ns() // 1000, "attempts": 1}
    these = [recipient.c.message_id.between(first, last)]
    if was is not None:
        these.append(recipient.c.state == was.value)
    connection.execute(update(recipient).where(*these).values(values))


def settle_down(store: Store) -> None:
    """What the database does by itself in time: the log in the file, statistics, dead rows gone."""
    if store.is_sqlite:
        store._checkpoint("TRUNCATE")
        return
    with store._writer.connect() as connection:  # VACUUM runs in no transaction
        raw = connection.connection.driver_connection
        raw.autocommit = True  # type: ignore[union-attr]
        with raw.cursor() as cursor:  # type: ignore[union-attr]
            cursor.execute("SET statement_timeout = 0")
            cursor.execute("VACUUM (ANALYZE)")
            cursor.execute("CHECKPOINT")
        connection.invalidate()


def store_bytes(store: Store) -> int:
    """How large the store is on disk."""
    with store.read() as connection:
        if store.is_sqlite:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            return int(pages) * int(connection.execute(text("PRAGMA page_size")).scalar_one())
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
