"""What holds of every document, every set of them, and every request."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, find, given, settings
from hypothesis import strategies as st

from relay.authorization.document import Fault
from relay.authorization.evaluate import Effect, evaluate
from relay.authorization.policy import Policy, PolicyError, compile_policy
from relay.authorization.request import Request, caller
from relay.authorization.storable import check_storable
from relay.authorization.trace import Questions, trace

_quickly = settings(max_examples=100, deadline=None)

_USER, _OTHER = "arn:aws:iam::222222222222:user/app", "arn:aws:iam::333333333333:user/x"
_SESSION = "arn:aws:sts::222222222222:assumed-role/Mailer/job"
_SERVICE = "sns.amazonaws.com"
_IDENTITY = "arn:aws:ses:us-east-1:111111111111:identity/example.com"

# ---------------------------------------------------------------- documents

_BASES = (
    *("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"),
    *("StringLike", "StringNotLike", "NumericEquals", "NumericNotEquals", "NumericLessThan"),
    *("NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals", "DateEquals"),
    *("DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"),
    *(
        "Bool",
        "BinaryEquals",
        "IpAddress",
        "NotIpAddress",
        "ArnEquals",
        "ArnNotEquals",
        "ArnLike",
        "ArnNotLike",
    ),
)
_operators = st.one_of(
    st.just("Null"),
    st.tuples(
        st.sampled_from(("", "ForAllValues:", "ForAnyValue:")),
        st.sampled_from(_BASES),
        st.sampled_from(("", "IfExists")),
    ).map("".join),
)
_KEYS = ("ses:FromAddress", "ses:Recipients", "aws:SourceIp", "aws:CurrentTime", "aws:username", "k")
# Values that some operator can read, and some that none can.
_VALUES = (
    *("", "a", "a@example.com", "*@example.com", "*", "?", "true", "false", "10", "-1.5", "1e3", "2024"),
    *("2024-06-15T12:00:00Z", "2024-06-15T12:00Z", "203.0.113.7", "203.0.113.0/24", "2001:db8::1", "::/0"),
    *("0.0.0.0/0", _USER, "arn:aws:iam::*:user/*", "arn:*", _IDENTITY, "YQ==", "cXV", "ü", "\x00", "\u0130"),
    *("9" * 40, "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "0000", "fe80::1%eth0"),
)
_texts = st.one_of(st.sampled_from(_VALUES), st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
_wanted = st.one_of(
    _texts,
    st.sampled_from(("${aws:username}", "x${k, 'd'}*", "${*}", "${ses:Recipients}", "${", "${k,''}")),
    st.booleans(),
    st.integers(-3, 3),
)
_conditions = st.dictionaries(
    _operators,
    st.dictionaries(st.sampled_from(_KEYS), st.one_of(_wanted, st.lists(_wanted, max_size=3)), max_size=2),
    max_size=2,
)
_BINARY = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "*",
    "Resource": "*",
    "Condition": {"BinaryEquals": {"k": "ü"}},
}
_entries = st.sampled_from(
    (
        *(
            "*",
            {"AWS": "*"},
            {"AWS": "222222222222"},
            {"AWS": "arn:aws:iam::222222222222:root"},
            {"AWS": _USER},
        ),
        *({"AWS": [_USER, "222222222222"]}, {"Service": _SERVICE}, {"Federated": "x"}, {"AWS": []}),
        *({"AWS": "arn:aws:iam::222222222222:role/Mailer"}, {"AWS": _SESSION}, {"AWS": _OTHER}),
    )
)
_actions = st.sampled_from(("*", "ses:*", "SES:SendRawEmail", "ses:SendEmail", ["ses:Send*", "x"], []))
_resources = st.sampled_from(
    (
        *("*", _IDENTITY, f"{_IDENTITY}x", "arn:aws:ses:*:*:identity/*", "arn:*", []),
        *("arn:aws:ses:us-east-1:111111111111:identity/${k, 'example.com'}", f"{_IDENTITY}${{aws:username}}"),
    )
)


@st.composite
def _statements(draw: st.DrawFn, effect: str | None = None) -> dict[str, Any]:
    statement = {"Effect": effect or draw(st.sampled_from(("Allow", "Deny")))}
    # Most elements plain, so that most statements apply to somebody.
    for name, values in (("Principal", _entries), ("Action", _actions), ("Resource", _resources)):
        is_negated = draw(st.sampled_from((False, False, False, True)))
        statement[f"Not{name}" if is_negated else name] = draw(values)
    if draw(st.booleans()):
        statement["Condition"] = draw(_conditions)
    return statement


_documents = st.fixed_dictionaries(
    {"Statement": st.lists(_statements(), max_size=4)},
    optional={"Version": st.sampled_from(("2008-10-17", "2012-10-17"))},
)
_sets = st.lists(_documents, max_size=3)
_callers = st.sampled_from(
    (
        caller(_USER, "222222222222"),
        caller(_SESSION, "222222222222"),
        caller("arn:aws:iam::222222222222:root", "222222222222"),
        caller(_OTHER, "333333333333"),
        caller(_SERVICE, "222222222222"),
    )
)
_contexts = st.dictionaries(
    st.sampled_from([key.lower() for key in _KEYS]),
    st.one_of(_texts, st.lists(_texts, max_size=3).map(tuple)),
)
_requests = st.builds(
    Request,
    _callers,
    st.sampled_from(("ses:SendRawEmail", "ses:SendEmail", "")),
    st.sampled_from((_IDENTITY, f"{_IDENTITY}x", "nothing")),
    _contexts,
)


def _compiled(documents: list[dict[str, Any]]) -> list[Policy]:
    return [compile_policy(json.dumps(document), str(number)) for number, document in enumerate(documents)]


def _effect(documents: list[dict[str, Any]], request: Request) -> Effect:
    return evaluate(_compiled(documents), request).effect


# ---------------------------------------------------------------- reading


def _is_read_or_refused(text: str | bytes) -> None:
    read = _faults(text)
    assert read != ()
    for fault in read or ():
        assert fault.line >= 1
        assert fault.column >= 1
        assert fault.message
        assert fault.pointer == "" or fault.pointer.startswith("/")


def _faults(text: str | bytes) -> tuple[Fault, ...] | None:
    """What is wrong with the text; None if it is a policy."""
    try:
        compile_policy(text)
    except PolicyError as error:
        return error.faults
    return None


@_quickly
@given(st.one_of(st.text(), st.binary()))
@example("\ufeff{}")
@example("\ud800")
@example(b"\xff")
def test_any_text_is_a_policy_or_refused_with_places(text: str | bytes) -> None:
    _is_read_or_refused(text)


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5), _wanted),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.text(max_size=3),
                _operators,
                st.sampled_from(
                    ("Version", "Id", "Statement", "Sid", "Effect", "Principal", "NotPrincipal", "AWS")
                ),
                st.sampled_from(("Action", "NotAction", "Resource", "NotResource", "Condition", "Service")),
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=15,
)


@_quickly
@given(_json)
def test_any_json_is_a_policy_or_refused_with_places(value: Any) -> None:
    _is_read_or_refused(json.dumps(value))


@_quickly
@given(_documents, st.data())
def test_a_document_with_something_wrong_in_it_is_a_policy_or_refused(
    document: Any, data: st.DataObject
) -> None:
    text = json.dumps(document)
    at = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(at, min(len(text), at + 5)))
    _is_read_or_refused(text[:at] + data.draw(st.text(max_size=3)) + text[end:])


@_quickly
@given(_documents)
@example({"Statement": [_BINARY]})
def test_every_document_of_the_grammar_compiles_and_is_judged_for_storing(document: Any) -> None:
    text = json.dumps(document)
    assert len(compile_policy(text).statements) == len(document["Statement"])
    findings = check_storable(text, _IDENTITY)
    assert all(
        fault.pointer == "" or fault.pointer.startswith("/") for fault in findings.errors + findings.warnings
    )


# ---------------------------------------------------------------- deciding


@_quickly
@given(_sets, _requests)
@example(
    [{"Statement": [{**_BINARY, "Condition": {"BinaryEquals": {"k": "cXV4"}}}]}],
    Request(caller(_USER, "222222222222"), "ses:SendRawEmail", _IDENTITY, {"k": "ü"}),
)
def test_every_set_of_documents_answers_every_request(documents: list[Any], request: Request) -> None:
    assert _effect(documents, request) in set(Effect)


@_quickly
@given(_sets, _statements("Deny"), _requests, st.booleans())
def test_a_deny_more_never_allows(documents: list[Any], deny: Any, request: Request, is_first: bool) -> None:
    more = {"Version": "2012-10-17", "Statement": deny}
    after = _effect([more, *documents] if is_first else [*documents, more], request)
    assert after in (_effect(documents, request), Effect.EXPLICIT_DENY)


@_quickly
@given(_sets, _statements("Allow"), _requests)
def test_an_allow_more_never_refuses_and_an_allow_less_never_grants(
    documents: list[Any], allow: Any, request: Request
) -> None:
    before, after = _effect(documents, request), _effect([*documents, {"Statement": [allow]}], request)
    assert after is before or (before, after) == (Effect.IMPLICIT_DENY, Effect.ALLOW)


@_quickly
@given(_sets, _requests)
def test_without_an_allow_nothing_is_allowed(documents: list[Any], request: Request) -> None:
    denies = [
        {**document, "Statement": [one for one in document["Statement"] if one["Effect"] == "Deny"]}
        for document in documents
    ]
    assert _effect(denies, request) is not Effect.ALLOW


@_quickly
@given(_sets, _requests, st.randoms(use_true_random=False))
def test_order_never_matters(documents: list[Any], request: Request, random: Any) -> None:
    shuffled = [
        {**document, "Statement": random.sample(document["Statement"], len(document["Statement"]))}
        for document in random.sample(documents, len(documents))
    ]
    assert _effect(shuffled, request) is _effect(documents, request)


@_quickly
@given(_documents, _requests)
def test_statements_count_alike_in_one_document_or_in_several(document: Any, request: Request) -> None:
    apart = [{**document, "Statement": [statement]} for statement in document["Statement"]]
    assert _effect(apart, request) is _effect([document], request)


@_quickly
@given(_sets, st.lists(_requests, min_size=2, max_size=5))
def test_a_policy_that_has_answered_before_answers_the_same(
    documents: list[Any], requests: list[Request]
) -> None:
    policies = _compiled(documents)
    for request in [*requests, *requests]:
        assert evaluate(policies, request) == evaluate(_compiled(documents), request)


@_quickly
@given(_documents, _requests)
def test_letter_case_of_actions_never_matters(document: Any, request: Request) -> None:
    louder = Request(request.caller, request.action.upper(), request.resource, request.context)
    assert _effect([document], louder) is _effect([document], request)


class _Watched(dict[str, Any]):
    """A context that notes what it is asked for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        raise AssertionError(f"{key} is read past get()")

    def __contains__(self, key: object) -> bool:
        raise AssertionError(f"{key} is looked for past get()")

    def __iter__(self) -> Any:
        raise AssertionError("the context is read whole")


