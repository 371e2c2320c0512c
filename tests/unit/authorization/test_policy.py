"""Documents with errors: everything that is wrong is named, each with pointer, line and column.

In the texts below the mark ``¶`` stands in front of each place that must be named; it is taken out before
the text is read.
"""

from __future__ import annotations

import json

import pytest

from relay.authorization.document import MOST_CHARACTERS
from relay.authorization.evaluate import Effect, evaluate
from relay.authorization.policy import (
    Policy,
    PolicyError,
    compile_policy,
    compile_user_policy,
    unreadable,
)
from relay.authorization.request import Request, caller

_RESOURCE = "arn:aws:ses:us-east-1:111111111111:identity/example.com"
_USER = "arn:aws:iam::222222222222:user/app"
_GOOD = {"Effect": "Allow", "Principal": "*", "Action": "ses:SendRawEmail", "Resource": "*"}


def _statement(**changed: object) -> str:
    return json.dumps({**_GOOD, **changed})


def _with(member: str, *without: str) -> str:
    """A document whose one statement is good but for ``member``, written out, in front."""
    rest = json.dumps({name: value for name, value in _GOOD.items() if name not in without})
    return '{"Version": "2012-10-17",\n "Statement": [\n  {' + member + ", " + rest[1:] + "]}"


def _condition(text: str) -> str:
    return _with(f'"Condition": {text}')


