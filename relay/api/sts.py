"""STS: who am I."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.api.values import Caller


async def get_caller_identity(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """Nobody needs a permission to ask (STS API reference)."""
    principal = caller.principal
    return {"UserId": principal.unique_id, "Account": principal.account_id, "Arn": principal.arn}
