"""Where mail goes: a smart host, or the mail exchangers that DNS names for the recipient's domain.

Pure: what DNS answered, our own name and chance are arguments.  ``way_of`` picks the way of a recipient by
the operator's routes, ``exchangers`` orders the hosts of a domain (RFC 5321 section 5.1, RFC 7505), and
``addresses_of`` takes as many of a host's addresses as are worth a try.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from relay.outcome.outcome import Failure, Reply
from relay.resolver import MX, Absent, Answer, Unavailable

# RFC 5321 section 5.1: at least two addresses are tried; past these a domain is not short of chances.
_MOST_EXCHANGERS = 5
_MOST_OF_A_FAMILY = 2


class TLSMode(StrEnum):
    """How much TLS to the next hop; ``REQUIRE`` and ``VERIFY`` never fall back to plaintext."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    REQUIRE = "require"
    VERIFY = "verify"


_AT_LEAST_REQUIRED = {TLSMode.NONE: TLSMode.REQUIRE, TLSMode.OPPORTUNISTIC: TLSMode.REQUIRE}


@dataclass(frozen=True, slots=True)
class Destination:
    """A next hop.  TLS begins at once on port 465 (RFC 8314), elsewhere by STARTTLS.

    ``ca_file`` holds authorities to trust besides the system's.
    """

    host: str
    port: int
    tls: TLSMode = TLSMode.OPPORTUNISTIC
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""

    @property
    def implicit_tls(self) -> bool:
        return self.port == 465

    @property
    def may_be_plaintext(self) -> bool:
        """Opportunistic: plaintext beats no mail.  A password never goes out in it unless told so."""
        return self.tls is TLSMode.NONE or (self.tls is TLSMode.OPPORTUNISTIC and not self.user)

    def requiring_tls(self) -> Destination:
        return replace(self, tls=_AT_LEAST_REQUIRED.get(self.tls, self.tls))


@dataclass(frozen=True, slots=True)
class ByMX:
    """To whatever hosts DNS names for ``domain``."""

    domain: str
    port: int = 25
    tls: TLSMode = TLSMode.OPPORTUNISTIC
    ca_file: str = ""

    def at(self, host: str) -> Destination:
        return Destination(host, self.port, self.tls, ca_file=self.ca_file)


# What mail of one line has in common: it can go over the same connections.
Way = Destination | ByMX


@dataclass(frozen=True, slots=True)
class Route:
    """The operator's word on some mail; ``to`` None is by MX.

    ``domain`` is a recipient domain, or with a dot in front every domain below it; ``account`` the sending
    account.  What is empty matches all.
    """

    to: Destination | None
    tls: TLSMode = TLSMode.OPPORTUNISTIC
    domain: str = ""
    account: str = ""

    def matches(self, account: str, domain: str) -> bool:
        if self.account and self.account != account:
            return False
        if self.domain.startswith("."):
            return domain.endswith(self.domain)
        return not self.domain or self.domain == domain


@dataclass(frozen=True, slots=True)
class Routes:
    """All routes, the first match wins; ``default`` is for the rest.  ``port`` is that of MX hosts."""

    default: Route
    routes: tuple[Route, ...] = ()
    port: int = 25
    ca_file: str = ""

    @property
    def only(self) -> Destination | None:
        """The smart host that takes all mail, if one does."""
        return self.default.to if not self.routes else None


def way_of(routes: Routes, account: str, domain: str, require_tls: bool) -> Way:
    """How mail of ``account`` gets to ``domain``."""
    route = next((one for one in routes.routes if one.matches(account, domain)), routes.default)
    if route.to is not None:
        return route.to.requiring_tls() if require_tls else route.to
    tls = _AT_LEAST_REQUIRED.get(route.tls, route.tls) if require_tls else route.tls
    return ByMX(domain, routes.port, tls, routes.ca_file)


def exchangers(
    domain: str, answer: Answer[MX], own_name: str, chance: Callable[[], float]
) -> tuple[str, ...] | Reply | Failure:
    """The hosts to try, in order, or why there are none; hosts of one preference in an order of chance."""
    if isinstance(answer, Unavailable):
        return Failure(answer.reason)
    if isinstance(answer, Absent):
        if answer.no_such_name:
            return Reply(550, "5.1.2", f"The domain {domain} does not exist (DNS)")
        return (domain,)  # the implicit MX, RFC 5321 section 5.1
    named = [record for record in answer.records if record.host]
    if not named:
        # RFC 7505 section 4.1.  Beside other records a null MX says nothing.
        return Reply(556, "5.1.10", f"The domain {domain} takes no mail (null MX)")
    own = [record.preference for record in named if record.host == own_name]
    usable = [record for record in named if not own or record.preference < min(own)]
    if not usable:
        return Reply(554, "5.4.6", f"Mail for {domain} loops back to {own_name}: it is the best MX itself")
    keyed = sorted((record.preference, chance(), record.host) for record in usable)
    return tuple(dict.fromkeys(host for _, _, host in keyed))[:_MOST_EXCHANGERS]


def addresses_of(host: str, domain: str, answer: Answer[str]) -> tuple[str, ...] | Reply | Failure:
    """The addresses of ``host`` to try, or why there are none."""
    if isinstance(answer, Unavailable):
        return Failure(answer.reason)
    if isinstance(answer, Absent):
        if host == domain:
            return Reply(550, "5.4.4", f"The domain {domain} has neither MX nor address records")
        # The owner of the domain mends it sooner or later; till then it is no word on the mail.
        return Failure(f"{host}, an MX of {domain}, has no address")
    return _some_of_each_family(answer.records)


def _some_of_each_family(addresses: Sequence[str]) -> tuple[str, ...]:
    six = [one for one in addresses if ipaddress.ip_address(one).version == 6]
    four = [one for one in addresses if one not in six]
    return (*six[:_MOST_OF_A_FAMILY], *four[:_MOST_OF_A_FAMILY])
