"""Why a verdict came out as it did: every statement looked at, and which part of it failed.

The trace asks the same tests as ``evaluate``; it costs more and is made only when somebody wants to know.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from relay.authorization.evaluate import Verdict, evaluate
from relay.authorization.policy import Condition, Policy, Statement
from relay.authorization.request import Request


@dataclass(frozen=True, slots=True)
class ConditionTrace:
    """One condition with what the request had for its key; None if the key was absent."""

    condition: Condition
    have: str | tuple[str, ...] | None
    holds: bool


@dataclass(frozen=True, slots=True)
class StatementTrace:
    """One statement and which of its parts matched."""

    policy: str
    statement: Statement
    principal: bool
    action: bool
    resource: bool
    conditions: tuple[ConditionTrace, ...]

    @property
    def concerns(self) -> bool:
        """Whether it is about this sender, action and identity at all."""
        return self.principal and self.action and self.resource

    @property
    def applies(self) -> bool:
        return self.concerns and not self.failed

    @property
    def failed(self) -> list[ConditionTrace]:
        return [one for one in self.conditions if not one.holds]

    def as_record(self) -> dict[str, Any]:
        """A JSON object for machines."""
        statement = self.statement
        return {
            "policy": self.policy,
            "statement": statement.number,
            "sid": statement.sid,
            "effect": "Allow" if statement.is_allow else "Deny",
            "applies": self.applies,
            "principal": self.principal,
            "action": self.action,
            "resource": self.resource,
            "conditions": [
                {
                    "operator": one.condition.operator.text,
                    "key": one.condition.key,
                    "policy_values": list(one.condition.values),
                    "request_value": list(one.have) if isinstance(one.have, tuple) else one.have,
                    "holds": one.holds,
                }
                for one in self.conditions
            ],
        }


@dataclass(frozen=True, slots=True)
class Question:
    """One evaluation that a decision made: what was asked, of which policies, and the verdict.

    ``side`` is "sender" for the user's own policies, "owner" for those of an identity.
    """

    side: str
    resource: str
    request: Request
    policies: tuple[Policy, ...]
    verdict: Verdict

    def statements(self) -> list[StatementTrace]:
        return trace(self.policies, self.request)


def trace(policies: Iterable[Policy], request: Request) -> list[StatementTrace]:
    """Every statement of the policies, held against the request."""
    return [_statement(policy, one, request) for policy in policies for one in policy.statements]


def _statement(policy: Policy, statement: Statement, request: Request) -> StatementTrace:
    context = request.context
    return StatementTrace(
        policy=policy.name,
        statement=statement,
        principal=statement.principals is None or statement.principals.match(request.caller),
        action=statement.action.test(request.action.lower(), context),
        resource=statement.resource.test(request.resource, context),
        conditions=tuple(
            ConditionTrace(one, context.get(one.key.lower()), one.test(context))
            for one in statement.conditions
        ),
    )


class Questions(list[Question]):
    """Answers a decision's questions as ``evaluate`` does, and remembers each."""

    def ask(self, side: str, policies: Iterable[Policy], request: Request) -> Verdict:
        asked = tuple(policies)
        verdict = evaluate(asked, request)
        self.append(Question(side, request.resource, request, asked, verdict))
        return verdict
