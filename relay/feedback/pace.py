"""Mail first: how long the telling rests while mail flows, and how far behind it may fall for that.

Telling of a message costs about as much as sending it.  While a worker accepts and delivers at a rate, what
tells takes a small share of its time and falls behind; past a limit it takes half until it has caught up.
On a worker with little to do nothing rests.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from relay import metrics

# Messages accepted and recipients delivered in a second, from which on a worker counts as busy.
BUSY_PER_SECOND = 100.0
_SHARE = 0.02
# From so far behind on more of the time is taken; the metrics tell the lag all along.
LAG_LIMIT_SECONDS = 300.0
_SHARE_PAST_LIMIT = 0.5
_LOOK_SECONDS = 0.5


def _mail() -> float:
    return metrics.ACCEPTED.own + metrics.DELIVERED.own


class Pace:
    """The pace of one task.  ``traffic`` counts what the worker has accepted and delivered so far."""

    def __init__(
        self, traffic: Callable[[], float] = _mail, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._traffic = traffic
        self._clock = clock
        self._seen_at, self._seen = clock(), traffic()
        self._is_busy = False

    def rest_seconds(self, spent_seconds: float, lag_seconds: float) -> float:
        """How long to rest after so much work; ``lag_seconds`` is how far behind the telling is."""
        if not self._mail_flows():
            return 0.0
        share = _SHARE if lag_seconds <= LAG_LIMIT_SECONDS else _SHARE_PAST_LIMIT
        return spent_seconds / share - spent_seconds

    def _mail_flows(self) -> bool:
        now = self._clock()
        elapsed = now - self._seen_at
        if elapsed >= _LOOK_SECONDS:
            traffic = self._traffic()
            self._is_busy = (traffic - self._seen) / elapsed >= BUSY_PER_SECOND
            self._seen_at, self._seen = now, traffic
        return self._is_busy
