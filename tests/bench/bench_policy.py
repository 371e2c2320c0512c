"""Microseconds per verdict of an identity's policies, and what hostile documents cost.

Run: ``.venv/bin/python -m tests.bench.bench_policy``.  Figures are the best of several rounds.  Every
statement concerns the caller and only the last one of the last policy allows; the others, eight short
ones to a document or one with a long list, fail at their last condition, or at their first.
"""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from relay.authorization.document import MOST_CHARACTERS
from relay.authorization.evaluate import Effect, evaluate
from relay.authorization.policy import Policy, PolicyError, compile_policy
from relay.authorization.reasons import explain_denial
from relay.authorization.request import Request, caller
from relay.authorization.send import Claim
from relay.authorization.storable import check_storable
from relay.authorization.trace import trace
from relay.submission.address import parse_mailbox

_POLICIES = 20
_POLICY_OCTETS = 4096
_RESOURCE = "arn:aws:ses:us-east-1:111111111111:identity/owner.example"
_CALLER = caller("arn:aws:iam::222222222222:user/mail/app", "222222222222")
_VALUE_CHARACTERS = 1024

Case = tuple[str, Callable[[], object]]


def main() -> None:
    for name, call in (*_verdicts(), *_documents(), *_hostile_patterns(), *_hostile_documents()):
        print(f"{name:<58}{_microseconds(call):>14.2f} us")


def _microseconds(call: Callable[[], object]) -> float:
    timer = timeit.Timer(call)
    number, taken = timer.autorange()
    if taken > 2:
        return taken / number * 1e6
    return min(taken, *timer.repeat(repeat=4, number=number)) / number * 1e6


# ---------------------------------------------------------------- verdicts


def _verdicts() -> Iterator[Case]:
    policies = _policies(fails_first=False)
    statements = sum(len(policy.statements) for policy in policies)
    print(f"{_POLICIES} policies of {_POLICY_OCTETS} octets: {statements} statements")
    for recipients in (1, 5, 50):
        yield f"verdict at the last condition, {recipients} recipients", _verdict(policies, recipients)
    at_first = _policies(fails_first=True)
    for recipients in (1, 5, 50):
        yield f"verdict at the first condition, {recipients} recipients", _verdict(at_first, recipients)
    lists = [compile_policy(_list_document(one), str(one)) for one in range(_POLICIES)]
    for recipients in (1, 5, 50):
        yield f"verdict of long lists, {recipients} recipients", _verdict(lists, recipients)
    for name, everyone_is_caller in (("one delegate a statement", False), ("one address a statement", True)):
        lending = [compile_policy(_lending(n, everyone_is_caller), str(n)) for n in range(_POLICIES)]
        for recipients in (1, 5, 50):
            yield f"verdict of {name}, {recipients} recipients", _verdict(lending, recipients)
    yield from _callers(policies)
    yield from _explanations(policies)


def _lending(number: int, everyone_is_caller: bool) -> str:
    """What owners write: each statement lends an address to a delegate, for recipients of some domains."""
    statements: list[dict[str, Any]] = []
    while True:
        is_last = number == _POLICIES - 1 and not statements
        name = "news+2024" if is_last else f"address{number}-{len(statements)}"
        delegate = len(statements) if not everyone_is_caller and not is_last else 0
        one = _statement(
            "Allow",
            {
                "StringEquals": {"ses:FromAddress": f"{name}@owner.example"},
                "StringLike": {"ses:FeedbackAddress": "bounces*@owner.example"},
                "ForAllValues:StringLike": {"ses:Recipients": ["*@recipient.example", "*@last.example"]},
            },
        )
        one["Principal"] = {
            "AWS": _CALLER.arn if not delegate else f"arn:aws:iam::222222222222:user/d{delegate}"
        }
        text = json.dumps({"Version": "2012-10-17", "Statement": [*statements, one]}, indent=1)
        if len(text) > _POLICY_OCTETS:
            return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=1)
        statements.append(one)


def _verdict(policies: list[Policy], recipients: int) -> Callable[[], object]:
    request = _request(recipients)
    verdict = evaluate(policies, request)
    assert (verdict.effect, verdict.policy) == (Effect.ALLOW, str(_POLICIES - 1))
    return lambda: evaluate(policies, request)


def _callers(policies: list[Policy]) -> Iterator[Case]:
    asked = _asked(5)
    numbers = count()

    def never_seen() -> object:
        one = caller(f"arn:aws:iam::222222222222:user/u{next(numbers)}", "222222222222")
        return evaluate(policies, Request(one, *asked))

    yield "verdict, 5 recipients, a caller never seen", never_seen
    stranger = Request(caller("arn:aws:iam::333333333333:user/x", "333333333333"), *asked)
    assert evaluate(policies, stranger).effect is Effect.IMPLICIT_DENY
    yield "verdict, 5 recipients, a caller whom nothing concerns", lambda: evaluate(policies, stranger)


