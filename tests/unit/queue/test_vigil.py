"""Who is silent, by heartbeats and a steady clock alone."""

from __future__ import annotations

from collections.abc import Iterable

from relay.queue.values import Lease
from relay.queue.workers import SILENT_SECONDS, Vigil

ONE, OTHER = Lease(1, 1), Lease(2, 1)


def looks(vigil: Vigil, heartbeats: dict[Lease, int], at: Iterable[float]) -> list[list[Lease]]:
    return [vigil.look(heartbeats, moment) for moment in at]


def test_heartbeat_that_stands_still_for_too_long_is_silence():
    *before, last = looks(Vigil(), {ONE: 7}, range(100, 100 + SILENT_SECONDS + 1, 6))
    assert before == [[]] * len(before)
    assert last == [ONE]


def test_heartbeat_that_moves_is_none_wherever_it_moves_to():
    vigil = Vigil()
    for at, heartbeat in enumerate((5, 3_600_000_005, 4, 3, 9)):
        assert vigil.look({ONE: heartbeat, OTHER: 1}, at * 10) == (
            [OTHER] if at * 10 >= SILENT_SECONDS else []
        )


def test_one_who_was_silent_and_beats_again_begins_anew():
    vigil = Vigil()
    looks(vigil, {ONE: 1}, (0, 10, 20))
    assert looks(vigil, {ONE: 2}, (29, 30, 40, 50)) == [[]] * 4


def test_time_in_which_nobody_looked_is_not_held_against_anybody():
    """A store that was away, or a machine that slept."""
    vigil = Vigil()
    assert looks(vigil, {ONE: 1}, (0, 10, 10_000)) == [[]] * 3
    assert vigil.look({ONE: 2}, 10_005) == []


def test_process_that_took_the_row_is_another():
    vigil = Vigil()
    looks(vigil, {ONE: 1}, (0, 10, 20))
    assert vigil.look({Lease(1, 2): 1}, 30) == []
