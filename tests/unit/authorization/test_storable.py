"""What may be attached to an identity, and what its owner is warned of.

Each rule has documents that break exactly this one and documents that do not.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.authorization.storable import check_storable

_ARN = "arn:aws:ses:us-east-1:111111111111:identity/example.com"
_USER = "arn:aws:iam::222222222222:user/app"
_GOOD: dict[str, Any] = {
    "Sid": "Lend",
    "Effect": "Allow",
    "Principal": {"AWS": _USER},
    "Action": "ses:SendRawEmail",
    "Resource": _ARN,
}


def _document(version: str | None = "2012-10-17", **changed: Any) -> str:
    """One statement; a value of None takes the element away."""
    statement = {name: value for name, value in {**_GOOD, **changed}.items() if value is not None}
    head = {"Version": version} if version else {}
    return json.dumps({**head, "Statement": [statement]}, ensure_ascii=False)


def _conditioned(condition: dict[str, Any], **changed: Any) -> str:
    return _document(Condition=condition, **changed)


def _errors(text: str | bytes, arn: str = _ARN) -> list[tuple[str, str]]:
    return [(fault.pointer, fault.message) for fault in check_storable(text, arn).errors]


def _warnings(text: str | bytes, arn: str = _ARN) -> list[tuple[str, str]]:
    findings = check_storable(text, arn)
    assert findings.errors == ()
    return [(fault.pointer, fault.message) for fault in findings.warnings]


def _case(id_: str, text: str, pointer: str, words: str) -> Any:
    return pytest.param(text, pointer, words, id=id_)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("text", "pointer", "words"),
    [
        _case("no-statement", '{"Statement": []}', "", "at least one statement"),
        _case("no-principal", _document(Principal={}), "/Principal", "at least one principal"),
        _case("empty-principals", _document(Principal={"AWS": []}), "/Principal", "at least one principal"),
        _case(
            "not-principal-empty", _document(Principal=None, NotPrincipal={}), "/NotPrincipal", "at least one"
        ),
        *(
            _case(
                f"principal-{id_}", _document(Principal={"AWS": entry}), "/Principal/AWS", "invalid principal"
            )
            for id_, entry in (
                ("wildcard", "arn:aws:iam::222222222222:user/*"),
                ("question-mark", "arn:aws:iam::222222222222:user/ap?"),
                ("wildcard-in-account", "22222222222*"),
                ("eleven-digits", "22222222222"),
                ("thirteen-digits", "2222222222222"),
                ("other-digits", "٢٢٢٢٢٢٢٢٢٢٢٢"),
                ("group", "arn:aws:iam::222222222222:group/app"),
                ("name", "app"),
                ("empty", ""),
                ("line-feed-behind", _USER + "\n"),
                ("blank-in-front", " " + _USER),
                ("other-service", "arn:aws:s3:::bucket"),
                ("iam-with-region", "arn:aws:iam:us-east-1:222222222222:user/app"),
                ("user-without-name", "arn:aws:iam::222222222222:user/"),
                ("session-without-name", "arn:aws:sts::222222222222:assumed-role/Mailer"),
                ("other-partition", "arn:aws-cn:iam::222222222222:user/app"),
                ("service-under-aws", "cognito-idp.amazonaws.com"),
                ("our-own-spelling", "service:cognito-idp.amazonaws.com"),
                ("short-unique-id", "AIDA123"),
            )
        ),
        *(
            _case(
                f"service-{id_}", _document(Principal={"Service": entry}), "/Principal/Service", "a service"
            )
            for id_, entry in (
                ("wildcard", "*"),
                ("wildcard-inside", "cognito-*.amazonaws.com"),
                ("of-somebody", "mail.example.com"),
                ("account", "222222222222"),
                ("capitals", "Cognito-IDP.amazonaws.com"),
                ("look-alike", "xamazonaws.com"),
            )
        ),
        _case(
            "one-of-several-principals",
            _document(Principal={"AWS": [_USER, "arn:aws:iam::222222222222:user/*"]}),
            "/Principal/AWS/1",
            "invalid principal",
        ),
        _case(
            "not-principal-wildcard",
            _document(Principal=None, NotPrincipal={"AWS": "arn:aws:iam::222222222222:user/*"}),
            "/NotPrincipal/AWS",
            "invalid principal",
        ),
        *(
            _case(
                f"not-principal-in-deny-{id_}",
                _document(Effect="Deny", Principal=None, NotPrincipal={"AWS": entries}),
                "/NotPrincipal",
                "lists each user together with its account",
            )
            for id_, entries in (
                ("only-user", _USER),
                ("only-account", "222222222222"),
                ("only-root", "arn:aws:iam::222222222222:root"),
                ("user-and-another-account", [_USER, "333333333333"]),
                ("only-role", "arn:aws:iam::222222222222:role/Mailer"),
                ("user-and-more-accounts", [_USER, "222222222222", "333333333333"]),
            )
        ),
        _case("not-action", _document(Action=None, NotAction="ses:Get*"), "/NotAction", "cannot be stored"),
        _case("not-resource", _document(Resource=None, NotResource=_ARN), "/NotResource", "cannot be stored"),
        _case("no-action", _document(Action=[]), "/Action", "at least one action"),
        *(
            _case(f"action-{id_}", _document(Action=action), "/Action", "no sending action of SES")
            for id_, action in (
                ("star", "*"),
                ("other-service", "s3:GetObject"),
                ("sesv2", "sesv2:SendEmail"),
                ("misspelt", "ses:SendRawMail"),
                ("empty", ""),
                ("prefix-wildcard", "s*:SendRawEmail"),
                ("prefix-of-a-name", "ses:SendRaw"),
                ("matches-nothing", "ses:Receive*"),
                ("variable", "ses:${aws:username}"),
                ("blank-behind", "ses:SendRawEmail "),
            )
        ),
        _case(
            "one-of-several-actions",
            _document(Action=["ses:Send*", "ses:X"]),
            "/Action/1",
            "no sending action",
        ),
        *(
            _case(f"resource-{id_}", _document(Resource=resource), "/Resource", f'Resource is "{_ARN}"')
            for id_, resource in (
                ("star", "*"),
                ("other-identity", _ARN.replace("example.com", "other.example")),
                ("other-case", _ARN.replace("example", "Example")),
                ("wildcard", _ARN.replace("example.com", "*")),
                ("name", "example.com"),
                ("two", [_ARN, "*"]),
                ("the-same-twice", [_ARN, _ARN]),
                ("none", []),
            )
        ),
        _case(
            "no-value",
            _conditioned({"Bool": {"aws:SecureTransport": []}}),
            "/Condition/Bool/aws:SecureTransport",
            "at least one value",
        ),
        *(
            _case(
                f"several-values-{operator}",
                _conditioned({operator: {key: "*@example.com"}}),
                f"/Condition/{operator}/{key}",
                f"write ForAllValues:{operator} or ForAnyValue:{operator}",
            )
            for operator, key in (
                ("StringLike", "ses:Recipients"),
                ("StringNotLike", "SES:recipients"),
                ("StringEqualsIfExists", "ses:Recipients"),
                ("StringEquals", "aws:CalledVia"),
            )
        ),
        *(
            _case(
                f"value-{operator}-{value!r}",
                _conditioned({operator: {"k": value}}),
                f"/Condition/{operator}/k",
                words,
            )
            for operator, words, values in (
                ("Bool", "is not true or false", ("True", "1", "yes", "", "${aws:SecureTransport}", 0)),
                ("Null", "is not true or false", ("True", "no", 1)),
                ("BoolIfExists", "is not true or false", ("FALSE",)),
                (
                    "NumericEquals",
                    "is not a number",
                    ("ten", "1e3", "+1", ".5", "1.", " 1", "0x1", "", "NaN", True),
                ),
                ("NumericLessThan", "is not a number", ("${k}",)),
                (
                    "DateLessThan",
                    "is not an instant",
                    (
                        *(
                            "2024",
                            "2024-06-15T12:00:00",
                            "2024-13",
                            "2024-02-30",
                            "2024-6-15",
                            "2024-06-15 12:00Z",
                        ),
                        *("tomorrow", "2024-06-15T25:00Z", "${aws:CurrentTime}", ""),
                    ),
                ),
                ("DateNotEquals", "is not an instant", (2024,)),
                (
                    "IpAddress",
                    "is not an address or a block",
                    (
                        "example.com",
                        "203.0.113.0/33",
                        "203.0.113",
                        "2001:db8::/129",
                        "203.0.113.*",
                        "",
                        "fe80::1%eth0",
                    ),
                ),
                ("NotIpAddress", "is not an address or a block", ("203.0.113.256",)),
                ("BinaryEquals", "is not base64", ("cXV", "c V4", "ü")),
                (
                    "ArnLike",
                    "an ARN has six parts",
                    ("*", "arn:aws:ses:*", "arn:aws:iam::${aws:PrincipalAccount}:user/app", ""),
                ),
                ("ArnNotEquals", "an ARN has six parts", ("example.com",)),
                (
                    "StringLike",
                    "a default is written",
                    ("${k,'x'}", "${k, ''}", "${k, x}", "${k , 'x'}y${k,'x'}", "${k,  'x'}"),
                ),
            )
            for value in values
        ),
        _case(
            "one-of-several-values",
            _conditioned({"Bool": {"k": ["true", "x"]}}),
            "/Condition/Bool/k/1",
            "'x' is not",
        ),
        _case("too-large", _document(Sid="x" * 4096), "", "a policy has at most 4096"),
        _case("too-large-in-octets", _document(Sid="ü" * 2048), "", "a policy has at most 4096"),
    ],
)
def test_a_document_that_breaks_one_rule_is_not_stored(text: str, pointer: str, words: str) -> None:
    [(found, message)] = _errors(text)
    assert found.removeprefix("/Statement/0") == pointer
    assert words in message


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(_document(), id="plain"),
        pytest.param(_document(version=None), id="without-version"),
        pytest.param(_document(version="2008-10-17"), id="old-version"),
        pytest.param(_document(Sid="any text, twice as long"), id="any-sid"),
        pytest.param(json.dumps({"Statement": _GOOD}), id="bare-statement"),
        pytest.param(json.dumps({"Id": "x", "Statement": [_GOOD, _GOOD]}), id="sid-twice"),
        pytest.param(_document(Resource=[_ARN]), id="resource-in-list"),
        pytest.param(_document(Principal="*"), id="everyone"),
        pytest.param(_document(Principal={"AWS": "*"}), id="everyone-under-aws"),
        *(
            pytest.param(_document(Principal={kind: entry}), id=f"principal-{kind}-{entry}")
            for kind, entry in (
                ("AWS", "000000000001"),
                ("AWS", "arn:aws:iam::222222222222:root"),
                ("AWS", "arn:aws:iam::222222222222:user/path/to/App+1@example.com"),
                ("AWS", "arn:aws:iam::222222222222:role/Mailer"),
                ("AWS", "arn:aws:sts::222222222222:assumed-role/Mailer/job"),
                ("AWS", "arn:aws:sts::222222222222:federated-user/ann"),
                ("AWS", "AIDAQ3EGSXMPLE7K2M9QX"),
                ("Service", "cognito-idp.amazonaws.com"),
                ("Federated", "cognito-identity.amazonaws.com"),
                ("CanonicalUser", "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"),
            )
        ),
        *(
            pytest.param(
                _document(Effect="Deny", Principal=None, NotPrincipal=entries), id=f"not-principal-{id_}"
            )
            for id_, entries in (
                ("user-and-account", {"AWS": [_USER, "222222222222"]}),
                ("user-and-root", {"AWS": ["arn:aws:iam::222222222222:root", _USER]}),
                ("everyone", "*"),
                ("service", {"Service": "sns.amazonaws.com"}),
            )
        ),
        pytest.param(_document(Principal=None, NotPrincipal={"AWS": _USER}), id="not-principal-in-allow"),
        *(
            pytest.param(_document(Action=action), id=f"action-{action}")
            for action in (
                *(
                    "ses:SendEmail",
                    "ses:SendRawEmail",
                    "ses:SendTemplatedEmail",
                    "ses:SendBulkTemplatedEmail",
                ),
                *("ses:*", "ses:Send*", "SES:sendrawemail", "ses:?endRawEmail", "ses:GetEmailIdentity"),
            )
        ),
        *(
            pytest.param(_conditioned({operator: {"k": list(values)}}), id=operator)
            for operator, values in (
                ("Bool", ("true", "false", True, False)),
                ("Null", ("true", False)),
                ("NumericEquals", ("0", "-1.50", 10, 2.5)),
                (
                    "DateGreaterThan",
                    (
                        "2021-08-31T12:00Z",
                        "2024-06-15T12:00:00Z",
                        "2024-06-15T12:00:00.5+02:00",
                        1718452800,
                        "0",
                    ),
                ),
                ("NotIpAddress", ("203.0.113.7", "203.0.113.0/24", "203.0.113.9/24", "::/0", "2001:DB8::1")),
                ("BinaryEquals", ("", "cXV4", "cXU=")),
                ("ArnLike", (_ARN, "arn:*:*:*:*:*", "arn:aws:iam::222222222222:user/${aws:username}")),
                (
                    "StringLike",
                    (
                        "",
                        "*",
                        "${aws:username}",
                        "${aws:username, 'x'}@example.com",
                        "${*}",
                        "${open",
                        "a, b",
                    ),
                ),
                ("StringEqualsIfExists", ("${k, 'a b?'}",)),
                ("ForAllValues:StringLike", ("*@example.com",)),
            )
        ),
        pytest.param(_conditioned({"Null": {"ses:Recipients": "false"}}), id="null-of-recipients"),
        pytest.param(
            _conditioned({"ForAnyValue:StringLike": {"ses:Recipients": "*"}}), id="set-of-recipients"
        ),
        pytest.param(
            _conditioned({"StringLike": {"k": "${k,'x'}"}}, version=None), id="default-in-old-version"
        ),
        pytest.param(_conditioned({}), id="empty-condition"),
        pytest.param(_conditioned({"Bool": {}}), id="operator-without-keys"),
    ],
)
def test_a_document_that_breaks_no_rule_is_stored(text: str) -> None:
    assert _errors(text) == []
    assert _errors(text.encode()) == []


@pytest.mark.parametrize("size", [4096, 4097])
def test_a_document_has_at_most_4096_octets(size: int) -> None:
    text = _document(Sid="ü")
    text += " " * (size - len(text.encode()))
    assert [pointer for pointer, _ in _errors(text)] == [""] * (size > 4096)


def test_every_rule_that_is_broken_is_named_in_the_order_of_the_text() -> None:
    text = _document(
        Principal={"AWS": ["app"]}, Action="*", Resource="*", Condition={"Bool": {"k": ["x", "y"]}}
    )
    assert [pointer.removeprefix("/Statement/0") for pointer, _ in _errors(text)] == [
        *("/Principal/AWS/0", "/Action", "/Resource", "/Condition/Bool/k/0", "/Condition/Bool/k/1"),
    ]


def test_each_statement_is_looked_at() -> None:
    text = json.dumps({"Statement": [_GOOD, _GOOD, {**_GOOD, "Resource": "*"}]})
    assert [pointer for pointer, _ in _errors(text)] == ["/Statement/2/Resource"]


def test_what_is_no_policy_is_not_stored_and_not_warned_of() -> None:
    findings = check_storable('{"Statement": [1]}', _ARN)
    assert [fault.pointer for fault in findings.errors] == ["/Statement/0"]
    assert findings.warnings == ()


def test_nothing_is_warned_of_while_there_are_errors() -> None:
    findings = check_storable(_document(Principal="*", Resource="*"), _ARN)
    assert [fault.pointer for fault in findings.errors] == ["/Statement/0/Resource"]
    assert findings.warnings == ()


def test_a_policy_of_an_address_names_that_address() -> None:
    arn = "arn:aws:ses:us-east-1:111111111111:identity/Ann@example.com"
    assert _errors(_document(Resource=arn), arn) == []
    assert [pointer for pointer, _ in _errors(_document(), arn)] == ["/Statement/0/Resource"]


# ---------------------------------------------------------------- the policies that SES documents


_SENDING = ["ses:SendEmail", "ses:SendRawEmail"]
_ACCOUNT = {"AWS": ["123456789012"]}


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"Principal": _ACCOUNT, "Action": _SENDING}, id="account"),
        pytest.param({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": _SENDING}, id="root"),
        pytest.param(
            {"Principal": {"AWS": "arn:aws:iam::111122223333:user/John"}, "Action": "ses:Send*"}, id="user"
        ),
        pytest.param(
            {
                "Principal": {"Service": "cognito-idp.amazonaws.com"},
                "Action": _SENDING,
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": "888888888888"},
                    "ArnLike": {
                        "aws:SourceArn": "arn:aws:cognito-idp:us-east-1:888888888888:userpool/your-pool"
                    },
                },
            },
            id="service",
        ),
        pytest.param(
            {
                "Principal": "*",
                "Action": _SENDING,
                "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-xxxxxxxxxxx"}},
            },
            id="organization",
        ),
        *(
            pytest.param({"Principal": _ACCOUNT, "Action": _SENDING, "Condition": condition}, id=id_)
            for id_, condition in (
                ("from-marketing", {"StringLike": {"ses:FromAddress": "marketing+.*@example.com"}}),
                ("from-invoicing", {"StringLike": {"ses:FromAddress": "invoicing*@example.com"}}),
                ("display-name", {"StringLike": {"ses:FromDisplayName": "Marketing"}}),
                (
                    "from-and-feedback",
                    {
                        "StringLike": {
                            "ses:FromAddress": "*@example.com",
                            "ses:FeedbackAddress": "*@example.com",
                        }
                    },
                ),
                ("recipients", {"ForAllValues:StringLike": {"ses:Recipients": ["*@example.com"]}}),
                (
                    "between-two-dates",
                    {
                        "DateGreaterThan": {"aws:CurrentTime": "2021-08-31T12:00Z"},
                        "DateLessThan": {"aws:CurrentTime": "2021-10-01T12:00Z"},
                    },
                ),
                ("address-range", {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}),
                ("under-tls", {"Bool": {"aws:SecureTransport": "true"}}),
                ("api-version", {"StringEquals": {"ses:ApiVersion": "2"}}),
            )
        ),
        pytest.param(
            {
                "Effect": "Deny",
                "Principal": _ACCOUNT,
                "Action": "ses:*",
                "Condition": {"StringLike": {"ses:FromAddress": "*admin*example.com"}},
            },
            id="no-admin",
        ),
        pytest.param(
            {
                "Principal": {"AWS": "arn:aws:iam::111111111111:user/app"},
                "Action": ["ses:GetEmailIdentity", "ses:UpdateEmailIdentityPolicy", "ses:BatchGetMetricData"],
            },
            id="management",
        ),
    ],
)
@pytest.mark.parametrize("version", ["2008-10-17", "2012-10-17"])
def test_the_documented_examples_are_stored(changed: dict[str, Any], version: str) -> None:
    assert _errors(_document(version, **changed)) == []


# ---------------------------------------------------------------- warnings


_FROM, _FEEDBACK = "ses:FromAddress", "ses:FeedbackAddress"
_ONE_NAME = {"StringEquals": {_FROM: "ceo@example.com"}}


@pytest.mark.parametrize(
    ("text", "pointer", "words"),
    [
        _case(
            "allow-not-principal",
            _document(Principal=None, NotPrincipal={"AWS": _USER}),
            "/NotPrincipal",
            "not listed",
        ),
        _case("everyone", _document(Principal="*"), "/Principal", "lets everyone"),
        _case(
            "everyone-under-aws", _document(Principal={"AWS": [_USER, "*"]}), "/Principal", "lets everyone"
        ),
        _case(
            "everyone-empty-condition", _document(Principal="*", Condition={}), "/Principal", "lets everyone"
        ),
        _case("federated", _document(Principal={"Federated": "x"}), "/Principal", "never matches"),
        _case("canonical-user", _document(Principal={"CanonicalUser": "x"}), "/Principal", "never matches"),
        _case(
            "deleted-user",
            _document(Principal={"AWS": "AIDAQ3EGSXMPLE7K2M9QX"}),
            "/Principal",
            "never matches",
        ),
        _case("send-email", _document(Action="ses:SendEmail"), "/Action", "SMTP is ses:SendRawEmail"),
        _case(
            "send-email-and-templated",
            _document(Action=["ses:SendEmail", "ses:SendTemplatedEmail"]),
            "/Action",
            "SMTP is ses:SendRawEmail",
        ),
        *(
            _case(
                f"all-values-{id_}",
                _conditioned(condition),
                "/Condition",
                'add "Null": {"ses:Recipients": "false"}',
            )
            for id_, condition in (
                ("alone", {"ForAllValues:StringLike": {"ses:Recipients": "*@example.com"}}),
                (
                    "guarded-by-the-wrong-value",
                    {"ForAllValues:StringLike": {"ses:Recipients": "*"}, "Null": {"ses:Recipients": "true"}},
                ),
                (
                    "guarded-by-both-values",
                    {
                        "ForAllValues:StringLike": {"ses:Recipients": "*"},
                        "Null": {"ses:Recipients": [True, False]},
                    },
                ),
                (
                    "guarded-on-another-key",
                    {"ForAllValues:StringLike": {"ses:Recipients": "*"}, "Null": {_FROM: "false"}},
                ),
            )
        ),
        _case(
            "variables-without-version",
            _conditioned({"StringLike": {"ses:FromDisplayName": "${aws:username}"}}, version=None),
            "/Condition",
            'plain text without "Version": "2012-10-17"',
        ),
        _case(
            "variables-in-old-version",
            _conditioned(
                {"StringLike": {"ses:FromDisplayName": ["x", "${aws:username}"]}}, version="2008-10-17"
            ),
            "/Condition",
            "plain text",
        ),
        *(
            _case(
                f"deny-exactly-{operator}-{key}",
                _conditioned({operator: {key: "ceo@example.com"}}, Effect="Deny"),
                "/Condition",
                "slipped past by a +label",
            )
            for operator, key in (
                ("StringEquals", _FROM),
                ("StringEqualsIgnoreCase", _FEEDBACK),
                ("StringEqualsIfExists", _FROM),
                ("StringEquals", "SES:fromaddress"),
            )
        ),
        *(
            _case(f"never-{id_}", _conditioned(condition), "/Condition", "never has such a value")
            for id_, condition in (
                ("unknown-key", {"StringEquals": {"ses:From": "ann@example.com"}}),
                ("vpc", {"StringEquals": {"aws:SourceVpc": "vpc-1"}}),
                ("foreign-address", {"StringEquals": {_FROM: "ann@other.example"}}),
                ("foreign-addresses", {"StringLike": {_FROM: ["ann@other.example", "bob@other.example"]}}),
                ("address-with-capitals-in-domain", {"StringEquals": {_FROM: "ann@Example.com"}}),
                ("no-address", {"StringEquals": {_FROM: "example.com"}}),
                ("parent-domain", {"StringEquals": {_FROM: "ann@com"}}),
                ("look-alike-domain", {"StringEquals": {_FROM: "ann@notexample.com"}}),
                ("any-value-of-unknown-key", {"ForAnyValue:StringLike": {"ses:To": "*"}}),
            )
        ),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(text: str, pointer: str, words: str) -> None:
    [(found, message)] = _warnings(text)
    assert found.removeprefix("/Statement/0") == pointer
    assert words in message


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(_document(), id="plain"),
        pytest.param(_document(Effect="Deny", Principal="*"), id="deny-everyone"),
        pytest.param(
            _conditioned({"Bool": {"aws:SecureTransport": "true"}}, Principal="*"), id="everyone-if"
        ),
        pytest.param(
            _document(Effect="Deny", Principal=None, NotPrincipal={"AWS": [_USER, "222222222222"]}),
            id="deny-not-principal",
        ),
        pytest.param(_document(Principal={"AWS": _USER, "Federated": "x"}), id="federated-beside-user"),
        pytest.param(
            _document(Principal={"AWS": [_USER, "AIDAQ3EGSXMPLE7K2M9QX"]}), id="deleted-user-beside-user"
        ),
        pytest.param(_document(Action=["ses:SendEmail", "ses:SendRawEmail"]), id="both-actions"),
        pytest.param(_document(Action="ses:Send*"), id="the-family"),
        pytest.param(_document(Action="ses:SendTemplatedEmail"), id="templated"),
        pytest.param(
            _conditioned(
                {"ForAllValues:StringLike": {"ses:Recipients": "*"}, "Null": {"ses:recipients": "false"}}
            ),
            id="all-values-guarded",
        ),
        pytest.param(
            _conditioned(
                {"ForAllValues:StringLike": {"ses:Recipients": "*"}, "Null": {"ses:Recipients": False}}
            ),
            id="all-values-guarded-by-boolean",
        ),
        pytest.param(
            _conditioned({"ForAllValues:StringLike": {"ses:Recipients": "*"}}, Effect="Deny"),
            id="all-values-in-deny",
        ),
        pytest.param(_conditioned({"ForAnyValue:StringLike": {"ses:Recipients": "*"}}), id="any-value"),
        pytest.param(
            _conditioned({"StringLike": {"ses:FromDisplayName": "${aws:username}"}}), id="variables"
        ),
        pytest.param(_conditioned({"StringLike": {_FROM: "*@example.com"}}, version=None), id="no-variables"),
        pytest.param(_conditioned(_ONE_NAME), id="allow-exactly"),
        pytest.param(
            _conditioned({"StringLike": {_FROM: "*ceo*@example.com"}}, Effect="Deny"), id="deny-like"
        ),
        pytest.param(
            _conditioned({"StringNotEquals": {_FROM: "ceo@example.com"}}, Effect="Deny"),
            id="deny-all-but-one",
        ),
        pytest.param(
            _conditioned({"StringEquals": {"ses:FromDisplayName": "CEO"}}, Effect="Deny"), id="deny-name"
        ),
        *(
            pytest.param(_conditioned(condition), id=f"may-hold-{id_}")
            for id_, condition in (
                ("negated-unknown-key", {"StringNotEquals": {"ses:From": "x"}}),
                ("unknown-key-if-exists", {"StringEqualsIfExists": {"ses:From": "x"}}),
                ("null-of-unknown-key", {"Null": {"ses:From": "true"}}),
                ("tag", {"StringEquals": {"aws:PrincipalTag/team": "mail"}}),
                ("key-in-capitals", {"StringEquals": {"AWS:SOURCEARN": "x"}}),
                ("subdomain", {"StringEquals": {_FROM: "ann@sub.example.com"}}),
                ("one-of-several", {"StringEquals": {_FROM: ["ann@other.example", "ann@example.com"]}}),
                ("wildcard", {"StringLike": {_FROM: "ann@other.*"}}),
                ("variable", {"StringEquals": {_FROM: "${aws:username}@other.example"}}),
                ("foreign-feedback", {"StringEquals": {_FEEDBACK: "bounces@other.example"}}),
                ("negated-foreign-address", {"StringNotEquals": {_FROM: "ann@other.example"}}),
            )
        ),
    ],
)
def test_what_may_be_meant_is_not_warned_of(text: str) -> None:
    assert _warnings(text) == []


@pytest.mark.parametrize(
    ("address", "is_warned"),
    [
        ("ann@example.com", False),
        ("ann+x@example.com", False),
        ("bob@example.com", True),
        ("Ann@example.com", True),
    ],
)
def test_an_address_identity_covers_itself_and_its_labels(address: str, is_warned: bool) -> None:
    arn = "arn:aws:ses:us-east-1:111111111111:identity/ann@example.com"
    text = _conditioned({"StringEquals": {_FROM: address}}, Resource=arn)
    assert len(_warnings(text, arn)) == is_warned


def test_each_statement_is_warned_of_at_its_own_place() -> None:
    statements = [_GOOD, {**_GOOD, "Principal": "*"}, {**_GOOD, "Action": "ses:SendEmail"}]
    pointers = [pointer for pointer, _ in _warnings(json.dumps({"Statement": statements}))]
    assert pointers == ["/Statement/1/Principal", "/Statement/2/Action"]


def test_a_bare_statement_is_warned_of_at_its_place() -> None:
    [(pointer, _)] = _warnings(json.dumps({"Statement": {**_GOOD, "Principal": "*"}}))
    assert pointer == "/Statement/Principal"
