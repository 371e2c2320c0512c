"""What became of one message, in the words of SES v2."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from relay.api import models
from relay.api.targets import nothing
from relay.api.values import APIError, Caller, Operations, in_thread
from relay.control import overview
from relay.outcome.transitions import State

_FINAL = {State.BOUNCED: "BOUNCE", State.DELIVERED: "DELIVERY"}


def get_message_insights(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the caller's own messages, as long as they are kept."""
    found = overview.find(caller.ground.store, given["MessageId"])
    if found is None or "message_id" not in found or found["account_id"] != caller.account_id:
        raise APIError("NotFoundException", f"Message {given['MessageId']} does not exist.")
    name, address = found["record"]["send"]["from"]
    return {
        "MessageId": found["message_id"],
        "FromEmailAddress": f"{name} <{address}>" if name else address,
        "EmailTags": [{"Name": name, "Value": value} for name, value in found["record"].get("tags", ())],
        "Insights": [_insight(found, one) for one in found["recipients"]],
    }


def _insight(message: Mapping[str, Any], recipient: Mapping[str, Any]) -> dict[str, Any]:
    events = [{"Timestamp": _instant(message["received_at"]), "Type": "SEND"}]
    kind = _FINAL.get(State(recipient["state"]))
    if kind is not None:
        reply = recipient["last_reply"] or ""
        details = {"Bounce": {"DiagnosticCode": reply}} if kind == "BOUNCE" else None
        at = recipient["settled_at"] or message["received_at"]
        events.append({"Timestamp": _instant(at), "Type": kind, "Details": details})
    elif recipient["attempts"]:
        events.append({"Timestamp": _instant(recipient["due_at"]), "Type": "DELIVERY_DELAY"})
    return {"Destination": recipient["address"], "Events": events}


def _instant(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


OPERATIONS: Operations = {
    (models.SESV2, "GetMessageInsights"): in_thread(get_message_insights, "GetMessageInsights", nothing),
}
