"""Identities: their ARNs, which addresses each covers, and which of them a decision must ask.

An identity is an address or a domain, in one account and one region.  A domain covers its addresses
and subdomains; an address covers itself and its ``+label`` forms (SES Developer Guide, creating
identities).  Of several that cover an address the most specific verified one applies, wholly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from relay.authorization.policy import Policy
from relay.submission.address import Mailbox

_IDENTITY_ARN = re.compile(r"arn:(aws(?:-[a-z-]+)?):ses:([a-z0-9-]+):([0-9]{12}):identity/([!-~]{1,320})")


class IdentityArn(NamedTuple):
    """The parts of ``arn:aws:ses:REGION:ACCOUNT:identity/NAME``; ``name`` as written."""

    partition: str
    region: str
    account_id: str
    name: str

    def __str__(self) -> str:
        return f"arn:{self.partition}:ses:{self.region}:{self.account_id}:identity/{self.name}"


@lru_cache(maxsize=4096)
def parse_identity_arn(text: str) -> IdentityArn | None:
    """The ARN's parts, or None if it is not an identity's ARN to the letter."""
    match = _IDENTITY_ARN.fullmatch(text)
    return IdentityArn(*match.groups()) if match else None


def identity_arn(region: str, account_id: str, name: str) -> str:
    return f"arn:aws:ses:{region}:{account_id}:identity/{name}"


@dataclass(frozen=True, slots=True)
class MailFrom:
    """A custom MAIL FROM domain.  While its MX is not ours, mail is refused or leaves without it."""

    domain: str
    verified: bool
    rejects: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity as the decision sees it.

    ``dkim_verified`` tells that its key was seen in DNS or vouched for.  ``events`` are the types that it has
    a topic for, by the names of ``eventType``.  Keys are not here: they belong to signing.
    """

    id: int
    arn: str
    account_id: str
    name: str
    verified: bool
    policies: tuple[Policy, ...] = ()
    dkim_enabled: bool = True
    dkim_verified: bool = False
    has_keys: bool = False
    configuration_set: str | None = None
    mail_from: MailFrom | None = None
    events: frozenset[str] = frozenset()

    @property
    def is_domain(self) -> bool:
        return "@" not in self.name


def covers(name: str, address: Mailbox) -> bool:
    """Whether the identity called ``name`` covers the address: R1."""
    if "@" in name:
        return name in _address_names(address)
    return address.domain == name or address.domain.endswith("." + name)


@lru_cache(maxsize=4096)
def covering_names(address: Mailbox) -> tuple[str, ...]:
    """The names of every identity that would cover the address, the most specific first."""
    return (*_address_names(address), *covering_domains(address.domain))


def covering_domains(domain: str) -> tuple[str, ...]:
    """The domain and those above it, but for the top-level one, which nobody can verify."""
    labels = domain.split(".")
    return tuple(".".join(labels[start:]) for start in range(max(len(labels) - 1, 1)))


def _address_names(address: Mailbox) -> tuple[str, ...]:
    base, plus, _ = address.local.partition("+")
    if plus and base:
        return (str(address), f"{base}@{address.domain}")
    return (str(address),)


class Identities:
    """The identities that one decision may ask, by account and case-folded name."""

    def __init__(self, found: Mapping[tuple[str, str], Sequence[Identity]]) -> None:
        self._found = found

    def covering(self, account_id: str, address: Mailbox) -> list[Identity]:
        """Those of the account that cover the address, verified or not, the most specific first."""
        return [
            identity
            for name in covering_names(address)
            for identity in self._found.get((account_id, name.lower()), ())
            if identity.name == name
        ]

    def named(self, arn: IdentityArn) -> Identity | None:
        """The identity that the ARN names, exactly as written."""
        candidates = self._found.get((arn.account_id, arn.name.lower()), ())
        return next((identity for identity in candidates if identity.name == arn.name), None)

    def all(self) -> Iterator[Identity]:
        """Each of them, whatever it covers."""
        return chain.from_iterable(self._found.values())

    def replaced(self, by: Identity) -> Mapping[tuple[str, str], Sequence[Identity]]:
        """What was found, with ``by`` in the place of the identity that has its ARN."""
        return {
            key: [by if identity.arn == by.arn else identity for identity in group]
            for key, group in self._found.items()
        }

    def has_other_case(self, account_id: str, address: Mailbox) -> bool:
        """Whether an address identity equals the address but for letter case; SES refuses those."""
        for name in _address_names(address):
            found = self._found.get((account_id, name.lower()), ())
            if found and all(identity.name != name for identity in found):
                return True
        return False


def most_specific_verified(identities: Sequence[Identity]) -> Identity | None:
    return next((identity for identity in identities if identity.verified), None)
