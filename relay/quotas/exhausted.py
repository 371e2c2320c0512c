"""What a process remembers of accounts that ran into their quota.

A mailer that ignores 454 comes back at once; what is known to exceed is refused before it is signed,
without asking the store.  What is remembered errs on the side of letting through: others can only have
used more since, and at the turn of a minute, when the day may have gained room, it is forgotten.
"""

from __future__ import annotations

from relay.quotas.check import Charge, Exceeded, check
from relay.quotas.window import Usage, minute_of

_MOST_ACCOUNTS = 10_000


class Exhausted:
    """``at`` is any clock in microseconds that does not go back."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Usage, int]] = {}

    def remember(self, account_id: str, usage: Usage, at: int) -> None:
        if len(self._known) >= _MOST_ACCOUNTS:
            self._known.pop(next(iter(self._known)))
        self._known[account_id] = usage, at

    def check(self, charge: Charge, at: int) -> Exceeded | None:
        """The refusal, if it is sure already."""
        known = self._known.get(charge.account_id)
        if known is None:
            return None
        usage, remembered_at = known
        now = usage.at + at - remembered_at
        answer = check(charge, usage, now)
        if isinstance(answer, Exceeded) and minute_of(now) == minute_of(usage.at):
            return answer
        del self._known[charge.account_id]
        return None
