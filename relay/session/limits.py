"""Who may connect and guess how often: connections per address, delays for failed logins.

An IPv6 client counts by its /64.  A failed login is answered later and later; only the failing answers
wait, so that a guesser cannot lock out an honest client.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict

_MOST_REMEMBERED = 20_000
_FORGET_SECONDS = 900.0
_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 8.0


class Connections:
    """Counts open connections; ``admit`` and ``leave`` come in pairs."""

    def __init__(self, most: int, most_per_network: int) -> None:
        self._most = most
        self._most_per_network = most_per_network
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._total = 0

    def admit(self, network: str) -> bool:
        """Count one more, and tell whether it may stay."""
        self._counts[network] += 1
        self._total += 1
        return self._total <= self._most and self._counts[network] <= self._most_per_network

    def leave(self, network: str) -> None:
        self._total -= 1
        self._counts[network] -= 1
        if not self._counts[network]:
            del self._counts[network]


class Failures:
    """Failed logins by network and by user, forgotten after a quarter of an hour without another."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def note(self, network: str, username: str, now: float) -> float:
        """Count a failure; gives the seconds that its answer should wait."""
        worst = max(self._count(f"net {network}", now), self._count(f"user {username}", now))
        return float(min(_FIRST_DELAY_SECONDS * 2 ** min(worst - 1, 10), _LONGEST_DELAY_SECONDS))

    def _count(self, key: str, now: float) -> int:
        count, at = self._seen.pop(key, (0, now))
        count = 1 if now - at > _FORGET_SECONDS else count + 1
        self._seen[key] = (count, now)
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return count
