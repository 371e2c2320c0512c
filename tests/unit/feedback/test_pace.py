"""Mail first: the telling rests while mail flows, less once it is far behind, and never on an idle worker."""

from __future__ import annotations

import pytest

from relay.feedback.pace import BUSY_PER_SECOND, LAG_LIMIT_SECONDS, Pace


class Worker:
    """A clock and a count of what was accepted and attempted."""

    def __init__(self) -> None:
        self.now, self.done = 100.0, 7
        self.pace = Pace(lambda: self.done, lambda: self.now)

    def works(self, seconds: float, per_second: float) -> None:
        self.now += seconds
        self.done += int(seconds * per_second)


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_idle_worker_tells_without_rest(worker: Worker) -> None:
    worker.works(10, BUSY_PER_SECOND / 2)
    assert worker.pace.rest_seconds(0.05, 0.0) == 0.0


def test_while_mail_flows_the_telling_takes_a_small_share(worker: Worker) -> None:
    worker.works(10, BUSY_PER_SECOND * 5)
    rest = worker.pace.rest_seconds(0.05, 0.0)
    assert 0.05 / (0.05 + rest) == pytest.approx(0.02)


def test_past_the_limit_it_takes_half(worker: Worker) -> None:
    worker.works(10, BUSY_PER_SECOND * 5)
    assert worker.pace.rest_seconds(0.05, LAG_LIMIT_SECONDS + 1) == pytest.approx(0.05)


def test_when_the_mail_stops_so_does_the_resting(worker: Worker) -> None:
    worker.works(10, BUSY_PER_SECOND * 5)
    assert worker.pace.rest_seconds(0.05, 0.0) > 0
    worker.works(1, 0)
    assert worker.pace.rest_seconds(0.05, 0.0) == 0.0


def test_a_moment_does_not_change_what_is_known(worker: Worker) -> None:
    worker.works(10, BUSY_PER_SECOND * 5)
    assert worker.pace.rest_seconds(0.05, 0.0) > 0
    worker.works(0.1, 0)
    assert worker.pace.rest_seconds(0.05, 0.0) > 0
