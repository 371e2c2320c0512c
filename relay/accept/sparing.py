"""What strangers cause is counted, and logged sparingly."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from relay.maillog import Log

# Keys of a table that strangers fill.
MOST_REMEMBERED = 20_000
_LINES_AT_ONCE = 100
_LINES_PER_SECOND = 2.0


class LeakyCounts:
    """A count for each key that grows by one and leaks steadily, for a bounded number of keys."""

    def __init__(self, leak_per_second: float) -> None:
        self._leak_per_second = leak_per_second
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, key: str, now: float) -> float:
        count, at = self._seen.get(key, (0.0, now))
        return max(count - (now - at) * self._leak_per_second, 0.0)

    def add(self, key: str, now: float) -> float:
        """The count with one more."""
        count = self.count(key, now) + 1
        self._seen[key] = (count, now)
        self._seen.move_to_end(key)
        if len(self._seen) > MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return count


class Sparing:
    """A log for lines that strangers cause: a hundred at once, then two a second; the rest is counted."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._written = LeakyCounts(_LINES_PER_SECOND)
        self._left_out = 0

    def __call__(self, event: str, *, level: str = "warning", **fields: Any) -> None:
        now = time.monotonic()
        if self._written.count("", now) + 1 > _LINES_AT_ONCE:
            self._left_out += 1
            return
        self._written.add("", now)
        if self._left_out:
            fields["left_out"] = self._left_out
        self._log(event, level=level, **fields)
        self._left_out = 0
