"""Who is logged in: the principal that a submission is judged as."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class PrincipalKind(StrEnum):
    """What stands behind a credential; the values are those of ``aws:PrincipalType`` where it has one."""

    USER = "User"
    SERVICE = "Service"


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a credential.

    ``account_id`` is the account that carries quota, usage and reputation: the user's account, or the
    one a service credential was made in.  ``arn`` is the IAM user's ARN, or the service name
    (``cognito-idp.amazonaws.com``) for a service, whose ``source_arn`` is the resource it acts for.
    ``unique_id`` is immutable and never used again: a user deleted and made anew is another principal.
    """

    kind: PrincipalKind
    account_id: str
    arn: str
    unique_id: str
    access_key_id: str
    user_name: str | None = None
    source_arn: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(text: str) -> Network:
    """A network in CIDR form, or one address; ValueError says what is wrong with it."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network such as 192.0.2.0/24 or 2001:db8::/32") from None
    raise ValueError(f"{text!r} is an address within a network; the network is {meant}")


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Whether a client's address lies in one of the networks; IPv4 within IPv6 counts as IPv4."""
    parsed = ipaddress.ip_address(address)
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def network_of(address: str) -> str:
    """The unit that clients are counted by: an IPv4 address, or the /64 of an IPv6 address."""
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