@_quickly
@given(_sets, _requests)
def test_a_policy_names_every_key_of_the_context_that_it_looks_at(
    documents: list[Any], request: Request
) -> None:
    """Precedents rest on it."""
    policies = _compiled(documents)
    watched = _Watched(request.context)
    evaluate(policies, replace(request, context=watched))
    assert watched.asked <= frozenset().union(*(policy.context_keys for policy in policies))


@_quickly
@given(_sets, _requests, _contexts)
def test_what_no_policy_names_makes_no_difference(
    documents: list[Any], request: Request, other: dict[str, Any]
) -> None:
    policies = _compiled(documents)
    named = frozenset().union(*(policy.context_keys for policy in policies))
    changed = {key: value for key, value in other.items() if key not in named}
    changed |= {key: value for key, value in request.context.items() if key in named}
    assert evaluate(policies, replace(request, context=changed)) == evaluate(policies, request)


# ---------------------------------------------------------------- explaining


@_quickly
@given(_sets, _requests)
def test_the_trace_agrees_with_the_verdict(documents: list[Any], request: Request) -> None:
    policies = _compiled(documents)
    verdict = evaluate(policies, request)
    traces = trace(policies, request)
    assert len(traces) == sum(len(document["Statement"]) for document in documents)
    applies = [one for one in traces if one.applies]
    denies = [one for one in applies if not one.statement.is_allow]
    if denies:
        assert verdict.effect is Effect.EXPLICIT_DENY
    else:
        assert verdict.effect is (Effect.ALLOW if applies else Effect.IMPLICIT_DENY)
    deciding = {(one.policy, one.statement.number) for one in denies or applies}
    assert not deciding or (verdict.policy, verdict.statement) in deciding
    json.dumps([one.as_record() for one in traces])


@_quickly
@given(_sets, _requests)
def test_a_remembered_question_has_the_same_verdict(documents: list[Any], request: Request) -> None:
    questions = Questions()
    policies = _compiled(documents)
    assert questions.ask("owner", iter(policies), request) == evaluate(policies, request)
    [question] = questions
    assert [one.applies for one in question.statements()] == [one.applies for one in trace(policies, request)]


@pytest.mark.parametrize("effect", list(Effect))
def test_each_verdict_is_met_by_these_documents(effect: Effect) -> None:
    patiently = settings(_quickly, max_examples=20_000)  # it ends with the first
    find(st.tuples(_sets, _requests), lambda pair: _effect(*pair) is effect, settings=patiently)
