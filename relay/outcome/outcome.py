"""What one attempt meant for one recipient, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """How far an attempt came before it ended."""

    ROUTE = "route"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the next hop: three digits, the enhanced code if it gave one, the text without both."""

    code: int
    enhanced: str | None
    text: str

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)


@dataclass(frozen=True, slots=True)
class Failure:
    """No reply: the connection failed, timed out or broke, or the next hop spoke something else."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try for one recipient.  ``at`` is microseconds UTC, ``host`` is ``name[address]:port``.

    ``local`` is our own address of the connection, None if there was none.
    """

    at: int
    phase: Phase
    host: str
    tls: str | None
    answer: Reply | Failure
    duration_us: int
    local: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop took responsibility: 2yz to the final dot."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now; ``due_at`` (microseconds UTC) is when to try again.  ``delay_notice``: tell the sender."""

    due_at: int
    delay_notice: bool = False


@dataclass(frozen=True, slots=True)
class Bounced:
    """Never; ``status`` is the RFC 3463 code, ``expired`` tells that only time ran out."""

    status: str
    expired: bool = False


Outcome = Delivered | Deferred | Bounced
