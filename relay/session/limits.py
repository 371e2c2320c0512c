"""Who may connect and guess how often: connections per address and account, limits and delays for failed
logins.

An IPv6 client counts by its /64.  A failed login is answered later and later, by its network and by its user;
only failing answers wait.  A network that failed too often is refused before its password is looked at, but
for users that have logged in from there: the honest client elsewhere, or beside the guesser, comes in.

All of it counts within one worker process.  Of N workers a guesser gets N times as many tries; passwords are
made with 240 bits of chance, so that what is bounded here is load and log, not the odds.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from relay.accept.sparing import MOST_REMEMBERED, LeakyCounts

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 8.0
_MOST_WAITING = 10
# An account has at most so many times the connections that it leaves free: three quarters, if it is alone.
_ACCOUNT_SHARE = 3


class Connections:
    """Counts open connections.  ``admit`` and ``leave`` come in pairs, as do ``log_in`` and ``log_out``."""

    def __init__(self, most: int, most_per_network: int) -> None:
        self._most = most
        self._most_per_network = most_per_network
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._of_accounts: Counter[str] = Counter()
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

    def log_in(self, account_id: str) -> bool:
        """Count a connection as one of that account's, and tell whether it may stay: some are always left
        for others."""
        self._of_accounts[account_id] += 1
        return self._of_accounts[account_id] <= _ACCOUNT_SHARE * (self._most - self._total)

    def log_out(self, account_id: str) -> None:
        self._of_accounts[account_id] -= 1
        if not self._of_accounts[account_id]:
            del self._of_accounts[account_id]


class Logins:
    """Which logins are looked at, and how long the answer to a failed one waits."""

    def __init__(self, most_failures: int, within_seconds: float) -> None:
        self._most_failures = most_failures
        self._of_networks = LeakyCounts(most_failures / within_seconds)
        self._of_users = LeakyCounts(most_failures / within_seconds)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._waiting: Counter[str] = Counter()

    def is_over(self, network: str, now: float) -> bool:
        """Whether the network has failed so often that it may not guess now."""
        would_be = self._of_networks.count(network, now) + 1
        return would_be > self._most_failures or self._waiting[network] >= _MOST_WAITING

    def is_known(self, network: str, username: str) -> bool:
        """Whether that user has logged in from there before."""
        return (network, username) in self._known

    def succeeded(self, network: str, username: str) -> None:
        self._known[network, username] = None
        self._known.move_to_end((network, username))
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)

    def failed(self, network: str, username: str, now: float) -> float:
        """Count a failure; gives the seconds that its answer should wait."""
        worst = max(self._of_networks.add(network, now), self._of_users.add(username, now))
        return float(min(_FIRST_DELAY_SECONDS * 2 ** min(worst - 1, 10), _LONGEST_DELAY_SECONDS))

    @contextmanager
    def waiting(self, network: str) -> Iterator[None]:
        """An answer to that network waits meanwhile."""
        self._waiting[network] += 1
        try:
            yield
        finally:
            self._waiting[network] -= 1
            if not self._waiting[network]:
                del self._waiting[network]
