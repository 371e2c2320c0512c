"""The trace: every statement looked at, and which part of it failed."""

from __future__ import annotations

from typing import Any

import pytest

from relay.authorization.evaluate import Effect
from relay.authorization.request import Request, caller
from relay.authorization.trace import Questions, trace
from tests.unit.authorization.ground import DELEGATE, RAW, STRANGER, arn, policy, statement, user, user_policy

_ARN = arn("owner.example")
_CONTEXT = {
    "ses:fromaddress": "ann@owner.example",
    "ses:recipients": ("a@recipient.example", "b@recipient.example"),
    "aws:securetransport": "true",
}
_REQUEST = Request(caller(user().arn, DELEGATE), RAW, _ARN, _CONTEXT)


def _one(**changed: Any) -> Any:
    [found] = trace([policy(statement(**{"resource": _ARN, **changed}))], _REQUEST)
    return found


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        pytest.param({}, (True, True, True), id="all"),
        pytest.param({"Principal": {"AWS": STRANGER}}, (False, True, True), id="principal"),
        pytest.param({"Action": "ses:SendEmail"}, (True, False, True), id="action"),
        pytest.param({"resource": arn("other.example")}, (True, True, False), id="resource"),
        pytest.param({"Action": "SES:send*"}, (True, True, True), id="action-in-other-case"),
        pytest.param(
            {"Principal": {"AWS": STRANGER}, "Action": "s3:*", "resource": "arn:*"},
            (False, False, False),
            id="none",
        ),
    ],
)
def test_each_part_is_judged_by_itself(changed: dict[str, Any], parts: tuple[bool, ...]) -> None:
    found = _one(**changed)
    assert (found.principal, found.action, found.resource) == parts
    assert found.concerns is all(parts)
    assert found.applies is all(parts)


def test_every_condition_is_shown_with_what_the_request_had() -> None:
    found = _one(
        Condition={
            "StringLike": {"SES:FromAddress": "ann*", "ses:FromDisplayName": "x"},
            "ForAllValues:StringLike": {"ses:Recipients": "a@*"},
            "Bool": {"aws:SecureTransport": True},
        }
    )
    assert [(one.condition.key, one.have, one.holds) for one in found.conditions] == [
        ("SES:FromAddress", "ann@owner.example", True),
        ("ses:FromDisplayName", None, False),
        ("ses:Recipients", ("a@recipient.example", "b@recipient.example"), False),
        ("aws:SecureTransport", "true", True),
    ]
    assert [one.condition.key for one in found.failed] == ["ses:FromDisplayName", "ses:Recipients"]
    assert found.concerns
    assert not found.applies


def test_a_statement_as_a_record_for_machines() -> None:
    found = _one(
        Sid="Lend",
        effect="Deny",
        Condition={
            "ForAnyValue:StringLike": {"ses:Recipients": ["a@*", "x"]},
            "Null": {"aws:username": False},
        },
    )
    assert found.as_record() == {
        "policy": "policy",
        "statement": 0,
        "sid": "Lend",
        "effect": "Deny",
        "applies": False,
        "principal": True,
        "action": True,
        "resource": True,
        "conditions": [
            {
                "operator": "ForAnyValue:StringLike",
                "key": "ses:Recipients",
                "policy_values": ["a@*", "x"],
                "request_value": ["a@recipient.example", "b@recipient.example"],
                "holds": True,
            },
            {
                "operator": "Null",
                "key": "aws:username",
                "policy_values": ["false"],
                "request_value": None,
                "holds": False,
            },
        ],
    }


def test_every_statement_of_every_policy_is_in_the_trace_in_order() -> None:
    policies = [
        policy(statement(_ARN), statement(_ARN), name="a"),
        policy(name="b"),
        policy(statement("*"), name="c"),
    ]
    assert [(one.policy, one.statement.number) for one in trace(policies, _REQUEST)] == [
        ("a", 0),
        ("a", 1),
        ("c", 0),
    ]


def test_a_users_own_policy_has_no_principal_to_fail() -> None:
    [found] = trace([user_policy()], _REQUEST)
    assert found.principal
    assert found.applies


def test_a_resource_with_variables_is_judged_on_the_context() -> None:
    found = _one(resource=arn("${ses:FromAddress}"))
    assert not found.resource
    [found] = trace(
        [policy(statement(arn("${ses:FromAddress}")))],
        Request(_REQUEST.caller, RAW, arn("ann@owner.example"), _CONTEXT),
    )
    assert found.resource


def test_questions_are_remembered_with_what_was_asked_and_answered() -> None:
    questions = Questions()
    allow, deny = policy(statement(_ARN), name="allow"), policy(statement(_ARN, "Deny"), name="deny")
    assert questions.ask("sender", [allow], _REQUEST).effect is Effect.ALLOW
    assert questions.ask("owner", iter([allow, deny]), _REQUEST).effect is Effect.EXPLICIT_DENY
    assert [(one.side, one.resource, one.verdict.effect, len(one.policies)) for one in questions] == [
        ("sender", _ARN, "Allow", 1),
        ("owner", _ARN, "ExplicitDeny", 2),
    ]
    assert [one.policy for one in questions[1].statements() if one.applies] == ["allow", "deny"]
