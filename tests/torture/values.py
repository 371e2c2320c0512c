"""What a run leaves behind for the judge: what clients were told, what the next hop took, what the store
says, and what was done to the program meanwhile.  Instants are seconds of this machine's clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of a client; ``body`` is the digest of its body.  Every try has the same Message-ID."""

    id: str
    reverse_path: str
    recipients: tuple[str, ...]
    body: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a client heard to one try; ``code`` None: the connection was lost, the message may be queued."""

    id: str
    code: int | None
    relay_id: str | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """One message that the next hop took, and what became of its answer.

    ``was_told`` is False if no 2yz went back after the final dot.
    """

    relay_id: str
    recipients: tuple[str, ...]
    body: str
    digest: str
    is_signed: bool
    was_told: bool
    began_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class Report:
    """A bounce report that the next hop took: its own id, and on whom."""

    id: str
    original_id: str
    to: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A recipient in the store; ``is_report``: of a report of the gateway's own."""

    relay_id: str
    address: str
    state: str
    is_report: bool


class Kind(StrEnum):
    """What a fault may excuse."""

    DEATH = "a death or stall between the next hop's reply and our commit"
    STORE = "a failed outcome commit"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Event:
    """A fault while it lasted."""

    name: str
    kind: Kind
    at: float
    until: float


@dataclass(slots=True)
class Evidence:
    """Everything the judge needs.  ``refused`` are addresses to which the next hop said a permanent no,
    ``untold`` return paths for which a report is still to be written, ``forged`` ids of messages whose
    signature an independent verifier did not take, of the ``verified`` it looked at."""

    sent: dict[str, Sent] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    rows: list[Row] = field(default_factory=list)
    untold: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    verified: int = 0
    forged: list[str] = field(default_factory=list)
