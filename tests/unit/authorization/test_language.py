"""The policy language, row by row: documents, a request, and the verdict they must give.

The rows are in ``tests/data/policies/language.jsonl``; each names the rule it is from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relay.authorization.evaluate import evaluate
from relay.authorization.operators import parse_operator
from relay.authorization.policy import compile_policy
from relay.authorization.policytest import parse_case
from relay.authorization.request import Request, caller

_TABLE = Path(__file__).parents[2] / "data" / "policies" / "language.jsonl"
_LINES = _TABLE.read_text(encoding="utf-8").splitlines()
CASES = [json.loads(line) for line in _LINES]
_OPERATORS = {
    *("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"),
    *("StringLike", "StringNotLike"),
    *("NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals"),
    *("NumericGreaterThan", "NumericGreaterThanEquals"),
    *("DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals"),
    *("DateGreaterThan", "DateGreaterThanEquals"),
    *("Bool", "BinaryEquals", "IpAddress", "NotIpAddress"),
    *("ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike", "Null"),
}
# Duplicate keys and unknown elements are no question of evaluation; see test_policy.
_TRAP_OF_PARSING = 25


def _request(asked: dict[str, Any]) -> Request:
    context = {
        key.lower(): tuple(value) if isinstance(value, list) else value
        for key, value in asked["context"].items()
    }
    who = caller(asked["principal_arn"], asked["principal_account"])
    return Request(who, asked["action"], asked["resource"], context)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_documents_give_the_verdict_of_the_language(case: dict[str, Any]) -> None:
    policies = [compile_policy(json.dumps(document)) for document in case["policies"]]
    assert evaluate(policies, _request(case["request"])).effect == case["expected"], case["source"]


def test_every_row_is_a_test_case_of_its_own_and_passes() -> None:
    for line in _LINES:
        case = parse_case(line)
        assert case.faults == ()
        assert case.decision() is case.expected, case.id


def test_every_row_of_the_table_has_a_name_of_its_own() -> None:
    names = [case["id"] for case in CASES]
    assert sorted(names) == sorted(set(names))


def test_the_table_has_every_operator() -> None:
    used = {name for case in CASES for name in _operators(case["policies"])}
    bare = {name.rpartition(":")[2].removesuffix("IfExists") for name in used}
    assert bare == _OPERATORS
    assert all(f"{name}IfExists" in used for name in _OPERATORS - {"Null"})
    assert all(f"{over}:{name}" in used for name in _OPERATORS - {"Null"} for over in _SETS)


_SETS = ("ForAllValues", "ForAnyValue")


def _operators(documents: list[dict[str, Any]]) -> set[str]:
    statements = [one for document in documents for one in _statements(document)]
    return {name for statement in statements for name in statement.get("Condition", {})}


def _statements(document: dict[str, Any]) -> list[dict[str, Any]]:
    statement = document["Statement"]
    return statement if isinstance(statement, list) else [statement]


def test_the_table_has_every_trap() -> None:
    traps = {int(case["id"].split("-")[1]) for case in CASES if case["id"].startswith("trap-")}
    assert traps == set(range(1, 29)) - {_TRAP_OF_PARSING}


@pytest.mark.parametrize("name", sorted(_OPERATORS))
def test_an_operator_is_known_in_each_of_its_forms(name: str) -> None:
    forms = {
        f"{over}{name}{end}" for over in ("", "ForAllValues:", "ForAnyValue:") for end in ("", "IfExists")
    }
    known = {form for form in forms if parse_operator(form) is not None}
    assert known == (forms if name != "Null" else {"Null"})


@pytest.mark.parametrize(
    "name",
    [
        *("stringequals", "StringEqual", "StringNotLikeIgnoreCase", "BoolNotEquals", "BinaryNotEquals"),
        *("NullIfExists", "ForAllValues:Null", "ForAllValues", "ForAllValues:", ":StringEquals"),
        *("forallvalues:StringEquals", "ForSomeValues:StringEquals", "ForAnyValue:ForAllValues:StringEquals"),
        *("StringEqualsIfExistsIfExists", "IfExists", "", "StringEquals ", "StringEqualsifexists"),
    ],
)
def test_no_other_name_is_an_operator(name: str) -> None:
    assert parse_operator(name) is None
