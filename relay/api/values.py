"""Errors and callers of the API as values."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.control.ground import Ground
from relay.intake import Intake
from relay.submission.principal import Principal
from relay.submission.submission import Client


class APIError(Exception):
    """A refusal as AWS gives it.

    ``code`` is the name of an error in the service's model ("NotFoundException") or of one common to all
    of AWS ("AccessDenied"); how each protocol writes it, and with which HTTP status, is decided in
    ``errors``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, what operations act on for it, and how the call reached us.

    ``at`` is microseconds UTC; ``ground.actor`` is the caller's ARN, for the audit.
    """

    principal: Principal
    ground: Ground
    client: Client
    at: int
    intake: Intake

    @property
    def account_id(self) -> str:
        return self.principal.account_id

    @property
    def region(self) -> str:
        return self.ground.region


@dataclass(frozen=True, slots=True)
class Target:
    """What a call is about: its ARN (``*`` for the account), whose it is, the name if it is an identity."""

    arn: str
    account_id: str
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """How one operation is answered.

    ``action`` is what policies call it; None where the call is judged otherwise: sending by the decision
    of live mail, and what anyone may ask.
    """

    run: Callable[[Caller, dict[str, Any]], Awaitable[dict[str, Any]]]
    action: str | None
    target: Callable[[Caller, dict[str, Any]], Target]


def refuse_members(given: Mapping[str, Any], names: Iterable[str], within: str = "") -> None:
    """APIError if a call says what has no meaning here: to pass over it would be to promise it."""
    for name in names:
        if given.get(name) not in (None, {}, []):
            raise APIError("InvalidParameterValue", f"{within}{name} is not offered here; see docs/api.md.")


Operations = Mapping[tuple[str, str], Operation]


def in_thread(
    work: Callable[[Caller, dict[str, Any]], dict[str, Any]],
    name: str,
    target: Callable[[Caller, dict[str, Any]], Target],
    service: str = "ses",
) -> Operation:
    """An operation of the control plane, which waits for the store: it runs beside the loop."""

    async def run(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(work, caller, given)

    return Operation(run, f"{service}:{name}", target)
