"""What is in a worker's hands, beside what the store says is: recipients by message id and number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from relay.queue.values import Consignment

Key = tuple[int, int]


class Holdings:
    """Recipients are taken and let go in pairs, each as often as it came to us.

    One may come again before it was let go: its outcome was recorded, and we did not hear of it.
    """

    def __init__(self) -> None:
        self._held: Counter[Key] = Counter()
        self._missed: dict[Key, int] = {}  # at the last look, each with how often it was tried

    def take(self, keys: Iterable[Key]) -> None:
        self._held.update(keys)

    def let_go(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if self._held[key] > 1:
                self._held[key] -= 1
            else:
                self._held.pop(key, None)

    def strays(self, leased: Mapping[Key, int]) -> list[Key]:
        """Which of those that the store says are ours never came to us; each with how often it was tried.

        What is on its way from a commit to us is no stray yet: one is missed at two looks, and was not tried
        in between, or it would be another claim that is on its way.
        """
        missed = {key: attempts for key, attempts in leased.items() if key not in self._held}
        strays = dict(missed.items() & self._missed.items())
        self._missed = dict(missed.items() - strays.items())
        return list(strays)


def keys_of(consignment: Consignment) -> Iterator[Key]:
    """What a consignment puts into our hands."""
    return ((consignment.message.id, one.number) for one in consignment.recipients)
