"""The header as it leaves us: whole fields dropped, whole fields added, every other octet untouched.

Dropped: control fields, Bcc, Return-Path, and what pretends to be the owner's signature or our verdict.
Added: Received and X-Relay-ID on top, and at the end Message-ID, Date and Feedback-ID if missing.
Signing comes after this and changes nothing any more.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache, partial
from hashlib import blake2b

from relay.submission.headers import Field, HeaderBlock, parse_headers

# Received and X-Relay-ID; what else is added stands at the end.
_ON_TOP = 2


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What the added fields tell.

    ``message_id`` has SES's shape, ``at`` is seconds of Unix time.  ``protocol`` is the keyword of
    RFC 3848; ``tls_version`` None without TLS.  ``helo`` is the client's word and stays in the record:
    the Received field says nothing of the client, whose name or address is nobody's business.
    ``feedback_tags`` are the first two parts of Feedback-ID.
    """

    hostname: str
    helo: str
    protocol: str
    tls_version: str | None
    message_id: str
    at: int
    region: str
    feedback_tags: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The header to be signed, and what was done to the submitted one, for the record.

    ``removed_at`` are the places of the removed fields among those submitted.
    """

    headers: HeaderBlock
    added: tuple[Field, ...]
    removed: tuple[Field, ...]
    removed_at: tuple[int, ...] = ()


def rewrite(
    headers: HeaderBlock,
    facts: TraceFacts,
    *,
    signing_domain: str | None,
    replaces_identity_fields: bool = False,
) -> Rewritten:
    """The header to go out.

    ``signing_domain`` is the owner's domain whose key signs, None if mail goes unsigned: then a
    signature that the author made is the only one and stays.  ``replaces_identity_fields`` makes
    Message-ID and Date ours, as SES does.
    """
    drops = _drops(facts.hostname, signing_domain, replaces_identity_fields)
    kept: list[Field] = []
    removed_at: list[int] = []
    for place, field in enumerate(headers.fields):
        judge = drops.get(field[0])
        if field[0].startswith("x-ses-") if judge is None else judge(field):
            removed_at.append(place)
        else:
            kept.append(field)
    removed = tuple([headers.fields[place] for place in removed_at])
    top = (_received(facts), _relay_id(facts))
    missing = _missing({field[0] for field in kept}, facts, signing_domain)
    return Rewritten(HeaderBlock((*top, *kept, *missing)), (*top, *missing), removed, tuple(removed_at))


def submitted(header: bytes, rewriting: Rewriting) -> tuple[Field, ...]:
    """The fields as they were submitted, in their order, from the header as it went out."""
    top = sum(len(raw) for raw in rewriting.added[:_ON_TOP])
    missing = sum(len(raw) for raw in rewriting.added[_ON_TOP:])
    kept = header[rewriting.signature_bytes + top : len(header) - missing]
    fields = list(parse_headers(kept).fields)
    for place, raw in zip(rewriting.removed_at, rewriting.removed, strict=True):
        fields.insert(place, Field(raw.partition(b":")[0].decode("ascii").lower(), raw))
    return tuple(fields)


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What the record keeps of a rewriting: enough to undo it.  Fields are as they stood, in octets."""

    signature_bytes: int
    added: tuple[bytes, ...]
    removed: tuple[bytes, ...]
    removed_at: tuple[int, ...]


# ---------------------------------------------------------------- dropping

_Judge = Callable[[Field], bool]
_find_d_tags = re.compile(r"(?:^|;)\s*d\s*=\s*([^;]*)").findall
_drop_innermost_comments = re.compile(r"\([^()]*\)").subn
_match_authserv = re.compile(r'\s*"?([^\s;"()]+)(?=[\s;"]|\Z)').match


def _always(field: Field) -> bool:
    return True


@lru_cache(maxsize=1024)
def _drops(hostname: str, signing_domain: str | None, replaces_identity_fields: bool) -> dict[str, _Judge]:
    """For each name that may have to go, the question that decides."""
    drops: dict[str, _Judge] = {
        "bcc": _always,
        "return-path": _always,
        "authentication-results": partial(_claims_verdict, (hostname, signing_domain or hostname)),
    }
    if signing_domain is not None:
        drops["dkim-signature"] = partial(_claims_signature, signing_domain)
    if replaces_identity_fields:
        drops |= {"message-id": _always, "date": _always}
    return drops


