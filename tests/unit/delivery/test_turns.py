"""Keys take turns, however much waits under each."""

from __future__ import annotations

import pytest

from relay.delivery.turns import Turns


def turns(items: str) -> Turns[str, str]:
    """A queue of "a1 b1 a2"."""
    made: Turns[str, str] = Turns()
    for item in items.split():
        made.append(item[0], item)
    return made


def served(queue: Turns[str, str]) -> str:
    return " ".join(queue.popleft() for _ in range(len(queue)))


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ("a1 a2 a3", "a1 a2 a3"),
        ("a1 a2 a3 b1", "a1 b1 a2 a3"),
        ("a1 a2 b1 b2 c1", "a1 b1 c1 a2 b2"),
        ("a1 b1 a2 b2 a3 b3", "a1 b1 a2 b2 a3 b3"),
    ],
)
def test_keys_take_turns_and_items_keep_their_order(waiting: str, expected: str):
    assert served(turns(waiting)) == expected


def test_whoever_comes_late_waits_for_one_of_each_other():
    queue = turns(" ".join(f"a{n}" for n in range(1000)) + " b1")
    assert queue.popleft() == "a0"
    queue.append("c", "c1")
    assert [queue.popleft() for _ in range(3)] == ["b1", "a1", "c1"]


def test_what_is_put_back_is_the_first_of_its_key():
    queue = turns("a1 a2 b1")
    queue.put_back("a", queue.popleft())
    assert served(queue) == "b1 a1 a2"
    queue.put_back("a", "a3")
    assert served(queue) == "a3"


def test_counts_are_those_of_what_waits():
    queue = turns("a1 a2 b1")
    assert (len(queue), queue.keys, len(queue.of("a")), len(queue.of("c"))) == (3, 2, 2, 0)
    assert (queue.next_key, sorted(queue)) == ("a", ["a1", "a2", "b1"])
    queue.popleft()
    queue.popleft()
    assert (len(queue), queue.keys, len(queue.of("b"))) == (1, 1, 0)
    queue.clear()
    assert (len(queue), queue.keys, list(queue)) == (0, 0, [])
    with pytest.raises(IndexError):
        queue.popleft()
