"""The values that cross between intake, the queue and delivery."""

from __future__ import annotations

from dataclasses import dataclass

from relay.outcome.bounce_types import bounce_kind
from relay.outcome.outcome import Attempt, Bounced, Outcome, Reply
from relay.quotas.check import Charge
from relay.store.engine import StoreUnavailable as StoreUnavailable  # delivery knows the queue only
from relay.store.ledger import Entry


@dataclass(frozen=True, slots=True)
class Lease:
    """Which worker process holds a recipient; a settlement under another epoch is fenced off."""

    worker_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """One message as it goes out: the octets in the queue are the octets on the wire.

    ``reverse_path`` is empty for the null sender; ``return_path`` is where feedback goes, empty for
    nowhere.  ``header`` ends with its last field's CRLF, without the blank line.  ``body`` is None when
    it is only in the store (``Spool.body`` reads it back in ``chunks`` pieces).
    Instants are microseconds UTC.  ``events`` are the types that are written down because somebody
    listened for them when it was accepted.
    """

    id: int
    account_id: str
    identity_arn: str
    reverse_path: str
    return_path: str
    configuration_set: str | None
    received_at: int
    expires_at: int
    size_bytes: int
    header: bytes
    body: tuple[bytes, ...] | None
    chunks: int
    require_tls: bool = False
    events: frozenset[str] = frozenset()

    def without_body(self) -> QueuedMessage:
        """For when nobody needs its octets any more; ``dataclasses.replace`` takes five times as long."""
        return QueuedMessage(
            self.id,
            self.account_id,
            self.identity_arn,
            self.reverse_path,
            self.return_path,
            self.configuration_set,
            self.received_at,
            self.expires_at,
            self.size_bytes,
            self.header,
            None,
            self.chunks,
            self.require_tls,
            self.events,
        )


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """One recipient of a message and what has been tried for it."""

    number: int
    address: str
    domain: str
    attempts: int = 0
    delay_reported: bool = False


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be committed.

    ``lease`` None leaves it for whoever claims it; ``record`` is JSON.  ``judged_on`` are the subjects
    the decision read, in lower case, true as of change number ``judged_at``; empty for our own reports,
    which have no ``charge`` either.  ``suppressed_reasons`` are those for which a recipient on the account's
    suppression list is not sent to; ``entries`` go into owners' ledgers.
    """

    message: QueuedMessage
    recipients: tuple[QueuedRecipient, ...]
    record: str
    lease: Lease | None
    judged_at: int = 0
    judged_on: frozenset[str] = frozenset()
    spilled: bool = False
    charge: Charge | None = None
    suppressed_reasons: frozenset[str] = frozenset()
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Consignment:
    """A message with those of its recipients that one worker holds and shall try now."""

    message: QueuedMessage
    recipients: tuple[QueuedRecipient, ...]
    lease: Lease


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one claim brought; ``is_more``: there may be more due at once."""

    consignments: tuple[Consignment, ...] = ()
    is_more: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one recipient in one attempt; ``is_simulated``: of the simulator, nothing left us."""

    message: QueuedMessage
    recipient: QueuedRecipient
    lease: Lease
    attempt: Attempt
    outcome: Outcome
    is_simulated: bool = False

    @property
    def ended_at(self) -> int:
        """Microseconds UTC."""
        return self.attempt.at + self.attempt.duration_us

    @property
    def moves_reputation(self) -> bool:
        """Whether it is of a client's mail: not of the null sender's, which is our own, nor simulated."""
        return bool(self.message.reverse_path) and not self.is_simulated

    @property
    def is_hard_bounce(self) -> bool:
        """Whether the address itself is bad, as far as this attempt tells."""
        if not isinstance(self.outcome, Bounced):
            return False
        answer = self.attempt.answer
        text = answer.text if isinstance(answer, Reply) else answer.reason
        return bounce_kind(self.outcome.status, text, expired=self.outcome.expired).is_hard