def _claims_signature(domain: str, field: Field) -> bool:
    """Whether a DKIM-Signature names the domain or one below it, or cannot be told not to."""
    claimed = _find_d_tags(field.value)
    if len(claimed) != 1:
        return True
    return _is_within("".join(claimed[0].split()), domain)


def _claims_verdict(domains: tuple[str, ...], field: Field) -> bool:
    """Whether an Authentication-Results field is by one who bears our name or the owner's.

    RFC 8601 section 5.  What cannot be read is taken for one.
    """
    found = _match_authserv(_without_comments(field.value))
    return found is None or any(_is_within(found[1], domain) for domain in domains)


def _without_comments(text: str) -> str:
    """Comments may hold comments (RFC 5322 section 3.2.2); the innermost go first."""
    found = 1
    while found:
        text, found = _drop_innermost_comments("", text)
    return text


def _is_within(name: str, domain: str) -> bool:
    name, domain = name.lower().rstrip("."), domain.lower()
    return name == domain or name.endswith("." + domain)


# ---------------------------------------------------------------- adding

# Google's Feedback-ID wants 5 to 15 characters here, the same for all mail of one sending system.
_FEEDBACK_SENDER = "RelaySMTP"


def _received(facts: TraceFacts) -> Field:
    """RFC 5321 section 4.4, without the clauses about the client and the recipient."""
    tls = f" ({facts.tls_version})" if facts.tls_version else ""
    text = (
        f"Received: by {facts.hostname} with {facts.protocol}{tls}\r\n"
        f"\tid {facts.message_id};\r\n\t{_date(facts.at)}\r\n"
    )
    return Field("received", text.encode("ascii"))


def _relay_id(facts: TraceFacts) -> Field:
    return Field("x-relay-id", f"X-Relay-ID: {facts.message_id}\r\n".encode("ascii"))


def _missing(present: set[str], facts: TraceFacts, signing_domain: str | None) -> list[Field]:
    added = []
    if "message-id" not in present:
        text = f"Message-ID: <{facts.message_id}@{facts.hostname}>\r\n"
        added.append(Field("message-id", text.encode("ascii")))
    if "date" not in present:
        added.append(Field("date", f"Date: {_date(facts.at)}\r\n".encode("ascii")))
    if "feedback-id" not in present:
        added.append(_feedback_id(facts, signing_domain or facts.hostname))
    return added


def _feedback_id(facts: TraceFacts, domain: str) -> Field:
    """SES's form: two tags, then region and what stands for the sender, then the system's name."""
    first, second = facts.feedback_tags
    text = f"Feedback-ID: {first}:{second}:1.{facts.region}.{_pseudonym(domain)}:{_FEEDBACK_SENDER}\r\n"
    return Field("feedback-id", text.encode("ascii"))


@lru_cache(maxsize=1024)
def _pseudonym(domain: str) -> str:
    return base64.b64encode(blake2b(domain.encode("ascii"), digest_size=18).digest()).decode("ascii")


@lru_cache(maxsize=8)
def _date(at: int) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC))


# ---------------------------------------------------------------- loops

# Between the 50 and 100 that mailers use; RFC 5321 section 6.3 asks for at least 100 where only counted,
# but here our own name is recognised as well.
MOST_RECEIVED = 100


def is_loop(headers: HeaderBlock, hostname: str, limit: int = MOST_RECEIVED) -> bool:
    """Whether the message has been here before, or has passed ``limit`` hosts or more."""
    received = headers.all("received")
    if len(received) >= limit:
        return True
    if not received:
        return False
    by_us = _by_clause(hostname.lower())
    return any(by_us(_without_comments(field.value)) for field in received)


@lru_cache(maxsize=16)
def _by_clause(hostname: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(rf"(?:^|\s)by\s+{re.escape(hostname)}\.?(?=[\s;(]|\Z)", re.IGNORECASE | re.ASCII).search
