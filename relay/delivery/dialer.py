"""From a way to an open connection: ask DNS, then try one host and address after another.

DNS is asked when a connection is opened, never for a message, and the resolver caches what it said.  What
failed a moment ago is tried last, so that a first MX that is down costs its time limit only now and then.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

from relay.delivery.mta_sts import Policy
from relay.delivery.policies import Policies, broken, unmatched
from relay.delivery.route import ByMX, Destination, TLSMode, Way, addresses_of, exchangers
from relay.delivery.transport import Connection, NoConnection, TimeLimits, dial, dial_address
from relay.outcome.outcome import Failure, Phase, Reply
from relay.resolver import DNS

_FAILED_SECONDS = 60.0
_MOST_FAILED = 10_000


@dataclass(frozen=True, slots=True)
class _Target:
    """One address of one host."""

    destination: Destination
    address: str


@dataclass(frozen=True, slots=True)
class Dialer:
    """Opens connections for one worker process.  ``chance`` gives numbers in [0, 1)."""

    dns: DNS
    hostname: str
    limits: TimeLimits
    chance: Callable[[], float]
    policies: Policies | None = None  # None: MTA-STS is off
    _failed: dict[_Target, float] = field(default_factory=dict)

    async def open(self, way: Way) -> Connection:
        """A session with the first next hop that answers; NoConnection if none does."""
        if isinstance(way, Destination):
            return await dial(way, self.hostname, self.limits)
        hosts = exchangers(way.domain, await self.dns.mx(way.domain), self.hostname.lower(), self.chance)
        if not isinstance(hosts, tuple):
            raise NoConnection(hosts, Phase.ROUTE, way.domain)
        # An operator who routes a domain without TLS has settled it.
        policy = await self.policies.of(way.domain) if self.policies and way.tls is not TLSMode.NONE else None
        if policy is not None and policy.is_enforced:
            return await self._by_policy(way, hosts, policy)
        return await self._first_of(way, hosts)

    async def _by_policy(self, way: ByMX, hosts: tuple[str, ...], policy: Policy) -> Connection:
        """To the hosts that the domain's MTA-STS policy names, over TLS that proves their names."""
        named = tuple(host for host in hosts if policy.names(host))
        if not named:
            raise NoConnection(unmatched(way.domain), Phase.TLS, way.domain)
        try:
            return await self._first_of(replace(way, tls=TLSMode.VERIFY), named)
        except NoConnection as error:
            if error.phase is not Phase.TLS:
                raise
            raise NoConnection(broken(way.domain, error.answer), Phase.TLS, error.host) from error

    async def _first_of(self, way: ByMX, hosts: tuple[str, ...]) -> Connection:
        failure: NoConnection | None = None
        postponed: list[_Target] = []
        async for found in self._targets(way, hosts):
            if isinstance(found, NoConnection):
                failure = failure or found
            elif self._failed_lately(found):
                postponed.append(found)
            else:
                try:
                    return await self._dial(found)
                except NoConnection as error:
                    failure = error
        for target in postponed:
            try:
                return await self._dial(target)
            except NoConnection as error:
                failure = error
        assert failure is not None
        raise failure

    async def _targets(self, way: ByMX, hosts: tuple[str, ...]) -> AsyncIterator[_Target | NoConnection]:
        """Every address of every host in order, and what is wrong with hosts that have none."""
        for host in hosts:
            addresses = addresses_of(host, way.domain, await self.dns.addresses(host))
            if isinstance(addresses, Reply | Failure):
                yield NoConnection(addresses, Phase.ROUTE, host)
                continue
            for address in addresses:
                yield _Target(way.at(host), address)

    def _failed_lately(self, target: _Target) -> bool:
        return time.monotonic() < self._failed.get(target, 0.0)

    async def _dial(self, target: _Target) -> Connection:
        try:
            opened = await dial_address(target.destination, target.address, self.hostname, self.limits)
        except NoConnection:
            if len(self._failed) >= _MOST_FAILED:
                self._failed.clear()
            self._failed[target] = time.monotonic() + _FAILED_SECONDS
            raise
        self._failed.pop(target, None)
        return opened
