"""Accounting: who is billed for what was accepted, how it fared, and what the owner is told of it.

Both are part of the transaction that accepts or settles, a statement each for a whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from relay.outcome.outcome import Bounced, Deferred
from relay.queue.values import NewMessage, Settled
from relay.store import ledger, usage
from relay.store.usage import Tally
from relay.submission.identifiers import id_worker


def count_accepted(connection: Connection, news: Sequence[NewMessage]) -> None:
    """The bill of who sends, and the ledger of whose name it is.  Our own mail is nobody's."""
    charged = [new for new in news if new.charge is not None]
    if not charged:
        return
    # All of a batch are one worker's, which made their ids.
    usage.count(connection, id_worker(charged[0].message.id), map(_accepted, charged))
    ledger.append(connection, [entry for new in charged for entry in new.entries])


def _accepted(new: NewMessage) -> Tally:
    """Suppressed and simulated recipients are billed like the others."""
    of = new.message
    return Tally(
        of.account_id,
        of.identity_arn,
        of.received_at,
        messages=1,
        recipients=len(new.recipients),
        bytes=of.size_bytes,
    )


def count_settled(connection: Connection, settled: Sequence[Settled]) -> None:
    """What moves the sending account's reputation (R10)."""
    final = [one for one in settled if one.moves_reputation and not isinstance(one.outcome, Deferred)]
    if final:
        usage.count(connection, final[0].lease.worker_id, map(_fate, final))


def _fate(one: Settled) -> Tally:
    of = one.message
    who = of.account_id, of.identity_arn, of.received_at
    if not isinstance(one.outcome, Bounced):
        return Tally(*who, delivered=1)
    return Tally(*who, hard_bounces=1) if one.is_hard_bounce else Tally(*who, soft_bounces=1)
