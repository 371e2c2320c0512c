"""The account's suppression list, in the words of SES v2."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from relay.api import models
from relay.api.pages import opened, page_size, sealed
from relay.api.targets import nothing
from relay.api.values import APIError, Caller, Operations, in_thread, refuse_members
from relay.control import accounts, suppression
from relay.control.suppression import Entry
from relay.submission.identifiers import ses_message_id

_DEFAULT_PAGE = 1000
_SECOND = 1_000_000


def _instant(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / _SECOND, UTC)


def _summary(entry: Entry) -> dict[str, Any]:
    return {
        "EmailAddress": entry.address,
        "Reason": entry.reason,
        "LastUpdateTime": _instant(entry.at),
    }


def put(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    refuse_members(given, ["TenantName"])
    suppression.add(caller.ground, caller.account_id, given["EmailAddress"], given["Reason"])
    return {}


def get(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    refuse_members(given, ["TenantName"])
    entry = suppression.find(caller.ground, caller.account_id, given["EmailAddress"])
    if entry is None:
        raise _not_listed(given["EmailAddress"])
    message_id = None if entry.message_id is None else ses_message_id(entry.message_id)
    attributes = {"MessageId": message_id, "FeedbackId": entry.feedback_id}
    return {"SuppressedDestination": {**_summary(entry), "Attributes": attributes}}


def delete(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    refuse_members(given, ["TenantName"])
    if suppression.find(caller.ground, caller.account_id, given["EmailAddress"]) is None:
        raise _not_listed(given["EmailAddress"])
    suppression.remove(caller.ground, caller.account_id, given["EmailAddress"])
    return {}


def _not_listed(address: str) -> APIError:
    return APIError("NotFoundException", f"Email address {address} does not exist on your suppression list.")


def list_(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """In the order of the addresses; the token says after which one to go on."""
    refuse_members(given, ["TenantName"])
    size = page_size(given, "PageSize", _DEFAULT_PAGE)
    token = given.get("NextToken")
    reasons = given.get("Reasons", ())
    found = suppression.entries(
        caller.ground,
        caller.account_id,
        reasons[0] if len(set(reasons)) == 1 else None,
        since=_microseconds(given.get("StartDate")) or 0,
        limit=size + 1,
        until=_microseconds(given.get("EndDate")),
        after=opened(caller, token, "InvalidNextTokenException") if token else "",
    )
    chosen = list(found)
    is_more = len(chosen) > size
    return {
        "SuppressedDestinationSummaries": [_summary(entry) for entry in chosen[:size]],
        "NextToken": sealed(caller, chosen[size - 1].key[1]) if is_more else None,
    }


def _microseconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * _SECOND)


def put_account_attributes(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    refuse_members(given, ["ValidationAttributes"])
    reasons = frozenset(given.get("SuppressedReasons", ()))
    accounts.update(caller.ground, caller.account_id, suppressed_reasons=reasons)
    return {}


OPERATIONS: Operations = {
    (models.SESV2, name): in_thread(work, name, nothing)
    for name, work in (
        ("PutSuppressedDestination", put),
        ("GetSuppressedDestination", get),
        ("DeleteSuppressedDestination", delete),
        ("ListSuppressedDestinations", list_),
        ("PutAccountSuppressionAttributes", put_account_attributes),
    )
}
