"""What is counted, by its Prometheus name.  No label holds an address.

All processes of a gateway count into one piece of memory that the supervisor maps before it forks: a row
for each process, a cell for each number.  A process adds to its own row; whoever is scraped reads them
all.  So the figures are the gateway's, whichever worker answers; a killed worker leaves behind what it
counted, and the next in its row counts on.

Deliberate: not prometheus-client's own way to several processes.  That keeps files for each process id on
disk, costs an event three times as much, and every worker that ever ran leaves files to be read at each
scrape.  The library still writes the exposition.

Every label value stands here, so that each series is there from the start, and their number is fixed.
"""

from __future__ import annotations

import math
import mmap
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from relay.outcome.transitions import State
from relay.submission.answer import Reason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Row 0 is the supervisor's; 64 workers, and the generations that finish while reloads follow each other.
ROWS = 256
_CELLS = 512  # a page of memory a row: no two processes write to the same one

_memory = memoryview(mmap.mmap(-1, ROWS * _CELLS * 8)).cast("d")  # anonymous and shared with who is forked
_own = _memory[:_CELLS]
_allotted = 0
_lock = threading.Lock()


def take_row(row: int) -> None:
    """Count into that row from now on; no other living process may have it."""
    global _own
    _own = _memory[row * _CELLS : (row + 1) * _CELLS]


def process_ended(row: int) -> None:
    """What was true of a process only while it lived is no longer; what it counted stays."""
    for gauge in _LIVE:
        _memory[row * _CELLS + gauge.at] = 0.0


def _allot(count: int) -> int:
    """The first of so many new cells, the same in every process: they are allotted before the fork."""
    global _allotted
    first, _allotted = _allotted, _allotted + count
    assert _allotted <= _CELLS, "raise _CELLS"
    return first


def _total(at: int) -> float:
    return sum(_memory[at::_CELLS])


# ---------------------------------------------------------------- kinds of numbers

_Sample = tuple[str, dict[str, str], float]  # what is added to the name, labels, value


class _Measure(Protocol):
    def samples(self) -> Iterator[_Sample]: ...


class Counter:
    """Events since the gateway started."""

    def __init__(self) -> None:
        self._at = _allot(1)

    def inc(self, amount: float = 1.0) -> None:
        with _lock:
            _own[self._at] += amount

    @property
    def own(self) -> float:
        """What was counted in this process's row."""
        return _own[self._at]

    @property
    def value(self) -> float:
        return _total(self._at)

    def samples(self) -> Iterator[_Sample]:
        yield "", {}, self.value


class LiveGauge:
    """What is so at present, in sum over the processes that live."""

    def __init__(self) -> None:
        self.at = _allot(1)
        _LIVE.append(self)

    def inc(self) -> None:
        with _lock:
            _own[self.at] += 1.0

    def dec(self) -> None:
        with _lock:
            _own[self.at] -= 1.0

    def set(self, value: float) -> None:
        _own[self.at] = value

    @property
    def value(self) -> float:
        return _total(self.at)

    @property
    def own(self) -> float:
        """That of this process."""
        return _own[self.at]

    @property
    def rows(self) -> Sequence[float]:
        """Those of all processes, by row."""
        return _memory[self.at :: _CELLS].tolist()

    def samples(self) -> Iterator[_Sample]:
        yield "", {}, self.value


class ProcessGauge(LiveGauge):
    """The same for each worker by itself, while it lives."""

    def samples(self) -> Iterator[_Sample]:
        for row, value in enumerate(_memory[self.at :: _CELLS]):
            if value:
                yield "", {"worker": str(row)}, value


class SharedGauge:
    """What any process may look up for all of them: the last look counts.  NaN is: nobody knows."""

    def __init__(self) -> None:
        self._at = _allot(1)
        self.set(math.nan)

    def set(self, value: float) -> None:
        _memory[self._at] = value

    @property
    def value(self) -> float:
        return _memory[self._at]

    def samples(self) -> Iterator[_Sample]:
        yield "", {}, self.value


