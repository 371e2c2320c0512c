"""The verdict: Deny over Allow over silence, whatever the order of statements and documents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from relay.authorization.policy import Policy, Statement
from relay.authorization.request import Request


class Effect(StrEnum):
    """The three verdicts; the last two are refusals, and kept apart."""

    ALLOW = "Allow"
    EXPLICIT_DENY = "ExplicitDeny"
    IMPLICIT_DENY = "ImplicitDeny"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policies say, and which statement said it; ``statement`` counts from 0.

    ``unreadable`` names a policy that could not be read: nothing is allowed beside it.
    """

    effect: Effect
    policy: str | None = None
    statement: int | None = None
    sid: str | None = None
    unreadable: str | None = None


_SILENCE = Verdict(Effect.IMPLICIT_DENY)


def evaluate(policies: Iterable[Policy], request: Request) -> Verdict:
    """All policies count together; the first Deny that applies decides, else any Allow."""
    allowed: tuple[Policy, Statement] | None = None
    unreadable: str | None = None
    context = request.context
    for policy in policies:
        if policy.fault is not None:
            unreadable = policy.name
        for statement in policy.candidates(request):
            if statement.is_allow and allowed is not None:
                continue
            for test in statement.tests:
                if not test(context):
                    break
            else:
                if statement.resource.uses_context and not statement.concerns(request):
                    continue
                if not statement.is_allow:
                    return _verdict(Effect.EXPLICIT_DENY, policy, statement)
                allowed = policy, statement
    if unreadable is not None:
        return Verdict(Effect.IMPLICIT_DENY, unreadable=unreadable)
    return _verdict(Effect.ALLOW, *allowed) if allowed else _SILENCE


def _verdict(effect: Effect, policy: Policy, statement: Statement) -> Verdict:
    return Verdict(effect, policy.name, statement.number, statement.sid)