def _explanations(policies: list[Policy]) -> Iterator[Case]:
    refused = _request(5, **{"ses:fromaddress": "ceo@owner.example"})
    assert evaluate(policies, refused).effect is Effect.IMPLICIT_DENY
    claim = Claim("From", parse_mailbox("ceo@owner.example"), "ceo@owner.example", _RESOURCE)
    yield "trace, 5 recipients", lambda: trace(policies, refused)
    yield "explanation, 5 recipients", lambda: explain_denial(policies, refused, claim)


def _asked(recipients: int, **changed: str) -> tuple[str, str, Mapping[str, Any]]:
    context = {
        "ses:fromaddress": "news+2024@owner.example",
        "ses:fromdisplayname": "Owner News",
        "ses:feedbackaddress": "bounces+2024@owner.example",
        "ses:apiversion": "2",
        "ses:recipients": (
            *(f"customer{number}@recipient.example" for number in range(1, recipients)),
            "customer0@last.example",
        ),
        "aws:sourceip": "203.0.113.77",
        "aws:securetransport": "true",
        "aws:currenttime": "2026-11-24T12:00:00Z",
        "aws:epochtime": "1795521600",
        "aws:principalarn": _CALLER.arn,
        "aws:username": "app",
        "aws:userid": "AIDAQ3EGSXMPLE7K2M9QX",
        "aws:principaltag/team": "news",
    }
    return "ses:SendRawEmail", _RESOURCE, {**context, **changed}


def _request(recipients: int, **changed: str) -> Request:
    return Request(_CALLER, *_asked(recipients, **changed))


def _policies(*, fails_first: bool) -> list[Policy]:
    numbers = count()
    order = -1 if fails_first else 1
    documents = [_document(numbers, order, is_last=one == _POLICIES - 1) for one in range(_POLICIES)]
    return [compile_policy(text, str(number)) for number, text in enumerate(documents)]


def _document(numbers: Iterator[int], order: int = 1, *, is_last: bool = False) -> str:
    """As many statements as a policy has room for; the last one of the last document allows."""
    statements: list[dict[str, Any]] = []
    end = (
        [_statement("Allow", {"StringLike": {"ses:FromAddress": "news+*@owner.example"}})] if is_last else []
    )
    text = ""
    while True:
        number = next(numbers)
        effect = "Deny" if number % 4 == 3 else "Allow"
        condition = _CONDITIONS[number % len(_CONDITIONS)](number)
        statements.append(_statement(effect, dict(list(condition.items())[::order])))
        longer = json.dumps({"Version": "2012-10-17", "Statement": [*statements, *end]})
        if len(longer) > _POLICY_OCTETS:
            return text + " " * (_POLICY_OCTETS - len(text))
        text = longer


def _list_document(number: int) -> str:
    """One statement whose list of recipients fills the document; it lacks the last recipient's domain."""
    end = [_statement("Allow", {"StringLike": {"ses:FromAddress": "news+*@owner.example"}})]
    patterns: list[str] = []
    text = ""
    while True:
        patterns.append(f"*@customer-{number}-{len(patterns)}.example")
        lists = {"ForAllValues:StringLike": {"ses:Recipients": [*patterns, "*@recipient.example"]}}
        condition = {"StringLike": {"ses:FromAddress": "*@owner.example"}, **lists}
        statements = [_statement("Allow", condition), *(end if number == _POLICIES - 1 else [])]
        longer = json.dumps({"Version": "2012-10-17", "Statement": statements})
        if len(longer) > _POLICY_OCTETS:
            return text
        text = longer


_PRINCIPALS: tuple[Any, ...] = (
    {"AWS": "222222222222"},
    {"AWS": "arn:aws:iam::222222222222:root"},
    {"AWS": ["arn:aws:iam::444444444444:root", "222222222222"]},
)


def _statement(effect: str, condition: dict[str, Any]) -> dict[str, Any]:
    return {
        "Effect": effect,
        "Principal": _PRINCIPALS[len(str(condition)) % len(_PRINCIPALS)],
        "Action": ["ses:SendEmail", "ses:Send*"],
        "Resource": _RESOURCE,
        "Condition": condition,
    }


def _recipients(number: int) -> dict[str, Any]:
    return {
        "ForAllValues:StringLike": {
            "ses:Recipients": [f"*@partner{number}.example", "vip*@*.example", "customer?*@*.example"]
        },
        "Null": {"ses:Recipients": "false"},
        "StringLike": {"ses:FromAddress": [f"*team{number}*@owner.example", f"list{number}+*@owner.example"]},
    }


def _times_and_addresses(number: int) -> dict[str, Any]:
    return {
        "DateGreaterThan": {"aws:CurrentTime": "2021-08-31T12:00Z"},
        "DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"},
        "Bool": {"aws:SecureTransport": "true"},
        "IpAddress": {"aws:SourceIp": [f"10.{number % 256}.0.0/16", "198.51.100.0/24", "2001:db8::/32"]},
    }


