"""What DNS proves of a domain, and what follows for its status.  Pure.

A domain is its owner's as long as a DKIM record of it, or its ``_amazonses`` token, is found; its mail
is signed as long as the records of its signing keys are.  The statuses and the 72 hours are SES's
(Developer Guide, "Verified identities").  An answer that nobody could give is held against no name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

PENDING, SUCCESS, FAILED = "PENDING", "SUCCESS", "FAILED"
TEMPORARY_FAILURE, NOT_STARTED = "TEMPORARY_FAILURE", "NOT_STARTED"

_SECOND = 1_000_000


class Result(StrEnum):
    """What DNS says about one record."""

    FOUND = "found"
    DIFFERENT = "different"  # there are records of this name, ours is not among them
    MISSING = "missing"
    UNAVAILABLE = "unavailable"  # nobody could say


class Purpose(StrEnum):
    """What a record is looked up for."""

    IDENTITY = "identity"  # it proves the domain, or publishes a key
    MAIL_FROM = "mail_from"  # reports on its mail come to us
    ADVICE = "advice"  # receivers want it; nothing of ours depends on it


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """One DNS record: what the owner was told to publish, and what is there.

    ``found`` are the values of that name; ``reason`` says why nobody could answer.  ``key_id`` is None
    for what is no signing key.
    """

    type: str
    name: str
    expected: str
    found: tuple[str, ...]
    result: Result
    reason: str | None
    key_id: int | None
    purpose: Purpose = Purpose.IDENTITY

    def as_record(self) -> dict[str, Any]:
        record = asdict(self)
        del record["key_id"]
        return {**record, "found": list(self.found), "purpose": self.purpose.value}


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often is looked, and how long is waited, in seconds."""

    pending_seconds: int = 60
    verified_seconds: int = 3600
    give_up_seconds: int = 259_200
    confirm_seconds: int = 86_400


SES_INTERVALS = Intervals()


@dataclass(frozen=True, slots=True)
class Standing:
    """A status with since when it is awaited (``requested_at``) or failing; microseconds UTC.

    ``requested_at`` is None for what the operator vouched for: DNS takes nothing from that.
    """

    status: str
    requested_at: int | None
    failing_since: int | None = None

    @property
    def is_watched(self) -> bool:
        return self.requested_at is not None and self.status in (PENDING, SUCCESS, TEMPORARY_FAILURE)


def anyone(results: Iterable[Result]) -> Result:
    """One of several records is enough."""
    return _best(results, (Result.FOUND, Result.UNAVAILABLE))


def everyone(results: Iterable[Result]) -> Result:
    """All of several records are needed."""
    return _best(results, (Result.MISSING, Result.UNAVAILABLE))


def _best(results: Iterable[Result], order: tuple[Result, Result]) -> Result:
    found = {Result.MISSING if one is Result.DIFFERENT else one for one in results}
    rest = Result.FOUND if order[0] is Result.MISSING else Result.MISSING
    return next((one for one in order if one in found), rest if found else Result.MISSING)


def judge(standing: Standing, result: Result, now: int, intervals: Intervals) -> Standing:
    """The standing after a look at DNS."""
    if not standing.is_watched or result is Result.UNAVAILABLE:
        return standing
    if result is Result.FOUND:
        return replace(standing, status=SUCCESS, failing_since=None)
    if standing.status == SUCCESS:
        return replace(standing, status=TEMPORARY_FAILURE, failing_since=now)
    began = standing.failing_since if standing.status == TEMPORARY_FAILURE else standing.requested_at
    if began is not None and now - began >= intervals.give_up_seconds * _SECOND:
        return replace(standing, status=FAILED)
    return standing


def restarted(standing: Standing, now: int) -> Standing:
    """The wait begun anew for what had failed; anything else as it stands."""
    if standing.status not in (FAILED, NOT_STARTED):
        return standing
    return Standing(PENDING, requested_at=now)


def next_look(standings: Sequence[Standing], awaits_key: bool, now: int, intervals: Intervals) -> int | None:
    """When DNS is to be asked again; None for never."""
    waits = [
        intervals.verified_seconds if one.status == SUCCESS else intervals.pending_seconds
        for one in standings
        if one.is_watched
    ]
    waits += [intervals.pending_seconds] * awaits_key
    return now + min(waits) * _SECOND if waits else None


def token_result(expected: str, found: Sequence[str]) -> Result:
    """Whether the ownership token is among TXT records, with SES's old prefix or without."""
    values = {value.strip().removeprefix("amazonses:") for value in found}
    return _among(expected in values, found)


def key_result(expected: str, found: Sequence[str]) -> Result:
    """Whether a TXT record publishes our key: the same ``p=``, whatever else it says (RFC 6376 3.6.1)."""
    ours = _public_key(expected)
    return _among(any(_public_key(value) == ours for value in found), found)


def mx_result(hostname: str, found: Sequence[tuple[int, str]]) -> Result:
    """Whether the one mail exchanger is us, with the preference that SES wants; several fail."""
    return _among(list(found) == [(10, hostname)], [host for _, host in found])


def spf_result(_expected: str, found: Sequence[str]) -> Result:
    """Whether there is an SPF record, and only one (RFC 7208 section 4.5); whom it names is not judged."""
    return _among(sum(text.lower().split(" ", 1)[0] == "v=spf1" for text in found) == 1, found)


def _among(is_there: bool, found: Sequence[str]) -> Result:
    if is_there:
        return Result.FOUND
    return Result.DIFFERENT if found else Result.MISSING


def _public_key(record: str) -> str:
    match = re.search(r"(?:^|;)\s*p\s*=([^;]*)", record)
    return re.sub(r"\s", "", match[1]) if match else ""
