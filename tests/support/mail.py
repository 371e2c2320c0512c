"""Builders of queue values for tests."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import Connection

from relay.outcome.outcome import Attempt, Outcome, Phase, Reply
from relay.queue.claims import claim, next_turn
from relay.queue.values import Consignment, Lease, NewMessage, QueuedMessage, QueuedRecipient, Settled
from relay.queue.workers import now

_ids = itertools.count(1_000_000)


def queued_message(**values: Any) -> QueuedMessage:
    fields: dict[str, Any] = {
        "id": next(_ids),
        "account_id": "222222222222",
        "identity_arn": "arn:aws:ses:us-east-1:111122223333:identity/owner.example",
        "reverse_path": "bounces@owner.example",
        "return_path": "bounces@owner.example",
        "configuration_set": None,
        "received_at": 1_000,
        "expires_at": 2_000_000_000_000_000,
        "size_bytes": 100,
        "header": b"From: a@owner.example\r\n",
        "body": (b"Hello\r\n",),
        "chunks": 1,
    }
    return QueuedMessage(**{**fields, **values})


def new_message(*addresses: str, lease: Lease | None = None, **values: Any) -> NewMessage:
    judged = {name: values.pop(name) for name in ("judged_at", "judged_on", "spilled") if name in values}
    recipients = tuple(
        QueuedRecipient(number, address, address.rpartition("@")[2])
        for number, address in enumerate(addresses or ("user@customer.example",))
    )
    return NewMessage(queued_message(**values), recipients, "{}", lease, **judged)


def settled(
    consignment: Consignment, outcome: Outcome, reply: Reply | None = None, number: int = 0
) -> Settled:
    attempt = Attempt(
        5_000, Phase.DOT, "mx.example[127.0.0.1]:25", None, reply or Reply(250, "2.0.0", "Ok"), 10
    )
    return Settled(consignment.message, consignment.recipients[number], consignment.lease, attempt, outcome)


def claim_due(connection: Connection, lease: Lease, limit: int) -> list[Consignment]:
    """What a claim of that worker finds."""
    accounts = next_turn(connection, "", now(connection)).accounts
    return list(claim(connection, lease, limit, accounts).consignments) if accounts else []
