"""How many wrong codes an address may show before it is asked to wait.  Pure but for what it remembers."""

from __future__ import annotations

from collections import OrderedDict

from relay.submission.principal import network_of

_MOST_WRONG = 10
_SECONDS = 600.0
_MOST_REMEMBERED = 10_000


class Guesses:
    """Wrong codes by IPv4 address or IPv6 /64, in one worker process; ``now`` is in seconds."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_seconds(self, address: str, now: float) -> int:
        """For how long nothing is looked up for that address; 0 if it may ask."""
        count, since = self._wrong.get(network_of(address), (0, now))
        left = since + _SECONDS - now
        return max(int(left) + 1, 0) if count >= _MOST_WRONG and left > 0 else 0

    def note_wrong(self, address: str, now: float) -> None:
        network = network_of(address)
        count, since = self._wrong.pop(network, (0, now))
        self._wrong[network] = (1, now) if now - since >= _SECONDS else (count + 1, since)
        if len(self._wrong) > _MOST_REMEMBERED:
            self._wrong.popitem(last=False)
