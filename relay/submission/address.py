"""Mailboxes and domains: the one strict reading of an address that everything else compares.

A mailbox is plain ``local@domain``.  Quoted local parts, comments, routes, address literals and non-ASCII
local parts are refused, never repaired: what two readers could take differently must not be decided on
here and delivered there.  The usual address is recognised by one regular expression; only what fails it
is looked at again, to say why.

The texts of the reasons are those in which SES answers, where it has one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import idna

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# RFC 5321 section 2.3.5.  A last label of digits alone reads as an IPv4 address to some.
_DOMAIN = rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}"
_is_plain_domain = re.compile(_DOMAIN).fullmatch
_match_plain_mailbox = re.compile(rf"({_ATEXT}++(?:\.{_ATEXT}++)*)@({_DOMAIN})").fullmatch
# The group of the pattern above is not possessive: Python 3.11.2, Debian's, then takes "a." for a local part.
_find_control = re.compile(r"[\x00-\x20\x7f]").search
_find_outside_atext = re.compile(rf"(?!{_ATEXT})[^.]").search
_find_outside_ldh = re.compile(r"[^A-Za-z0-9.-]").search

# RFC 5321 section 4.5.3.1; a path of 256 octets leaves 254 without its brackets.
_LONGEST_LOCAL = 64
_LONGEST_DOMAIN = 253
_LONGEST_LABEL = 63
_LONGEST_MAILBOX = 254


class AddressError(ValueError):
    """The text is no plain address.  ``reason`` is a sentence for whoever wrote it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Mailbox(NamedTuple):
    """An address: the local part as written, the domain in lower-case A-labels.

    Equality is therefore that of the mail system: domains without case, local parts with.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


def parse_mailbox(text: str) -> Mailbox:
    """The mailbox that ``text`` is, to the letter; AddressError if it is anything more or else."""
    plain = _match_plain_mailbox(text)
    if plain is not None and len(text) <= _LONGEST_MAILBOX:
        local, domain = plain.groups()
        if len(local) <= _LONGEST_LOCAL and len(domain) <= _LONGEST_DOMAIN:
            return Mailbox(local, domain.lower())
    return _parse_unusual(text)


def parse_domain(text: str) -> str:
    """The domain in lower-case A-labels; AddressError if it is none."""
    if len(text) <= _LONGEST_DOMAIN and _is_plain_domain(text):
        return text.lower()
    if text and not text.isascii():
        return _to_a_labels(text)
    raise AddressError(_fault_of_domain(text))


def _parse_unusual(text: str) -> Mailbox:
    """A mailbox in a domain of U-labels, or the reason why it is none."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError((text and _fault_of_local(text)) or "Missing final '@domain'")
    fault = _fault_of_local(local)
    if fault is not None:
        raise AddressError(fault)
    mailbox = Mailbox(local, parse_domain(domain))
    if len(str(mailbox)) > _LONGEST_MAILBOX:
        raise AddressError(f"Address is longer than {_LONGEST_MAILBOX} octets")
    return mailbox


def _fault_of_local(local: str) -> str | None:
    if not local:
        return "Missing local name"
    if _find_control(local):
        return "Local address contains control or whitespace"
    if not local.isascii():
        return "Local address contains non-ASCII characters"
    if local.startswith('"'):
        return "Quoted local address is not supported"
    if _find_outside_atext(local):
        return "Local address contains illegal character"
    if len(local) > _LONGEST_LOCAL:
        return f"Local address is longer than {_LONGEST_LOCAL} octets"
    return _fault_of_dots("Local address", local)


def _fault_of_domain(domain: str) -> str:
    if not domain:
        return "Missing domain"
    if domain.startswith("["):
        return "Domain literal is not supported"
    if _find_control(domain):
        return "Domain contains control or whitespace"
    if _find_outside_ldh(domain):
        return "Domain contains illegal character"
    if len(domain) > _LONGEST_DOMAIN:
        return f"Domain is longer than {_LONGEST_DOMAIN} octets"
    return _fault_of_dots("Domain", domain) or _fault_of_labels(domain)


def _fault_of_labels(domain: str) -> str:
    labels = domain.split(".")
    if any(len(label) > _LONGEST_LABEL for label in labels):
        return f"Domain label is longer than {_LONGEST_LABEL} octets"
    if any(label.startswith("-") or label.endswith("-") for label in labels):
        return "Domain label starts or ends with hyphen"
    return "Domain ends in a number"


def _fault_of_dots(part: str, text: str) -> str | None:
    if text.startswith("."):
        return f"{part} starts with dot"
    if text.endswith("."):
        return f"{part} ends with dot"
    return f"{part} contains dot-dot" if ".." in text else None


@lru_cache(maxsize=1024)
def _to_a_labels(domain: str) -> str:
    """RFC 5891 section 4, without the mappings that would turn one written name into another."""
    if len(domain) > _LONGEST_DOMAIN:
        raise AddressError(f"Domain is longer than {_LONGEST_DOMAIN} octets")
    try:
        # Only ASCII letters lose their case: str.lower would make a "k" of the Kelvin sign.
        lowered = domain.encode("utf-8").lower().decode("utf-8")
        encoded = idna.encode(lowered, strict=True).decode("ascii")
    except ValueError as error:  # idna's own errors, and lone surrogates
        raise AddressError("Domain is not a valid internationalized name") from error
    if not _is_plain_domain(encoded) or len(encoded) > _LONGEST_DOMAIN:
        raise AddressError("Domain is not a valid internationalized name")
    return encoded
