"""Policies read as grants: who may do what with an identity, under which conditions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from relay.authorization.policy import EVERYONE, Condition, Policy, Statement
from relay.authorization.request import Caller


@dataclass(frozen=True, slots=True)
class Grant:
    """One statement of a policy on one identity, in words that a table can show."""

    identity: str
    policy: str
    statement: int
    sid: str | None
    effect: str
    principals: tuple[str, ...]
    actions: tuple[str, ...]
    conditions: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "policy": self.policy,
            "statement": self.statement,
            "sid": self.sid,
            "effect": self.effect,
            "principals": list(self.principals),
            "actions": list(self.actions),
            "conditions": list(self.conditions),
        }


def grants_of(identity: str, policies: Iterable[Policy], caller: Caller | None = None) -> Iterator[Grant]:
    """Every statement on the identity, or those that concern ``caller``; a Deny is shown as well."""
    for policy in policies:
        if policy.fault is not None:
            yield Grant(identity, policy.name, 0, None, "unreadable", (), (), (policy.fault,))
        for statement in policy.statements:
            if caller is None or statement.principals is None or statement.principals.match(caller):
                yield _grant(identity, policy, statement)


def _grant(identity: str, policy: Policy, statement: Statement) -> Grant:
    return Grant(
        identity=identity,
        policy=policy.name,
        statement=statement.number,
        sid=statement.sid,
        effect="Allow" if statement.is_allow else "Deny",
        principals=tuple(_principals(statement)),
        actions=tuple(_negatable(statement.action.name, statement.action.values)),
        conditions=tuple(_words(condition) for condition in statement.conditions),
    )


def _principals(statement: Statement) -> Iterator[str]:
    principals = statement.principals
    if principals is None:
        return
    names = ["everyone" if value == EVERYONE else value for _, value in principals.entries]
    yield from (f"all but {name}" for name in names) if principals.negated else names


def _negatable(name: str, values: Iterable[str]) -> Iterator[str]:
    yield from (f"all but {value}" for value in values) if name.startswith("Not") else values


def _words(condition: Condition) -> str:
    return f"{condition.key} {condition.operator.text} {' | '.join(condition.values)}"
