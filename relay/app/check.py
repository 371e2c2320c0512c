"""``relay check``: is everything right for serving, and if not, what mends it.

Each check looks at one thing and says ``Ok``, ``Wrong`` or ``Skipped``; one thing that is wrong is named
once: what cannot be looked at because of it is skipped and says why.  Checks run side by side and each
has its limit in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relay.app import probes
from relay.app.findings import Finding, Ok, Skipped, Wrong
from relay.app.listen import endpoints
from relay.resolver import Resolver
from relay.settings import Settings, SettingsError, load

_SECONDS = 20.0


def check(file: Path) -> list[Finding]:
    """Every finding, in the order in which an operator would mend them."""
    try:
        settings = load(file)
    except SettingsError as error:
        mend = "correct it, or remove the line"
        wrong: list[Finding] = [Wrong("settings", one, mend) for one in error.problems]
        return [*wrong, Skipped("everything else", "the settings cannot be read")]
    return [Ok("settings", str(file)), *asyncio.run(_check(settings))]


@dataclass(frozen=True, slots=True)
class _Named:
    """A check under way, and what it is about."""

    subject: str
    work: Awaitable[list[Finding]]


async def _check(settings: Settings) -> list[Finding]:
    ground = probes.on_disk(settings)
    secrets, key = probes.key_file(settings)
    store, opened = probes.store(settings, secrets)
    resolver = Resolver(settings.dns.servers, settings.dns.timeout_seconds)
    dns = await probes.dns(settings, resolver)
    try:
        named = list(_over_the_network(settings, resolver, store, isinstance(dns, Ok)))
        found = await asyncio.gather(*(_limited(one) for one in named))
        clock = probes.clock(settings, store)
        shared = [*probes.durability(store), *probes.nodes(settings, store)]
    finally:
        if store is not None:
            store.dispose()
    here = [key, opened, *shared, *ground, probes.signing(), clock, dns]
    return [*here, *(one for group in found for one in group)]


def _over_the_network(
    settings: Settings, resolver: Resolver, store: probes.Opened, has_dns: bool
) -> Iterator[_Named]:
    for endpoint in endpoints(settings):
        yield _Named(f"port {endpoint}", probes.port(settings, endpoint))
    for host, port, tls in probes.next_hops(settings):
        yield _Named(f"next hop {host}:{port}", probes.next_hop(settings, host, port, tls))
    if not settings.delivery.smarthost:
        yield _Named("next hop", _one(Skipped("next hop", "mail goes to the MX of each domain")))
    if not has_dns:
        yield _Named("names", _one(Skipped("host name, identities", "DNS does not answer")))
        return
    yield _Named("host name", probes.host_name(settings, resolver))
    if settings.bounce.domain:
        yield _Named("bounce domain", probes.bounce_domain(settings, resolver))
    for row, keys in probes.identities(store):
        yield _Named(f"identity {row.name}", probes.identity(settings, row, keys, resolver))


async def _one(finding: Finding) -> list[Finding]:
    return [finding]


async def _limited(one: _Named) -> list[Finding]:
    try:
        async with asyncio.timeout(_SECONDS):
            return await one.work
    except TimeoutError:
        return [Wrong(one.subject, f"no answer within {_SECONDS:.0f} s", "look whether the network is up")]
