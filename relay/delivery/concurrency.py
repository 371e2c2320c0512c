"""How many connections a destination gets at a time: a state machine without I/O.

It begins small and grows by one with every message that is taken, up to what the settings allow.  A next hop
that says, by a refusal or by breaking the connection, that this is too much for it, gets half as many; then
one more for every round of messages that it takes, after a while (additive increase, multiplicative
decrease, as TCP has it and as Postfix's ``default_destination_concurrency_*_feedback`` can be set).  One that
refuses again and again on its last connection, or cannot be reached, is down: nothing is tried for a time
that doubles.

    state      what happens                                      becomes
    open       takes a message                                   open, one connection more
    open       refuses                                           throttled, half as many
    throttled  takes a message, and the hold is over             throttled, a round of them adds one
    throttled  takes a message, and has all connections again    open
    throttled  refuses                                           throttled, half as many, and holds
    throttled  refuses the third time in a row, on one           down
    any        turns a further connection away                   throttled, with those that stand, and holds
    any        cannot be reached                                 down
    down       a connection stands                               throttled, with one

Transactions that run side by side see the same trouble: one that began before the last step down is none
of its own.  Times are seconds of a steady clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Postfix's initial_destination_concurrency.
FIRST = 5
HOLD_SECONDS = 10.0
DOWN_FIRST_SECONDS = 1.0
DOWN_MAX_SECONDS = 60.0
_REFUSALS_IN_A_ROW = 3
# So long after it was throttled or down, it is remembered though no mail comes.
_REMEMBERED_SECONDS = 60.0


class State(StrEnum):
    OPEN = "open"
    THROTTLED = "throttled"
    DOWN = "down"


@dataclass(slots=True)
class Concurrency:
    """Of one destination; ``most`` is what the settings allow.

    ``until`` is when it is tried again if it is down, and when it may grow if it is throttled; ``seconds``
    is how long it was down the last time, 0 once it answered.
    """

    most: int
    level: float = float(FIRST)
    state: State = State.OPEN
    until: float = 0.0
    seconds: float = 0.0
    _refusals: int = 0
    _stepped_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.level = min(self.level, float(self.most))

    @property
    def limit(self) -> int:
        return int(self.level)

    def is_down(self, now: float) -> bool:
        return self.state is State.DOWN and now < self.until

    def is_remembered(self, now: float) -> bool:
        """Whether what is known of it still matters: the next failure then doubles the wait."""
        return self.state is not State.OPEN and now < self.until + _REMEMBERED_SECONDS

    # ------------------------------------------------------------ what happens

    def took(self, began_at: float) -> bool:
        """It took a message in a transaction that began then; whether it may have another connection."""
        self._refusals, self.seconds = 0, 0.0
        if self.state is State.OPEN:
            if self.level >= self.most:
                return False
            self.level += 1
        elif self.state is State.DOWN or began_at < self.until:
            return False
        else:
            self.level += 1 / self.level
        if self.level >= self.most:
            self.level, self.state = float(self.most), State.OPEN
        return True

    def answered(self) -> None:
        """It did its work, whatever became of the mail."""
        self._refusals, self.seconds = 0, 0.0

    def refused(self, began_at: float, now: float) -> None:
        """It refused, or broke off, a transaction that began at ``began_at``, and not because of the mail."""
        if began_at < self._stepped_at or self.state is State.DOWN:
            return
        self._refusals += 1
        if self.level <= 1 and self._refusals >= _REFUSALS_IN_A_ROW:
            self._go_down(now)
        else:
            self._step_down(self.level / 2, now)

    def turned_away(self, standing: int, now: float) -> None:
        """It takes mail on so many connections, and none more."""
        self._step_down(min(self.level, standing), now)

    def _step_down(self, level: float, now: float) -> None:
        self.state = State.THROTTLED
        self.level = max(level, 1.0)
        self.until, self._stepped_at = now + HOLD_SECONDS, now

    def unreachable(self, dialled_at: float, now: float) -> None:
        """It did not let us in, and no connection stands."""
        if dialled_at >= self._stepped_at:
            self._go_down(now)

    def _go_down(self, now: float) -> None:
        self.state, self.level = State.DOWN, 1.0
        self.seconds = min(self.seconds * 2 or DOWN_FIRST_SECONDS, DOWN_MAX_SECONDS)
        self.until, self._stepped_at = now + self.seconds, now

    def connected(self, now: float) -> None:
        """A connection stands."""
        if self.state is State.DOWN:
            self.state, self.until = State.THROTTLED, now
