"""Who is told of what happens to an identity's mail, and its default configuration set; v1 and v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.api import models
from relay.api.identities import named_view, views
from relay.api.targets import identity, nothing
from relay.api.values import APIError, Caller, Operations, in_thread
from relay.control import feedback
from relay.control.feedback import NONE, Chosen
from relay.control.identities import IdentityView

_KINDS = ("Bounce", "Complaint", "Delivery")


def _choose(caller: Caller, view: IdentityView, chosen: Chosen) -> dict[str, Any]:
    feedback.choose(caller.ground, view.row.name, caller.account_id, chosen)
    return {}


# ---------------------------------------------------------------- v1


def _must_find(caller: Caller, given: Mapping[str, Any]) -> IdentityView:
    return named_view(caller, given["Identity"], models.SES)


def set_notification_topic(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view = _must_find(caller, given)
    topics = {given["NotificationType"].lower(): given.get("SnsTopic") or NONE}
    return _choose(caller, view, Chosen(topics=topics))


def set_headers_in_notifications(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view = _must_find(caller, given)
    return _choose(caller, view, Chosen(headers_in={given["NotificationType"].lower(): given["Enabled"]}))


def set_feedback_forwarding(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """Off only where topics are told of both bounces and complaints; v2 does not ask for that (SES)."""
    view = _must_find(caller, given)
    if not given["ForwardingEnabled"] and not (view.row.bounce_topic and view.row.complaint_topic):
        raise APIError(
            "InvalidParameterValue",
            f"Identity {view.row.name} needs topics for bounces and complaints before that is disabled.",
        )
    return _choose(caller, view, Chosen(forwarding=given["ForwardingEnabled"]))


def get_notification_attributes(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    found = views(caller, given["Identities"])
    return {"NotificationAttributes": {name: _attributes(view) for name, view in found.items()}}


def _attributes(view: IdentityView) -> dict[str, Any]:
    row = view.row
    attributes: dict[str, Any] = {
        f"{kind}Topic": getattr(row, f"{kind.lower()}_topic") or "" for kind in _KINDS
    }
    for kind in _KINDS:
        attributes[f"HeadersIn{kind}NotificationsEnabled"] = getattr(row, f"headers_in_{kind.lower()}")
    return {**attributes, "ForwardingEnabled": row.feedback_forwarding}


# ---------------------------------------------------------------- v2


def put_feedback_attributes(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view = named_view(caller, given["EmailIdentity"], models.SESV2)
    return _choose(caller, view, Chosen(forwarding=given.get("EmailForwardingEnabled", False)))


def put_configuration_set_attributes(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """R3: refused while the identity is lent to another account."""
    view = named_view(caller, given["EmailIdentity"], models.SESV2)
    return _choose(caller, view, Chosen(default_set=given.get("ConfigurationSetName") or NONE))


OPERATIONS: Operations = {
    (service, name): in_thread(work, name, target)
    for service, name, work, target in (
        (models.SES, "SetIdentityNotificationTopic", set_notification_topic, identity("Identity")),
        (
            models.SES,
            "SetIdentityHeadersInNotificationsEnabled",
            set_headers_in_notifications,
            identity("Identity"),
        ),
        (models.SES, "SetIdentityFeedbackForwardingEnabled", set_feedback_forwarding, identity("Identity")),
        (models.SES, "GetIdentityNotificationAttributes", get_notification_attributes, nothing),
        (
            models.SESV2,
            "PutEmailIdentityFeedbackAttributes",
            put_feedback_attributes,
            identity("EmailIdentity"),
        ),
        (
            models.SESV2,
            "PutEmailIdentityConfigurationSetAttributes",
            put_configuration_set_attributes,
            identity("EmailIdentity"),
        ),
    )
}
