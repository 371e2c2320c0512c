"""The queue of a store that was restored: nobody holds anything, and nothing goes out twice unasked."""

from __future__ import annotations

from sqlalchemy import Connection, update

from relay.outcome.transitions import State
from relay.queue import loaded_keys, revocation
from relay.store.tables import notification, outbox, recipient

RESTORED = "restored"


def take_over(connection: Connection, hold: bool) -> int:
    """What workers held is nobody's; ``hold`` stops all that waited.  The number of recipients that wait.

    What was delivered after the backup was made still waits in it: only the operator knows whether it
    shall go out again.
    """
    waits = recipient.c.state.in_([State.QUEUED.value, State.LEASED.value])
    values = {"state": State.HELD.value, "held_because": RESTORED} if hold else {"state": State.QUEUED.value}
    waiting = connection.execute(update(recipient).where(waits).values(values)).rowcount
    for table in (outbox, notification):
        is_leased = table.c.state == State.LEASED.value
        connection.execute(update(table).where(is_leased).values(state=State.QUEUED.value))
    loaded_keys.forget(connection)
    revocation.let_go(connection)
    return waiting