class Histogram:
    """How long something took; the last cell is the sum, the one before it for what is over all bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._at = _allot(len(bounds) + 2)
        self._sum_at = self._at + len(bounds) + 1

    def observe(self, seconds: float) -> None:
        at = self._at + bisect_left(self._bounds, seconds)
        with _lock:
            _own[at] += 1.0
            _own[self._sum_at] += seconds

    @property
    def count(self) -> float:
        return sum(_total(at) for at in range(self._at, self._sum_at))

    def samples(self) -> Iterator[_Sample]:
        count = 0.0
        for at, bound in enumerate((*self._bounds, math.inf), self._at):
            count += _total(at)
            yield "_bucket", {"le": "+Inf" if bound == math.inf else str(float(bound))}, count
        yield "_count", {}, count
        yield "_sum", {}, _total(self._sum_at)


_LIVE: list[LiveGauge] = []
_M = TypeVar("_M", bound=_Measure)


# ---------------------------------------------------------------- names

_Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Family(Generic[_M]):
    """A name, and the number or numbers under it."""

    kind: _Kind
    name: str
    text: str
    label: str
    children: dict[str, _M]

    def labels(self, value: str) -> _M:
        return self.children[value]


_FAMILIES: list[Family[_Measure]] = []


def _named(kind: _Kind, name: str, text: str, measure: _M) -> _M:
    _FAMILIES.append(Family(kind, name, text, "", {"": measure}))
    return measure


def _labelled(
    kind: _Kind, name: str, text: str, label: str, values: Iterable[str], make: Callable[[], _M]
) -> Family[_M]:
    children = {value: make() for value in values}
    family = Family(kind, name, text, label, children)
    _FAMILIES.append(Family(kind, name, text, label, dict(children)))
    return family


class _All(Collector):
    def collect(self) -> Iterator[Metric]:
        for family in _FAMILIES:
            metric = Metric(family.name.removesuffix("_total"), family.text, family.kind)
            for value, child in family.children.items():
                own = {family.label: value} if family.label else {}
                for suffix, labels, number in child.samples():
                    metric.add_sample(family.name + suffix, {**own, **labels}, number)
            yield metric


_REGISTRY = CollectorRegistry(auto_describe=False)
_REGISTRY.register(_All())


def exposition() -> bytes:
    """Everything, as Prometheus reads it; takes about a millisecond, so in a thread."""
    return generate_latest(_REGISTRY)


# ---------------------------------------------------------------- what is counted

_TO_ACCEPT = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_STAGES = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 5)
_TO_DELIVER = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
WAITING_STATES = (State.QUEUED.value, State.LEASED.value, State.HELD.value)

ACCEPTED = _named(
    "counter", "relay_accepted_total", "Messages accepted: durable and answered 250.", Counter()
)
REFUSED = _labelled(
    "counter",
    "relay_refused_total",
    "Messages refused, by reason.",
    "reason",
    [reason.value for reason in Reason],
    Counter,
)
REPORTS = _labelled(
    "counter",
    "relay_reports_total",
    "What came back to our return paths: what it says of a recipient, or why it says nothing to us.",
    "kind",
    ("bounce", "delay", "complaint", "autoreply", "unreadable", "not_believed", "refused"),
    Counter,
)
UNSIGNED = _named(
    "counter", "relay_unsigned_total", "Messages accepted that go out without a DKIM signature.", Counter()
)
DELIVERED = _named("counter", "relay_delivered_total", "Recipients that the next hop took.", Counter())
DEFERRED = _named("counter", "relay_deferred_total", "Attempts that are made again later.", Counter())
BOUNCED = _named(
    "counter",
    "relay_bounced_total",
    "Recipients given up, or never tried since they are suppressed.",
    Counter(),
)
SIGNING_ERRORS = _named(
    "counter", "relay_signing_errors_total", "Messages answered 451 for want of a signature.", Counter()
)
_SIGNATURES = _labelled(
    "counter",
    "relay_signatures_total",
    "DKIM signatures: RSA several at a time, and those made singly.",
    "made",
    ("together", "singly"),
    Counter,
)
SIGNED_TOGETHER, SIGNED_SINGLY = _SIGNATURES.labels("together"), _SIGNATURES.labels("singly")
STORE_ERRORS = _named(
    "counter", "relay_store_errors_total", "Times the store did not answer, or not in time.", Counter()
)
AUTH_FAILURES = _named("counter", "relay_auth_failures_total", "Failed logins.", Counter())
LOGINS_REFUSED = _named(
    "counter",
    "relay_logins_refused_total",
    "Logins not looked at: too many failed ones from that network.",
    Counter(),
)
WORKERS_DIED = _named(
    "counter", "relay_workers_died_total", "Worker processes that ended without being told to.", Counter()
)
ACCEPT_SECONDS = _named(
    "histogram", "relay_accept_seconds", "From the end of the data to the answer.", Histogram(_TO_ACCEPT)
)
_STAGE_SECONDS = _labelled(
    "histogram",
    "relay_stage_seconds",
    "Of that: the decision with what it is made on, the signatures, the commit.",
    "stage",
    ("authorization", "signing", "commit"),
    lambda: Histogram(_STAGES),
)
AUTHORIZATION_SECONDS = _STAGE_SECONDS.labels("authorization")
SIGNING_SECONDS = _STAGE_SECONDS.labels("signing")
COMMIT_SECONDS = _STAGE_SECONDS.labels("commit")
ATTEMPT_SECONDS = _named(
    "histogram",
    "relay_attempt_seconds",
    "Delivery attempts, from dialling or the first command to the last answer.",
    Histogram(_TO_DELIVER),
)
DESTINATIONS_THROTTLED = _named(
    "gauge",
    "relay_destinations_throttled",
    "Destinations that get fewer connections than the settings allow, each worker's by itself.",
    LiveGauge(),
)
CONNECTIONS = _named("gauge", "relay_connections", "Open connections of SMTP clients.", LiveGauge())
HTTP_CONNECTIONS = _named("gauge", "relay_http_connections", "Open connections of HTTP clients.", LiveGauge())
WORKERS = _named("gauge", "relay_workers", "Worker processes that accept connections.", LiveGauge())
WORKER_MEMORY = _named(
    "gauge", "relay_worker_memory_bytes", "Resident memory of each worker process.", ProcessGauge()
)
QUEUE_RECIPIENTS = _labelled(
    "gauge", "relay_queue_recipients", "Recipients in the queue.", "state", WAITING_STATES, SharedGauge
)
QUEUE_OLDEST_SECONDS = _labelled(
    "gauge",
    "relay_queue_oldest_seconds",
    "Age of the oldest of them, 0 if there is none.",
    "state",
    WAITING_STATES,
    SharedGauge,
)
# When the queue is looked at again, by the machine's monotonic clock, whichever worker is asked.
QUEUE_LOOK_AT = {state: SharedGauge() for state in WAITING_STATES}
HTTP_REQUESTS = _labelled(
    "counter",
    "relay_http_requests_total",
    "HTTP requests answered, by class of status.",
    "status",
    [f"{digit}xx" for digit in range(2, 6)],
    Counter,
)
OUTBOX_DEPTH = _named("gauge", "relay_outbox_depth", "Events that nobody was told of yet.", SharedGauge())
OUTBOX_LAG_SECONDS = _named(
    "gauge", "relay_outbox_lag_seconds", "How long the first of them has waited.", SharedGauge()
)
NOTIFICATIONS = _labelled(
    "counter",
    "relay_notifications_total",
    "Attempts to post notifications: posted, failed and to be tried again, dead.",
    "outcome",
    ("posted", "failed", "dead"),
    Counter,
)
NOTIFICATIONS_WAITING = _named(
    "gauge", "relay_notifications_waiting", "Notifications that are to be posted.", SharedGauge()
)
NOTIFICATION_LAG = _named(
    "gauge",
    "relay_notification_lag_seconds",
    "How long the oldest that is due waits for us; those of receivers that fail do not count.",
    SharedGauge(),
)
