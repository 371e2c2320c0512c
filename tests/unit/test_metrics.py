"""Numbers of several processes in one memory; processes are played by taking one row after another."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay import metrics
from relay.submission.answer import Reason


@pytest.fixture(autouse=True)
def own_row() -> Iterator[None]:
    yield
    metrics.take_row(0)


def shown(name: str, **labels: str) -> float:
    """The sample as whoever scrapes reads it."""
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise AssertionError(f"no {name}{labels}")


def test_counts_of_all_rows_are_summed():
    before = shown("relay_accepted_total")
    for row, count in ((1, 3), (2, 4)):
        metrics.take_row(row)
        metrics.ACCEPTED.inc(count)
    metrics.take_row(0)
    assert shown("relay_accepted_total") == before + 7 == metrics.ACCEPTED.value


def test_next_in_a_row_counts_on_where_the_dead_one_ended():
    before = shown("relay_delivered_total")
    for _ in range(2):
        metrics.take_row(5)
        metrics.DELIVERED.inc()
        metrics.process_ended(5)
    assert shown("relay_delivered_total") == before + 2


def test_what_a_process_had_open_ends_with_it():
    for row in (3, 4):
        metrics.take_row(row)
        metrics.CONNECTIONS.inc()
        metrics.CONNECTIONS.inc()
        metrics.WORKER_MEMORY.set(row * 1000)
    metrics.CONNECTIONS.dec()
    assert shown("relay_connections") == 3
    assert shown("relay_worker_memory_bytes", worker="3") == 3000
    metrics.process_ended(3)
    assert shown("relay_connections") == 1
    with pytest.raises(AssertionError):
        shown("relay_worker_memory_bytes", worker="3")
    metrics.process_ended(4)


def test_shared_figure_is_the_last_one_whoever_looked():
    for row, value in ((1, 5.0), (2, 6.0)):
        metrics.take_row(row)
        metrics.QUEUE_RECIPIENTS.labels("held").set(value)
    assert shown("relay_queue_recipients", state="held") == 6
    metrics.QUEUE_RECIPIENTS.labels("held").set(math.nan)
    assert math.isnan(shown("relay_queue_recipients", state="held"))
    metrics.QUEUE_RECIPIENTS.labels("held").set(0)


def test_histogram_counts_up_to_and_with_each_bound():
    at = ("relay_accept_seconds_bucket", "relay_accept_seconds_count", "relay_accept_seconds_sum")

    def state() -> list[float]:
        bounds = ("0.001", "0.005", "10.0", "+Inf")
        return [*(shown(at[0], le=bound) for bound in bounds), shown(at[1]), shown(at[2])]

    before = state()
    for row, seconds in ((1, 0.001), (1, 0.0011), (2, 10.0), (2, 11.0)):
        metrics.take_row(row)
        metrics.ACCEPT_SECONDS.observe(seconds)
    grown = [after - was for was, after in zip(before, state(), strict=True)]
    assert grown[:5] == [1, 2, 3, 4, 4]
    assert grown[5] == pytest.approx(21.0021)


def test_every_reason_is_there_before_the_first_refusal():
    for reason in Reason:
        assert shown("relay_refused_total", reason=reason.value) >= 0
    with pytest.raises(KeyError):
        metrics.REFUSED.labels("ann@person.example")


def test_help_and_type_stand_before_each_name():
    families = {one.name: one for one in text_string_to_metric_families(metrics.exposition().decode())}
    assert all(one.documentation.endswith(".") for one in families.values())
    assert families["relay_accepted"].type == "counter"
    assert families["relay_queue_oldest_seconds"].type == "gauge"
    assert families["relay_attempt_seconds"].type == "histogram"
