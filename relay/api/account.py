"""The account: its quota, whether it may send; v1 and v2."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from relay.api import models
from relay.api.targets import nothing
from relay.api.values import Caller, Operations, in_thread
from relay.control import accounts, usage
from relay.control.accounts import Standing
from relay.outcome.reputation import Counts

# No limit, to clients that divide by it.
_ANY_RATE = 1_000_000
# The reason of a pause that the account itself asked for; an operator's may say more.
_BY_ITSELF = "paused by the account"


def _quota(standing: Standing) -> dict[str, float]:
    """SES's words; -1 is no limit of a day there too, and clients reckon with the rate."""
    rate = standing.quota.max_send_rate
    return {
        "Max24HourSend": float(standing.quota.max_24h_send),
        "MaxSendRate": float(rate if rate >= 0 else _ANY_RATE),
        "SentLast24Hours": float(standing.sent_24h),
    }


def get_send_quota(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return _quota(accounts.standing(caller.ground, caller.account_id))


def get_send_statistics(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of two weeks, as in SES; a point is of a day (UTC), since that is what is counted."""
    last = usage.today()
    lines = usage.bills(caller.ground, last - timedelta(days=13), last, "day", caller.account_id, None)
    days: dict[str, Counts] = {}
    for line in lines:
        days[line.period] = days.get(line.period, Counts()) + line.counts
    return {
        "SendDataPoints": [
            {
                "Timestamp": datetime.fromisoformat(day).replace(tzinfo=UTC),
                "DeliveryAttempts": counts.recipients,
                "Bounces": counts.hard_bounces,
                "Complaints": counts.complaints,
                "Rejects": 0,
            }
            for day, counts in days.items()
        ]
    }


def get_sending_enabled(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"Enabled": not accounts.get(caller.ground, caller.account_id).paused}


def update_sending_enabled(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    _set_enabled(caller, given.get("Enabled", False))
    return {}


def _set_enabled(caller: Caller, is_enabled: bool) -> None:
    """An account lifts its own pause only: one of the operator's or of bad reputation stays."""
    row = accounts.get(caller.ground, caller.account_id)
    if is_enabled and row.paused:
        accounts.resume_own(caller.ground, caller.account_id, _BY_ITSELF)
    elif not is_enabled and not row.paused:
        accounts.pause(caller.ground, caller.account_id, _BY_ITSELF)


def get_account(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    standing = accounts.standing(caller.ground, caller.account_id)
    row = standing.row
    return {
        "SendQuota": _quota(standing),
        "SendingEnabled": not row.paused,
        "ProductionAccessEnabled": row.production,
        "EnforcementStatus": "SHUTDOWN" if row.paused and row.pause_reason != _BY_ITSELF else "HEALTHY",
        "DedicatedIpAutoWarmupEnabled": False,
        "SuppressionAttributes": {"SuppressedReasons": orjson.loads(row.suppressed_reasons)},
    }


def put_account_sending(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    _set_enabled(caller, given.get("SendingEnabled", False))
    return {}


OPERATIONS: Operations = {
    (service, name): in_thread(work, name, nothing)
    for service, name, work in (
        (models.SES, "GetSendQuota", get_send_quota),
        (models.SES, "GetSendStatistics", get_send_statistics),
        (models.SES, "GetAccountSendingEnabled", get_sending_enabled),
        (models.SES, "UpdateAccountSendingEnabled", update_sending_enabled),
        (models.SESV2, "GetAccount", get_account),
        (models.SESV2, "PutAccountSendingAttributes", put_account_sending),
    )
}
