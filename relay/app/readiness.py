"""Whether a worker takes mail, and if not, why: for load balancers and for who looks after it."""

from __future__ import annotations

from relay.intake import Intake
from relay.queue.writer import GroupWriter


class Readiness:
    """``is_draining`` is set when the worker begins to end and no other takes over."""

    def __init__(self, intake: Intake, writer: GroupWriter) -> None:
        self.is_draining = False
        self._intake = intake
        self._writer = writer

    def why_not(self) -> str | None:
        """The reason in words, None if mail is taken."""
        if self.is_draining:
            return "draining: it is told to stop"
        if self._intake.low_disk:
            return "disk: less is free than [store] low_disk_bytes"
        if not self._intake.directory.is_fresh:
            return "store: cannot be read, or is slow"
        if not self._writer.is_answering:
            return "store: takes no writes, or is slow"
        return None
