"""Who guesses codes waits; nobody else does."""

from __future__ import annotations

import pytest

from relay.console import guesses
from relay.console.guesses import Guesses


def wrong(of: Guesses, address: str, count: int, now: float = 0.0) -> None:
    for _ in range(count):
        of.note_wrong(address, now)


def test_ten_wrong_codes_make_an_address_wait_until_ten_minutes_are_over():
    one = Guesses()
    wrong(one, "192.0.2.1", 9)
    assert one.wait_seconds("192.0.2.1", 5) == 0
    wrong(one, "192.0.2.1", 1)
    assert one.wait_seconds("192.0.2.1", 5) == 596
    assert one.wait_seconds("192.0.2.1", 600) == 0
    wrong(one, "192.0.2.1", 1, now=601)
    assert one.wait_seconds("192.0.2.1", 602) == 0


@pytest.mark.parametrize(
    ("other", "waits"),
    [("192.0.2.2", False), ("2001:db8:0:1::9", True), ("2001:db8:0:2::9", False)],
    ids=["IPv4 neighbour", "same /64", "other /64"],
)
def test_only_the_network_that_guesses_waits(other, waits):
    one = Guesses()
    wrong(one, "192.0.2.1", 10)
    wrong(one, "2001:db8:0:1::1", 10)
    assert (one.wait_seconds(other, 1) > 0) is waits


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(guesses, "_MOST_REMEMBERED", 3)
    one = Guesses()
    for last in range(5):
        wrong(one, f"192.0.2.{last}", 10)
    assert [one.wait_seconds(f"192.0.2.{last}", 1) > 0 for last in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
