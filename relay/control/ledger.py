"""The owner's ledger as owners read it, of an identity that is there or was."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from relay.control.ground import ControlError, Ground
from relay.control.identities import checked_arn
from relay.store import ledger
from relay.store.ledger import Sealed as Sealed  # the commands show them
from relay.store.ledger import Verified as Verified


def newest(ground: Ground, arn: str, limit: int, since: datetime | None) -> list[Sealed]:
    """The newest entries, the newest first; those without a number still wait for the sealer."""
    _present(ground, arn)
    from_ = int(since.replace(tzinfo=UTC).timestamp()) * 1_000_000 if since else 0
    with ground.store.read() as connection:
        return ledger.newest(connection, arn, limit, from_)


def verify(ground: Ground, arn: str) -> tuple[Verified, int]:
    """Whether every sealed entry is as it was sealed, and how many are not sealed yet."""
    _present(ground, arn)
    with ground.store.read() as connection:
        waiting = ledger.count_unsealed(connection, arn)
    return ledger.verify(ledger.chain(ground.store, arn)), waiting


def export(ground: Ground, arn: str) -> Iterator[str]:
    """Every sealed entry as a line of JSON, from the first on."""
    _present(ground, arn)
    return map(ledger.exported, ledger.chain(ground.store, arn))


def _present(ground: Ground, arn: str) -> None:
    checked_arn(ground, arn)
    with ground.store.read() as connection:
        if not ledger.newest(connection, arn, 1):
            raise ControlError("not_found", f"{arn}: nothing ever happened in this identity's name here")
