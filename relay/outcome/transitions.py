"""The states of a recipient and the transitions between them, as a table."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a recipient is.  The values stand in the store."""

    QUEUED = "queued"  # waits until it is due
    LEASED = "leased"  # one worker tries it now
    HELD = "held"  # the operator stopped it
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    DROPPED = "dropped"  # the operator threw it away


_S = State
TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    _S.QUEUED: frozenset({_S.LEASED, _S.HELD, _S.BOUNCED, _S.DROPPED}),
    # Back to the queue: deferred, released, or reclaimed from a dead worker.
    _S.LEASED: frozenset({_S.QUEUED, _S.DELIVERED, _S.BOUNCED}),
    _S.HELD: frozenset({_S.QUEUED, _S.BOUNCED, _S.DROPPED}),
    _S.DELIVERED: frozenset(),
    _S.BOUNCED: frozenset(),
    _S.DROPPED: frozenset(),
}


class IllegalTransition(AssertionError):
    """The program tried what the table does not have."""


def check(before: State, after: State) -> State:
    """``after`` if it may follow ``before``; IllegalTransition otherwise."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransition(f"{before} -> {after}")
    return after


def is_final(state: State) -> bool:
    return not TRANSITIONS[state]
