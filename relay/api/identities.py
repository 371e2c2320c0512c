"""Identities of the caller, as calls of either version name them: by name or by ARN."""

from __future__ import annotations

from collections.abc import Sequence

from relay.api import models
from relay.api.targets import identity_target
from relay.api.values import APIError, Caller
from relay.control import identities
from relay.control.ground import ControlError
from relay.control.identities import IdentityView

# SES API reference, GetIdentityVerificationAttributes.
_MOST = 100


def find(caller: Caller, name: str) -> IdentityView | None:
    target = identity_target(caller, name)
    if target.account_id != caller.account_id or target.identity is None:
        return None
    try:
        return identities.show(caller.ground, target.identity, caller.account_id)
    except ControlError:
        return None


def views(caller: Caller, names: Sequence[str]) -> dict[str, IdentityView]:
    """Those that exist, by the names they were asked by; unknown ones are left out, as in SES."""
    if len(names) > _MOST:
        raise APIError("ValidationError", f"Identities: at most {_MOST} are asked for at once.")
    found = {name: find(caller, name) for name in names}
    return {name: view for name, view in found.items() if view is not None}


def named_view(caller: Caller, name: str, service: str) -> IdentityView:
    """The same; what is not there is an error in the service's words."""
    found = find(caller, name)
    if found is None and service == models.SES:
        raise APIError("InvalidParameterValue", f"Identity {name} is not verified or does not exist.")
    if found is None:
        raise APIError("NotFoundException", f"Email identity {name} does not exist.")
    return found
