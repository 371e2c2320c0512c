"""Management calls of one account in a second, counted by each worker process."""

from __future__ import annotations

_MOST_ACCOUNTS = 10_000


class Throttle:
    """A bucket for each account holds a second's worth; ``per_second`` 0 admits everything."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._buckets: dict[str, tuple[float, float]] = {}  # (what is left, as of)

    def admits(self, account_id: str, now: float) -> bool:
        """Count a call, and tell whether it may be made."""
        if not self._per_second:
            return True
        left, at = self._buckets.get(account_id, (float(self._per_second), now))
        left = min(float(self._per_second), left + (now - at) * self._per_second)
        if len(self._buckets) >= _MOST_ACCOUNTS:
            self._buckets.clear()
        self._buckets[account_id] = (max(left - 1, 0.0), now)
        return left >= 1
