"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ok:
    """It is as it should be."""

    subject: str
    what: str


@dataclass(frozen=True, slots=True)
class Wrong:
    """It is not; ``mend`` says what to do."""

    subject: str
    problem: str
    mend: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """It was not looked at."""

    subject: str
    why: str


Finding = Ok | Wrong | Skipped
