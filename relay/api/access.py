"""May this call be made: the caller's own policies, and those of the identity it is about.  Pure.

The same evaluator as for mail.  Within one account either side's Allow is enough and any Deny is final;
another account's things can be sent with, if it grants that, but never managed (SES Developer Guide,
"Identity authorization policies": management actions are for principals of the same account).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.authorization.context import Context
from relay.authorization.evaluate import Effect, evaluate
from relay.authorization.policy import Policy
from relay.authorization.request import Request, caller_of
from relay.submission.principal import Principal


@dataclass(frozen=True, slots=True)
class Access:
    """One question.  ``account_id`` is whose the resource is; ``resource`` is its ARN or ``*``."""

    principal: Principal
    action: str
    resource: str
    account_id: str
    context: Context


def is_allowed(access: Access, own: Sequence[Policy] | None, of_resource: Sequence[Policy]) -> bool:
    """Whether the call may be made; ``own`` is None for a service, which has no policies."""
    if access.account_id != access.principal.account_id:
        return False
    context = {**access.context, "aws:resourceaccount": access.account_id}
    request = Request(caller_of(access.principal), access.action, access.resource, context)
    verdicts = [evaluate(own or (), request), evaluate(of_resource, request)]
    if any(one.effect is Effect.EXPLICIT_DENY or one.unreadable is not None for one in verdicts):
        return False
    return any(one.effect is Effect.ALLOW for one in verdicts)


def denial(access: Access) -> str:
    """SES's sentence."""
    return (
        f"User `{access.principal.arn}' is not authorized to perform `{access.action}'"
        f" on resource `{access.resource}'"
    )
