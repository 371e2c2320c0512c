"""Turns: what waits, in a queue of each key's own, one of each key after another.

Whoever comes with little waits for one of each of the others, however much they have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Generic, TypeVar

from relay.queue.values import QueuedMessage

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")

# Whose mail takes turns: an account's, what comes from the client apart from what comes back from the store,
# so that neither an old backlog nor new mail stops the other (as Postfix's incoming and deferred queues).
Flow = tuple[str, bool]


def flow_of(message: QueuedMessage) -> Flow:
    """The account, and whether the message comes from the store: then its body is still there."""
    return message.account_id, message.body is None


class Turns(Generic[Key, Item]):
    """A queue that serves its keys in turn, and the items of a key in their order."""

    def __init__(self) -> None:
        self._of: dict[Key, deque[Item]] = {}
        self._order: deque[Key] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(self._of.values())

    @property
    def keys(self) -> int:
        """How many keys have something waiting."""
        return len(self._order)

    @property
    def next_key(self) -> Key:
        """Whose turn it is; IndexError if nothing waits."""
        return self._order[0]

    def of(self, key: Key) -> deque[Item] | tuple[()]:
        """What waits under a key."""
        return self._of.get(key, ())

    def append(self, key: Key, item: Item) -> None:
        self._queue(key).append(item)
        self._count += 1

    def put_back(self, key: Key, item: Item) -> None:
        """The first of its key again."""
        self._queue(key).appendleft(item)
        self._count += 1

    def _queue(self, key: Key) -> deque[Item]:
        queue = self._of.get(key)
        if queue is None:
            queue = self._of[key] = deque()
            self._order.append(key)
        return queue

    def popleft(self) -> Item:
        """The next, IndexError if there is none; then it is the next key's turn."""
        key = self._order[0]
        queue = self._of[key]
        item = queue.popleft()
        if queue:
            self._order.rotate(-1)
        else:
            self._order.popleft()
            del self._of[key]
        self._count -= 1
        return item

    def clear(self) -> None:
        self._of.clear()
        self._order.clear()
        self._count = 0
