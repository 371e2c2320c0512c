"""Suppressed recipients: found when a message is accepted, put on the list when one turns out bad.

Both are part of the transaction that accepts or settles.  A recipient that is on the list when its message
is accepted is born bounced and never tried; one that gets on it while its mail waits is still tried, as
accepted mail is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from relay.outcome.bounce_types import ON_ACCOUNT_LIST
from relay.queue.event_rows import new_row
from relay.queue.values import NewMessage, QueuedRecipient, Settled
from relay.store import suppression
from relay.store.suppression import BOUNCE

# RFC 3463: to the sender the mailbox is as good as none.
STATUS = "5.1.1"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an address should no longer be sent to: ``reason`` is BOUNCE or COMPLAINT, ``at`` microseconds UTC.

    ``configuration_set`` is the one that the message named.
    """

    account_id: str
    configuration_set: str | None
    message_id: int
    address: str
    reason: str
    at: int


def suppress(connection: Connection, causes: Sequence[Cause]) -> None:
    """Put on the lists what the accounts and configuration sets want there; the rest is let be."""
    if not causes:
        return
    reasons = suppression.reasons_of(connection, [(one.account_id, one.configuration_set) for one in causes])
    suppression.add(
        connection,
        [
            suppression.Entry(one.account_id, one.address, one.reason, one.at, one.message_id)
            for one in causes
            if one.reason in reasons[one.account_id, one.configuration_set]
        ],
    )


def hard_bounces(settled: Sequence[Settled]) -> list[Cause]:
    """Recipients whose address is bad for good.  Reports of our own and the simulator are left out."""
    return [
        Cause(
            account_id=one.message.account_id,
            configuration_set=one.message.configuration_set,
            message_id=one.message.id,
            address=one.recipient.address,
            reason=BOUNCE,
            at=one.ended_at,
        )
        for one in settled
        if one.moves_reputation and one.is_hard_bounce
    ]


# ---------------------------------------------------------------- when a message is accepted


def suppressed_among(connection: Connection, news: Sequence[NewMessage]) -> dict[int, dict[int, str]]:
    """Which recipients are not sent to and what each is told, by number, by the id of the message."""
    checked = [new for new in news if new.suppressed_reasons]
    if not checked:
        return {}
    found = suppression.matching(connection, [_key(new, one) for new in checked for one in new.recipients])
    if not found:
        return {}
    by_message = {new.message.id: dict(_suppressed(new, found)) for new in checked}
    return {message_id: suppressed for message_id, suppressed in by_message.items() if suppressed}


def _suppressed(new: NewMessage, found: dict[suppression.Key, str]) -> Iterator[tuple[int, str]]:
    for one in new.recipients:
        reason = found.get(_key(new, one))
        if reason in new.suppressed_reasons:
            yield one.number, _words(new.message.account_id, reason)


def _key(new: NewMessage, one: QueuedRecipient) -> suppression.Key:
    return new.message.account_id, suppression.folded(one.address)


def _words(account_id: str, reason: str) -> str:
    """What SES says, and where the list is."""
    return (
        "Amazon SES has suppressed sending to this address because it is on the suppression list of account"
        f" {account_id} of this relay, for a {reason.lower()}"
    )


def notice_rows(
    news: Sequence[NewMessage], suppressed: dict[int, dict[int, str]], next_id: Callable[[], int]
) -> list[dict[str, Any]]:
    """A row of the outbox for each message that has suppressed recipients."""
    rows = []
    for new in news:
        texts = suppressed.get(new.message.id)
        if texts:
            of = new.message
            notices = [
                _notice(one, texts[one.number], of.received_at)
                for one in new.recipients
                if one.number in texts
            ]
            rows.append(new_row(next_id(), of.account_id, of.id, "bounce", notices, of.received_at))
    return rows


def _notice(one: QueuedRecipient, text: str, at: int) -> dict[str, Any]:
    """As the settlement words it: no next hop has said anything."""
    return {
        "address": one.address,
        "status": STATUS,
        "expired": False,
        "code": None,
        "enhanced": None,
        "text": text,
        "host": "this relay",
        "phase": "queue",
        "at": at,
        "attempts": 0,
        "kind": [ON_ACCOUNT_LIST.type, ON_ACCOUNT_LIST.subtype],
    }
