"""Ids: never twice, on whatever threads; rising with time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from relay.control.ground import new_id
from relay.queue.ids import Ids
from relay.submission.identifiers import id_worker


def test_no_id_is_given_twice_whatever_the_thread() -> None:
    """10,000 are more than a millisecond holds."""
    for make in (Ids(7).next, new_id):
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _: [make() for _ in range(1_250)], range(8)))  # noqa: B023
        flat = [one for some in made for one in some]
        assert len(set(flat)) == len(flat)
        assert all(some == sorted(some) for some in made)


def test_commands_have_a_number_of_their_own() -> None:
    assert id_worker(new_id()) == 0
    assert id_worker(Ids(7).next()) == 7
