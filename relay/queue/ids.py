"""Ids of one process: time-ordered, never given twice, never going back with the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from relay.submission.identifiers import compose_id

SEQUENCES = 4096


class Ids:
    """Makes ids for one worker number, on any thread; ``first`` is where a millisecond begins."""

    def __init__(self, worker_id: int, first: Callable[[], int] = lambda: 0) -> None:
        self._worker_id = worker_id
        self._first = first
        self._lock = threading.Lock()
        self._millisecond = 0
        self._sequence = 0

    def next(self) -> int:
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._millisecond:
                self._millisecond, self._sequence = now, self._first()
            else:
                self._sequence += 1
                if self._sequence == SEQUENCES:  # 4,096 in a millisecond, or the clock went back
                    self._millisecond, self._sequence = self._millisecond + 1, self._first()
            return compose_id(self._millisecond, self._worker_id, self._sequence)