def _marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its marks, and the line and column of each."""
    *parts, rest = text.split("¶")
    places, before = [], ""
    for part in parts:
        before += part
        places.append((before.count("\n") + 1, len(before) - before.rfind("\n")))
    return before + rest, places


def _faults(text: str | bytes) -> list[tuple[str, int, int, str]]:
    with pytest.raises(PolicyError) as caught:
        compile_policy(text)
    return [(fault.pointer, fault.line, fault.column, fault.message) for fault in caught.value.faults]


def _request(who: str = _USER, account: str = "222222222222") -> Request:
    return Request(caller(who, account), "ses:SendRawEmail", _RESOURCE, {})


# ---------------------------------------------------------------- no JSON


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("¶", "not JSON", id="empty"),
        pytest.param("  \n ¶", "not JSON", id="blank"),
        pytest.param("¶\ufeff{}", "not JSON", id="byte-order-mark"),
        pytest.param('{"Statement": []} ¶x', "not JSON: Extra data", id="trailing-text"),
        pytest.param('{"Statement": []}\n¶{}', "not JSON: Extra data", id="second-document"),
        pytest.param("{¶'Statement': []}", "not JSON", id="single-quotes"),
        pytest.param('{"Statement": ¶// all\n []}', "not JSON", id="comment"),
        pytest.param('{"Id": "a¶\nb"}', "not JSON", id="line-feed-in-string"),
        pytest.param('{"Id": "a¶\x00b"}', "not JSON", id="nul-in-string"),
        pytest.param('{"Id": ¶"a', "not JSON", id="unclosed-string"),
        pytest.param('{"Id": ¶NaN}', "not JSON: NaN is no value", id="nan"),
        pytest.param('{"Id": ¶Infinity}', "not JSON: Infinity is no value", id="infinity"),
        pytest.param('{"Id":\n ¶-Infinity}', "not JSON: -Infinity is no value", id="minus-infinity"),
        pytest.param('{"Id": "NaN", "Version": ¶NaN}', "not JSON: NaN is no value", id="nan-after-its-text"),
        pytest.param('{"Id": ¶nan}', "not JSON", id="nan-in-small-letters"),
        pytest.param('{"Id": ¶True}', "not JSON", id="python-true"),
        pytest.param('{"Id": ¶+1}', "not JSON", id="number-with-plus"),
        pytest.param("[" * 16 + "¶[", "nested more than 16 levels", id="too-deep"),
        pytest.param('{"a":' * 16 + "¶{", "nested more than 16 levels", id="too-deep-in-objects"),
        pytest.param("¶" + " " * MOST_CHARACTERS + "{}", "more than 262144 characters", id="too-large"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str, words: str) -> None:
    text, [place] = _marked(text)
    for form in (text, text.encode()):
        [(pointer, *where, message)] = _faults(form)
        assert (pointer, tuple(where)) == ("", place)
        assert words in message


@pytest.mark.parametrize(
    ("octets", "place"),
    [
        pytest.param(b'{\n "Id": "\xff"}', (2, 9), id="no-utf-8"),
        pytest.param('{"Id": "ü'.encode() + b'\xc3"}', (1, 10), id="half-a-character"),
        pytest.param(b'{"Id": "\xed\xa0\x80"}', (1, 9), id="surrogate-as-utf-8"),
        pytest.param(b'{"Id": "\xc0\xaf"}', (1, 9), id="overlong"),
        pytest.param('{"Id": "x"}'.encode("utf-16"), (1, 1), id="utf-16"),
    ],
)
def test_octets_that_are_not_utf_8_are_refused_with_their_place(
    octets: bytes, place: tuple[int, int]
) -> None:
    assert _faults(octets) == [("", *place, "not UTF-8")]


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        pytest.param('{"Id": ¶"\\ud800", "Statement": []}', "/Id", id="high"),
        pytest.param('{"Statement": [],\n "Id": ¶"\\udc00x"}', "/Id", id="low"),
        pytest.param('{"Id": ¶"\\udc00\\ud800"}', "/Id", id="wrong-way-round"),
        pytest.param('{"Statement": [1, {"Sid": ¶"\\ud83d"}]}', "/Statement/1/Sid", id="deep"),
        pytest.param('{¶"\\ud800": 1}', "", id="in-a-name"),
        pytest.param('{"Id": ¶"\ud800"}', "/Id", id="in-the-text-itself"),
    ],
)
def test_half_of_a_surrogate_pair_is_refused(text: str, pointer: str) -> None:
    text, [place] = _marked(text)
    assert _faults(text) == [(pointer, *place, "half of a surrogate pair is no character")]


def test_a_whole_surrogate_pair_is_one_character() -> None:
    policy = compile_policy(_with('"Sid": "\\ud83d\\ude00"'))
    assert policy.statements[0].sid == "\U0001f600"


# ---------------------------------------------------------------- no policy


@pytest.mark.parametrize(
    ("text", "pointer", "words"),
    [
        # The document.
        pytest.param("¶[]", "", "a policy is an object", id="root-list"),
        pytest.param('¶"x"', "", "a policy is an object", id="root-string"),
        pytest.param(" ¶null", "", "a policy is an object", id="root-null"),
        pytest.param("¶1", "", "a policy is an object", id="root-number"),
        pytest.param("¶true", "", "a policy is an object", id="root-boolean"),
        pytest.param("¶{}", "", "Statement is missing", id="no-statement"),
        pytest.param('{"Statement": [],\n ¶"Name": "x"}', "/Name", "unknown element 'Name'", id="unknown"),
        pytest.param(
            '{"Statement": [], ¶"version": "2012-10-17"}', "/version", "unknown element", id="version-case"
        ),
        pytest.param('{"Statement": [], ¶"": 1}', "/", "unknown element ''", id="empty-name"),
        pytest.param('{"Statement": [], ¶"a/b~c": 1}', "/a~1b~0c", "unknown element", id="escaped-pointer"),
        pytest.param(
            '{"Version": "2012-10-17", "Statement": [],\n ¶"Version": "2012-10-17"}',
            "/Version",
            "'Version' stands twice",
            id="duplicate-in-document",
        ),
        pytest.param(
            '{"Statement": [], ¶"Statement": []}', "/Statement", "stands twice", id="duplicate-statement"
        ),
        pytest.param(
            '{"Id": "a", ¶"\\u0049d": "a", "Statement": []}', "/Id", "stands twice", id="duplicate-in-escapes"
        ),
        pytest.param(
            '{"Version": ¶"2012-10-18", "Statement": []}', "/Version", "Version is", id="unknown-version"
        ),
        pytest.param('{"Version": ¶"", "Statement": []}', "/Version", "Version is", id="empty-version"),
        pytest.param('{"Version": ¶2012, "Statement": []}', "/Version", "a string", id="version-number"),
        pytest.param('{"Version": ¶null, "Statement": []}', "/Version", "a string", id="version-null"),
        pytest.param('{"Id": ¶7, "Statement": []}', "/Id", "a string", id="id-number"),
        pytest.param('{"Id": ¶["a"], "Statement": []}', "/Id", "a string", id="id-list"),
        pytest.param('{"Statement": ¶"x"}', "/Statement", "a statement is an object", id="statement-string"),
        pytest.param('{"Statement": ¶null}', "/Statement", "a statement is an object", id="statement-null"),
        pytest.param(
            '{"Statement": [¶null]}', "/Statement/0", "a statement is an object", id="statement-null-in-list"
        ),
        pytest.param(
            '{"Statement": [¶[]]}', "/Statement/0", "a statement is an object", id="statement-list-in-list"
        ),
        # The statement.
        pytest.param(
            _with('¶"Conditions": {}'),
            "/Statement/0/Conditions",
            "unknown element 'Conditions'",
            id="conditions",
        ),
        pytest.param(_with('¶"effect": "Deny"'), "/Statement/0/effect", "unknown element", id="effect-case"),
        pytest.param(
            _with('"Sid": "a", ¶"Sid": "b"'), "/Statement/0/Sid", "'Sid' stands twice", id="duplicate-sid"
        ),
        pytest.param(
            _with('"Condition": {}, ¶"Condition": {}'),
            "/Statement/0/Condition",
            "stands twice",
            id="duplicate-condition",
        ),
        pytest.param(_with('"Sid": ¶1'), "/Statement/0/Sid", "a string", id="sid-number"),
        pytest.param(_with('"Sid": ¶null'), "/Statement/0/Sid", "a string", id="sid-null"),
        pytest.param(
            '{"Statement": ['
            + _statement()
            + ",\n ¶{"
            + '"Effect": "Allow", "Principal": "*", "Action": "*"}]}',
            "/Statement/1",
            "Resource or NotResource is missing",
            id="no-resource",
        ),
        pytest.param(
            '{"Statement": ¶{"Principal": "*", "Action": "*", "Resource": "*"}}',
            "/Statement",
            "Effect is missing",
            id="no-effect",
        ),
        pytest.param(
            '{"Statement": [¶{"Effect": "Deny", "Action": "*", "Resource": "*"}]}',
            "/Statement/0",
            "Principal or NotPrincipal is missing",
            id="no-principal",
        ),
        pytest.param(
            '{"Statement": [¶{"Effect": "Deny", "Principal": "*", "Resource": "*"}]}',
            "/Statement/0",
            "Action or NotAction is missing",
            id="no-action",
        ),
        pytest.param(
            _with('"NotPrincipal": ¶"*"'),
            "/Statement/0/NotPrincipal",
            "exclude each other",
            id="both-principals",
        ),
        pytest.param(
            _with('"NotAction": ¶"ses:*"'), "/Statement/0/NotAction", "exclude each other", id="both-actions"
        ),
        pytest.param(
            _with('"NotResource": ¶"*"'),
            "/Statement/0/NotResource",
            "exclude each other",
            id="both-resources",
        ),
        # Effect.
        *(
            pytest.param(
                _with(f'"Effect": ¶{text}', "Effect"), "/Statement/0/Effect", words, id=f"effect-{id_}"
            )
            for text, words, id_ in (
                ('"allow"', 'Effect is "Allow" or "Deny"', "small"),
                ('"DENY"', 'Effect is "Allow" or "Deny"', "capitals"),
                ('""', 'Effect is "Allow" or "Deny"', "empty"),
                ('"Allow "', 'Effect is "Allow" or "Deny"', "blank-behind"),
                ('["Allow"]', "a string", "list"),
                ("true", "a string", "boolean"),
                ("null", "a string", "null"),
            )
        ),
        # Principal.
        *(
            pytest.param(
                _with(f'"{element}": ¶{text}', "Principal"),
                f"/Statement/0/{element}",
                'a principal other than "*" is an object',
                id=f"{element}-{id_}",
            )
            for element in ("Principal", "NotPrincipal")
            for text, id_ in (
                ('"123456789012"', "string"),
                ('["*"]', "list"),
                ("null", "null"),
                ("1", "number"),
            )
        ),
        *(
            pytest.param(
                _with(f'"Principal": {text}', "Principal"),
                f"/Statement/0/Principal{end}",
                words,
                id=f"principal-{id_}",
            )
            for text, end, words, id_ in (
                ('{¶"aws": "*"}', "/aws", "unknown kind of principal 'aws'", "kind-in-small-letters"),
                ('{"AWS": "*", ¶"Group": "x"}', "/Group", "unknown kind", "group"),
                ('{"AWS": "*", ¶"AWS": "*"}', "/AWS", "'AWS' stands twice", "duplicate"),
                ('{"AWS": ¶123456789012}', "/AWS", "a string", "account-as-number"),
                ('{"AWS": ["*", ¶12]}', "/AWS/1", "a string", "number-in-list"),
                ('{"AWS": ¶null}', "/AWS", "a string", "null"),
                ('{"AWS": [¶["*"]]}', "/AWS/0", "a string", "list-in-list"),
                ('{"Service": ¶{}}', "/Service", "a string", "object"),
            )
        ),
        # Action and Resource.
        *(
            pytest.param(
                _with(f'"{element}": {text}', element.removeprefix("Not")),
                f"/Statement/0/{element}{end}",
                "a string",
                id=f"{element}-{id_}",
            )
            for element in ("Action", "NotAction", "Resource", "NotResource")
            for text, end, id_ in (
                ("¶1", "", "number"),
                ("¶null", "", "null"),
                ("¶true", "", "boolean"),
                ('¶{"a": "b"}', "", "object"),
                ('["*", ¶null]', "/1", "null-in-list"),
                ('[¶["*"]]', "/0", "list-in-list"),
            )
        ),
        # Condition.
        *(
            pytest.param(_condition(text), f"/Statement/0/Condition{end}", words, id=f"condition-{id_}")
            for text, end, words, id_ in (
                ("¶[]", "", "Condition is an object", "list"),
                ("¶null", "", "Condition is an object", "null"),
                ('¶"x"', "", "Condition is an object", "string"),
                (
                    '{¶"StringIs": {}}',
                    "/StringIs",
                    "unknown condition operator 'StringIs'",
                    "unknown-operator",
                ),
                ('{¶"stringEquals": {}}', "/stringEquals", "unknown condition operator", "operator-case"),
                ('{¶"NullIfExists": {}}', "/NullIfExists", "unknown condition operator", "null-if-exists"),
                ('{¶"ForSomeValues:Bool": {}}', "/ForSomeValues:Bool", "unknown condition", "unknown-set"),
                ('{"Bool": {}, ¶"Bool": {}}', "/Bool", "'Bool' stands twice", "duplicate-operator"),
                ('{"Bool": {"k": "true", ¶"k": "true"}}', "/Bool/k", "'k' stands twice", "duplicate-key"),
                ('{"Bool": ¶[]}', "/Bool", "the value of Bool is an object", "operator-list"),
                ('{"Bool": ¶null}', "/Bool", "the value of Bool is an object", "operator-null"),
                ('{"Bool": ¶"true"}', "/Bool", "the value of Bool is an object", "operator-string"),
                ('{"Bool": {"k": ¶null}}', "/Bool/k", "a string, number or boolean", "value-null"),
                ('{"Bool": {"k": ¶{}}}', "/Bool/k", "a string, number or boolean", "value-object"),
                ('{"Bool": {"k": ["a", ¶null]}}', "/Bool/k/1", "a string, number", "null-in-list"),
                ('{"Bool": {"k": [¶["a"]]}}', "/Bool/k/0", "a string, number", "list-in-list"),
                ('{"Bool": {"a/b": ¶null}}', "/Bool/a~1b", "a string, number", "key-with-slash"),
            )
        ),
    ],
)
def test_what_is_no_policy_is_refused_with_its_place(text: str, pointer: str, words: str) -> None:
    text, [place] = _marked(text)
    for form in (text, text.encode()):
        [(found, *where, message)] = _faults(form)
        assert (found, tuple(where)) == (pointer, place)
        assert words in message


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        pytest.param(
            """{
  "Version": ¶"2020-01-01",
  ¶"Name": "x",
  "Statement": [
    {"Effect": ¶"allow", "Principal": {"AWS": [¶1, "*", ¶2]}, "Action": ¶null, "Resource": "*"},
    {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*",
     "Condition": {¶"StringIs": {}, "Bool": {"k": [¶null, "true"], ¶"k": "false"}}},
    ¶7
  ]
}""",
            [
                "/Version",
                "/Name",
                "/Statement/0/Effect",
                "/Statement/0/Principal/AWS/0",
                "/Statement/0/Principal/AWS/2",
                "/Statement/0/Action",
                "/Statement/1/Condition/StringIs",
                "/Statement/1/Condition/Bool/k/0",
                "/Statement/1/Condition/Bool/k",
                "/Statement/2",
            ],
            id="all-over",
        ),
        pytest.param('{"Statement": [¶¶¶¶{}]}', ["/Statement/0"] * 4, id="statement-without-anything"),
        pytest.param(
            '{"Statement": [¶{"Principal": "*", "Action": ¶1, "Resource": ¶2}]}',
            ["/Statement/0", "/Statement/0/Action", "/Statement/0/Resource"],
            id="missing-effect-and-others",
        ),
        pytest.param(
            '{"Id": ¶1, "Statement": [¶null]}', ["/Id", "/Statement/0"], id="wrong-id-and-statement"
        ),
        pytest.param(
            '{"Version": ¶1, "Statement": [¶null]}',
            ["/Version", "/Statement/0"],
            id="wrong-version-and-statement",
        ),
        pytest.param(
            _with('"Sid": ¶1, "Condition": {"Bool": ¶1, "Null": ¶2}'),
            ["/Statement/0/Sid", "/Statement/0/Condition/Bool", "/Statement/0/Condition/Null"],
            id="wrong-sid-and-two-operators",
        ),
    ],
)
def test_every_fault_of_a_document_is_found_at_once(text: str, pointers: list[str]) -> None:
    text, places = _marked(text)
    found = _faults(text)
    assert [(line, column) for _, line, column, _ in found] == places
    assert [pointer for pointer, *_ in found] == pointers


def test_an_error_reads_as_one_line_per_fault() -> None:
    with pytest.raises(PolicyError) as caught:
        compile_policy('{"Id": "a",\n "Statement": [1],\n "X": 2}')
    assert str(caught.value).splitlines() == [
        "line 2, column 16 (/Statement/0): a statement is an object",
        "line 3, column 2 (/X): unknown element 'X' in a policy",
    ]


def test_a_fault_of_the_whole_document_has_no_pointer() -> None:
    with pytest.raises(PolicyError, match=r"\Aline 1, column 1: not JSON: "):
        compile_policy("")


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("${" * (MOST_CHARACTERS // 2 - 200), id="unclosed-variables"),
        pytest.param("*a" * (MOST_CHARACTERS // 2 - 200), id="wildcards"),
        pytest.param("${a}" * (MOST_CHARACTERS // 4 - 200), id="variables"),
    ],
)
def test_the_largest_document_is_read_in_a_moment(text: str) -> None:
    document = {"Version": "2012-10-17", "Statement": {**_GOOD, "Condition": {"StringLike": {"k": text}}}}
    assert len(compile_policy(json.dumps(document)).statements) == 1


# ---------------------------------------------------------------- good documents


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"Statement": []}', id="no-statement"),
        pytest.param('{"Statement": ' + _statement() + "}", id="bare-statement"),
        pytest.param("\t\r\n" + '{"Statement": [' + _statement() + "]}\r\n ", id="white-space-around"),
        pytest.param('{"Statement": [' + _statement(Condition={}) + "]}", id="empty-condition"),
        pytest.param('{"Id": "", "Statement": [' + _statement(Sid="a b") + "]}", id="any-id-and-sid"),
        pytest.param(_condition('{"NumericEquals": {"k": ' + "9" * 5000 + "}}"), id="long-number"),
        pytest.param(_condition('{"NumericEquals": {"k": [1e999999999, -0, 0.0]}}'), id="odd-numbers"),
        pytest.param(_condition('{"Bool": {"k": [true, false, "x", 1]}}'), id="values-of-each-type"),
        pytest.param(_condition('{"Bool": {"any key": "true"}, "Null": {"": []}}'), id="unknown-keys"),
    ],
)
def test_a_document_that_is_a_policy_compiles(text: str) -> None:
    assert compile_policy(text).fault is None
    assert compile_policy(text.encode()).fault is None


def test_a_policy_knows_its_name_version_and_statements() -> None:
    text = (
        '{"Version": "2012-10-17", "Statement": ['
        + _statement(Sid="a")
        + ","
        + _statement(Effect="Deny")
        + "]}"
    )
    policy = compile_policy(text, "mine")
    assert (policy.name, policy.version, policy.fault) == ("mine", "2012-10-17", None)
    assert [(one.number, one.sid, one.is_allow) for one in policy.statements] == [
        (0, "a", True),
        (1, None, False),
    ]


def test_a_document_without_version_is_of_the_old_one() -> None:
    assert compile_policy('{"Statement": []}').version == "2008-10-17"


def test_numbers_and_booleans_are_kept_as_they_were_written() -> None:
    policy = compile_policy(_condition('{"StringEquals": {"k": [10.50, 1E3, -0, true, "x"]}}'))
    assert policy.statements[0].conditions[0].values == ("10.50", "1E3", "-0", "true", "x")


def test_a_verdict_names_policy_statement_and_sid() -> None:
    text = '{"Statement": [' + _statement(Action="ses:Get*") + "," + _statement(Sid="lend") + "]}"
    verdict = evaluate(
        [compile_policy('{"Statement": []}', "empty"), compile_policy(text, "second")], _request()
    )
    assert (verdict.effect, verdict.policy, verdict.statement, verdict.sid) == ("Allow", "second", 1, "lend")


def test_silence_names_nothing() -> None:
    verdict = evaluate([compile_policy('{"Statement": []}', "empty")], _request())
    assert (verdict.effect, verdict.policy, verdict.statement, verdict.sid) == (
        "ImplicitDeny",
        None,
        None,
        None,
    )


def test_a_policy_answers_every_caller_however_many_it_has_seen() -> None:
    policy = compile_policy('{"Statement": [' + _statement(Principal={"AWS": _USER}) + "]}")
    strangers = [f"arn:aws:iam::333333333333:user/u{number}" for number in range(600)]
    for stranger in strangers:
        assert evaluate([policy], _request(stranger, "333333333333")).effect == "ImplicitDeny"
        assert evaluate([policy], _request()).effect == "Allow"
    assert evaluate([policy], _request(strangers[0], "333333333333")).effect == "ImplicitDeny"


@pytest.mark.parametrize(
    ("entry", "who"),
    [
        pytest.param("service:sns.amazonaws.com", "sns.amazonaws.com", id="service"),
        pytest.param(
            "role:aws:222222222222:Mailer",
            "arn:aws:sts::222222222222:assumed-role/Mailer/job",
            id="role",
        ),
    ],
)
def test_an_entry_under_aws_names_nobody_by_our_own_spelling(entry: str, who: str) -> None:
    policy = compile_policy('{"Statement": [' + _statement(Principal={"AWS": entry}) + "]}")
    assert evaluate([policy], _request(who)).effect == "ImplicitDeny"


# ---------------------------------------------------------------- a user's own policies


def test_a_users_policy_has_no_principal() -> None:
    statement = {"Effect": "Allow", "Action": "ses:Send*", "Resource": "*"}
    policy = compile_user_policy(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    assert policy.statements[0].principals is None
    assert evaluate([policy], _request()).effect == "Allow"


@pytest.mark.parametrize("element", ["Principal", "NotPrincipal"])
def test_a_principal_in_a_users_policy_is_an_error(element: str) -> None:
    text = f'{{"Statement": {{"Effect": "Allow", "{element}": ¶"*", "Action": "*", "Resource": "*"}}}}'
    text, [place] = _marked(text)
    with pytest.raises(PolicyError) as caught:
        compile_user_policy(text)
    [fault] = caught.value.faults
    assert (fault.pointer, fault.line, fault.column) == (f"/Statement/{element}", *place)


# ---------------------------------------------------------------- a document that cannot be read


@pytest.fixture
def broken() -> Policy:
    with pytest.raises(PolicyError) as caught:
        compile_policy("{", "broken")
    return unreadable("broken", caught.value)


@pytest.mark.parametrize("is_first", [True, False])
def test_nothing_is_allowed_beside_a_document_that_cannot_be_read(broken: Policy, is_first: bool) -> None:
    allow = compile_policy('{"Statement": [' + _statement() + "]}", "good")
    verdict = evaluate([broken, allow] if is_first else [allow, broken], _request())
    assert verdict.effect is Effect.IMPLICIT_DENY
    assert verdict.unreadable == "broken"


def test_a_deny_beside_a_document_that_cannot_be_read_is_still_a_deny(broken: Policy) -> None:
    deny = compile_policy('{"Statement": [' + _statement(Effect="Deny") + "]}", "good")
    assert evaluate([broken, deny], _request()).effect is Effect.EXPLICIT_DENY
    assert "line 1" in (broken.fault or "")
