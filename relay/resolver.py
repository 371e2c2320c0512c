"""DNS as answers: found, absent, or unavailable for now.

The three must never be mixed up: what is absent may be held against a name, what is unavailable is asked
again later.  One ``Resolver`` serves a process: answers are cached for their time to live, and equal
questions that are under way are asked once.  The library stays in this module.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver
import dns.reversename

Record = TypeVar("Record")

_CACHED_ANSWERS = 50_000


@dataclass(frozen=True, slots=True)
class Found(Generic[Record]):
    """What was asked for, at least one record."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """DNS says that there is none: ``no_such_name`` if not even the name exists."""

    no_such_name: bool = False


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nobody could say: a timeout, SERVFAIL, a refusal, or nonsense."""

    reason: str


Answer = Found[Record] | Absent | Unavailable


@dataclass(frozen=True, slots=True, order=True)
class MX:
    """A mail exchanger; ``host`` is in lower case without the last dot, empty for the null MX (RFC 7505)."""

    preference: int
    host: str


class DNS(Protocol):
    """What others need of DNS; tests give answers from a zone."""

    async def mx(self, domain: str) -> Answer[MX]: ...

    async def addresses(self, host: str) -> Answer[str]: ...

    async def txt(self, name: str) -> Answer[str]: ...

    async def names(self, address: str) -> Answer[str]: ...


class Resolver:
    """Asks the machine's name servers, or ``servers`` (``address`` or ``address:port``)."""

    def __init__(self, servers: Sequence[str] = (), timeout_seconds: float = 5.0) -> None:
        self._resolver = _configured() if not servers else dns.asyncresolver.Resolver(configure=False)
        self._resolver.cache = dns.resolver.LRUCache(_CACHED_ANSWERS)
        self._resolver.lifetime = timeout_seconds
        self._resolver.search = []
        self._resolver.ndots = 0
        if servers:
            self._resolver.nameservers = [_nameserver(server) for server in servers]
        self._asking: dict[tuple[str, str], asyncio.Task[Answer[Any]]] = {}

    async def mx(self, domain: str) -> Answer[MX]:
        """The mail exchangers, as DNS gives them."""
        return await self._ask(domain, "MX", lambda data: MX(data.preference, _text(data.exchange)))

    async def addresses(self, host: str) -> Answer[str]:
        """IPv6 and IPv4 addresses, IPv6 first."""
        six, four = await asyncio.gather(
            self._ask(host, "AAAA", lambda data: str(data.address)),
            self._ask(host, "A", lambda data: str(data.address)),
        )
        records = [one for answer in (six, four) if isinstance(answer, Found) for one in answer.records]
        if records:
            return Found(tuple(records))
        return six if isinstance(six, Unavailable) else four

    async def txt(self, name: str) -> Answer[str]:
        """TXT records, the strings of each joined (RFC 7208 section 3.3); octets as Latin-1."""
        return await self._ask(name, "TXT", lambda data: b"".join(data.strings).decode("latin-1"))

    async def names(self, address: str) -> Answer[str]:
        """The names of an IP address (PTR)."""
        name = dns.reversename.from_address(address).to_text(omit_final_dot=True)
        return await self._ask(name, "PTR", lambda data: _text(data.target))

    async def _ask(self, name: str, kind: str, read: Callable[[Any], Any]) -> Answer[Any]:
        key = name.lower(), kind
        task = self._asking.get(key)
        if task is None:
            task = asyncio.ensure_future(self._query(name, kind, read))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _query(self, name: str, kind: str, read: Callable[[Any], Any]) -> Answer[Any]:
        try:
            found = await self._resolver.resolve(dns.name.from_text(name), kind)
            return Found(tuple([read(data) for data in found]))
        except dns.resolver.NXDOMAIN:
            return Absent(no_such_name=True)
        except dns.resolver.NoAnswer:
            return Absent()
        except (dns.exception.DNSException, OSError, ValueError, UnicodeError) as error:
            return Unavailable(_reason(name, kind, error))


def _configured() -> dns.asyncresolver.Resolver:
    try:
        return dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        # As resolv.conf(5) has it: without the file, the name server on the local machine.
        local = dns.asyncresolver.Resolver(configure=False)
        local.nameservers = [_nameserver("127.0.0.1")]
        return local


def _nameserver(server: str) -> Any:
    address, _, port = server.rpartition(":")
    try:
        ipaddress.ip_address(server)
    except ValueError:
        return dns.nameserver.Do53Nameserver(address.strip("[]"), int(port))
    return dns.nameserver.Do53Nameserver(server, 53)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower().removesuffix(".")


def _reason(name: str, kind: str, error: BaseException) -> str:
    if isinstance(error, dns.resolver.LifetimeTimeout):
        return f"no answer for {kind} of {name} in time"
    if isinstance(error, dns.resolver.NoNameservers):
        return f"no name server answers for {kind} of {name}"
    return f"{kind} of {name}: {type(error).__name__}"
