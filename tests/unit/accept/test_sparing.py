from __future__ import annotations

import pytest

from relay.accept.sparing import LeakyCounts, Sparing


class TestLeakyCounts:
    def test_count_leaks_and_never_falls_below_nothing(self):
        counts = LeakyCounts(0.1)
        counts.add("a", 0)
        assert counts.add("a", 5) == pytest.approx(1.5)
        assert counts.count("a", 10) == pytest.approx(1)
        assert counts.count("a", 1000) == 0
        assert counts.count("b", 1000) == 0

    def test_keys_are_bounded_and_the_one_that_grows_stays(self):
        counts = LeakyCounts(0.001)
        for number in range(30_000):
            counts.add(f"user {number}", 0)
            counts.add("guesser", 0)
        assert len(counts._seen) == 20_000
        assert counts.count("guesser", 0) == 30_000


def test_lines_that_strangers_cause_are_bounded_and_what_is_left_out_is_counted(monkeypatch):
    now = 0.0
    monkeypatch.setattr("relay.accept.sparing.time.monotonic", lambda: now)
    written: list[tuple[str, dict[str, object]]] = []
    sparing = Sparing(lambda event, *, level="info", **fields: written.append((event, fields)))
    for _ in range(1000):
        sparing("login failed", client="192.0.2.1")
    assert len(written) == 100
    assert all(fields == {"client": "192.0.2.1"} for _, fields in written)
    now = 1.0
    for _ in range(10):
        sparing("login failed", client="192.0.2.1")
    assert len(written) == 102
    assert written[100][1]["left_out"] == 900
    assert "left_out" not in written[101][1]