def _variables(number: int) -> dict[str, Any]:
    return {
        "StringLike": {"ses:FeedbackAddress": ["bounces+*@owner.example", "${aws:username}@owner.example"]},
        "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::222222222222:user/mail/${aws:username, 'x'}"},
        "StringEquals": {"ses:FromAddress": [f"${{aws:PrincipalTag/team}}{number}@owner.example"]},
    }


def _negated(number: int) -> dict[str, Any]:
    return {
        "NotIpAddress": {"aws:SourceIp": ["198.51.100.0/24", "192.0.2.0/24"]},
        "StringNotLike": {"ses:FromAddress": ["*admin*example", "*ceo*example"]},
        "ForAnyValue:StringNotLike": {
            "ses:Recipients": [f"*@recipient{number}.example", "*@recipient.example", "*@last.example"]
        },
    }


def _names(number: int) -> dict[str, Any]:
    return {
        "StringEquals": {"ses:ApiVersion": ["1", "2"]},
        "NumericGreaterThanEquals": {"aws:EpochTime": 1_700_000_000},
        "StringEqualsIgnoreCase": {"ses:FromDisplayName": [f"owner {number}", "owner news"]},
        "ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/mail/app"},
    }


_CONDITIONS = (_recipients, _times_and_addresses, _variables, _negated, _names)


# ---------------------------------------------------------------- documents


def _documents() -> Iterator[Case]:
    text = _document(count())
    yield f"compile, {_POLICY_OCTETS} octets", lambda: compile_policy(text)
    yield f"check whether to store, {_POLICY_OCTETS} octets", lambda: check_storable(text, _RESOURCE)


# ---------------------------------------------------------------- hostile patterns

_PATTERNS = {
    "one pattern, plain": "a" * _VALUE_CHARACTERS,
    "*a many times, miss": "*a" * 1000 + "b",
    "*a many times, hit": "*a" * 1000,
    "?a many times, miss": "?a" * 500 + "?b" * 12,
    "*?a?a many times, miss": "*?a?a" * 250 + "b",
    "one long piece, a miss at its end": "*" + "a" * 500 + "b*",
    "one long piece with ?, a miss at its end": "*" + "a" * 499 + "?b*",
    "?a in one long piece, a miss at its end": "*" + "?a" * 250 + "b*",
    "* many times": "*" * 2000 + "b",
    "unclosed variables": "${" * 1000,
}


def _hostile_patterns() -> Iterator[Case]:
    value = "a" * _VALUE_CHARACTERS
    for name, pattern in _PATTERNS.items():
        policy = _with_patterns(pattern)
        request = _request(1, **{"ses:fromdisplayname": value})
        yield f"1 KB value, {name}", lambda policy=policy, request=request: evaluate([policy], request)
    for recipients in (1, 50):
        request = _request(1, **{"ses:recipients": (value,) * recipients})  # type: ignore[arg-type]
        policy = _with_patterns("*" + "?a" * 250 + "b*", "ForAllValues:StringNotLike", "ses:Recipients")
        yield (
            f"{recipients} x 1 KB value, ?a in one long piece",
            lambda policy=policy, request=request: evaluate([policy], request),
        )
    many = _with_patterns([f"*a?{number}*" for number in range(300)])
    request = _request(1, **{"ses:fromdisplayname": value})
    yield "1 KB value, 300 patterns", lambda: evaluate([many], request)


def _with_patterns(
    patterns: str | list[str], operator: str = "StringLike", key: str = "ses:FromDisplayName"
) -> Policy:
    statement = _statement("Allow", {operator: {key: patterns}})
    return compile_policy(json.dumps({"Version": "2012-10-17", "Statement": statement}))


# ---------------------------------------------------------------- hostile documents


def _hostile_documents() -> Iterator[Case]:
    """Texts as large as may be stored, and a quarter of the largest that are read at all."""
    for size in (_POLICY_OCTETS, MOST_CHARACTERS // 4):
        for name, text in _texts(size):
            yield f"read {size} octets, {name}", lambda text=text: _read(text)


def _read(text: str) -> None:
    try:
        compile_policy(text)
    except PolicyError:
        pass


def _texts(size: int) -> Iterator[tuple[str, str]]:
    def conditioned(value: Any) -> str:
        return json.dumps(
            {"Version": "2012-10-17", "Statement": _statement("Allow", {"StringLike": {"k": value}})}
        )

    room = size - len(conditioned("")) - 2
    yield "unclosed variables", conditioned("${" * (room // 2))
    yield "wildcards", conditioned("*a" * (room // 2))
    yield "many values", conditioned(["*a?"] * (room // 7))
    yield "a fault in every value", '{"Statement": [' + "1," * (size // 2 - 10) + "1]}"
    yield "one key again and again", "{" + '"a":1,' * (size // 6 - 2) + '"a":1}'
    yield "an unclosed string", '{"Id": "' + "\\\\" * (size // 2 - 5)


if __name__ == "__main__":
    main()
