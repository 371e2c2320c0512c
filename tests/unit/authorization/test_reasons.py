"""What a refusal says: the client's own values, and nothing of the policy's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.authorization.decision import Account, Denied, Ground
from relay.authorization.evaluate import Effect, Verdict
from relay.authorization.identities import Identity
from relay.authorization.policy import PolicyError, compile_policy, unreadable
from relay.authorization.reasons import explain_denial, explain_own_side
from relay.authorization.request import Request, caller
from relay.authorization.send import Arns, Claim, Send
from relay.submission.address import parse_mailbox
from tests.unit.authorization.ground import (
    DELEGATE,
    RAW,
    STRANGER,
    arn,
    decided,
    ground,
    identity,
    lent,
    policy,
    send,
    statement,
    user,
    user_policy,
)

_DOMAIN = arn("owner.example")


def _refusal(what: Send, on: Ground) -> Denied:
    decision = decided(what, on)
    assert isinstance(decision, Denied), decision
    return decision


def _explained(*statements: dict[str, Any], **changed: Any) -> str | None:
    what = send(**{"arns": _DOMAIN, **changed})
    return _refusal(what, ground(identity("owner.example", policy(*statements)))).explanation


def _allow(**condition: Any) -> dict[str, Any]:
    return statement(_DOMAIN, Condition=condition)


def _deny(**condition: Any) -> dict[str, Any]:
    return statement(_DOMAIN, "Deny", Condition=condition)


# ---------------------------------------------------------------- what failed


@pytest.mark.parametrize(
    ("role", "shown"),
    [
        ("From", "ses:FromAddress ann@owner.example"),
        ("Sender", "the Sender field's address ann@owner.example"),
        ("Return-Path", "ses:FeedbackAddress ann@owner.example"),
        ("MAIL FROM", "the MAIL FROM address ann@owner.example"),
    ],
)
def test_without_a_statement_about_the_sender_the_address_is_named(role: str, shown: str) -> None:
    claim = Claim(role, parse_mailbox("ann@owner.example"), "Ann <ann@owner.example>", None)
    request = Request(caller(user().arn, DELEGATE), RAW, _DOMAIN, {})
    for asked in (None, request):
        assert explain_denial([], asked, claim) == f"No statement allows {shown}"


@pytest.mark.parametrize(
    ("condition", "explanation"),
    [
        pytest.param(
            {"StringLike": {"ses:FromAddress": "news@*"}},
            "No statement allows ses:FromAddress ann@owner.example",
            id="from",
        ),
        pytest.param(
            {"StringEquals": {"ses:FeedbackAddress": "x@owner.example"}},
            "No statement allows ses:FeedbackAddress bounces@owner.example",
            id="return-path",
        ),
        pytest.param(
            {"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}},
            "No statement allows aws:SourceIp 203.0.113.7",
            id="source-address",
        ),
        pytest.param(
            {"Bool": {"aws:SecureTransport": "false"}},
            "No statement allows aws:SecureTransport true",
            id="transport",
        ),
        pytest.param(
            {"StringEquals": {"ses:FromDisplayName": "News"}},
            "No statement allows a message without ses:FromDisplayName",
            id="no-display-name",
        ),
        pytest.param(
            {"StringEquals": {"SES:fromaddress": "x"}},
            "No statement allows SES:fromaddress ann@owner.example",
            id="key-as-written",
        ),
        pytest.param(
            {"ForAllValues:StringLike": {"ses:Recipients": "*@owner.example"}},
            "No statement allows ses:Recipients far@recipient.example",
            id="one-recipient-too-many",
        ),
        pytest.param(
            {"ForAnyValue:StringLike": {"ses:Recipients": "*@partner.example"}},
            "No statement allows ses:Recipients near@owner.example",
            id="no-recipient-of-those",
        ),
        pytest.param(
            {"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}, "StringLike": {"ses:FromAddress": "news@*"}},
            "No statement allows ses:FromAddress ann@owner.example",
            id="addresses-before-circumstances",
        ),
    ],
)
def test_the_key_that_failed_is_named_with_the_clients_own_value(condition: Any, explanation: str) -> None:
    to = ["near@owner.example", "far@recipient.example"]
    assert _explained(_allow(**condition), to=to) == explanation


@pytest.mark.parametrize(
    ("condition", "explanation"),
    [
        pytest.param({}, "A statement denies ses:FromAddress ann@owner.example", id="unconditional"),
        pytest.param(
            {"StringLike": {"ses:FromAddress": "*ann*"}},
            "A statement denies ses:FromAddress ann@owner.example",
            id="from",
        ),
        pytest.param(
            {"ForAnyValue:StringLike": {"ses:Recipients": "*@recipient.example"}},
            "A statement denies ses:Recipients far@recipient.example",
            id="recipient",
        ),
        pytest.param(
            {"StringNotEquals": {"ses:FromDisplayName": "News"}},
            "A statement denies a message without ses:FromDisplayName",
            id="absent-key",
        ),
        pytest.param(
            {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}},
            "A statement denies aws:SourceIp 203.0.113.7",
            id="source-address",
        ),
    ],
)
def test_a_deny_beside_an_allow_names_what_it_denies(condition: Any, explanation: str) -> None:
    to = ["near@owner.example", "far@recipient.example"]
    assert _explained(_allow(), _deny(**condition), to=to) == explanation


def test_of_several_statements_the_nearest_is_explained() -> None:
    far = _allow(
        StringLike={"ses:FromAddress": "news@*"},
        Bool={"aws:SecureTransport": "false"},
        Null={"ses:Recipients": "true"},
    )
    near = _allow(StringLike={"ses:FeedbackAddress": "news@*"})
    assert _explained(far, near) == "No statement allows ses:FeedbackAddress bounces@owner.example"


def test_a_value_is_shown_in_printable_ascii_and_cut() -> None:
    named = "J\u00f6rg\u202e" + "x" * 300
    explanation = _explained(
        _allow(StringEquals={"ses:FromDisplayName": "News"}), from_=f"{named} <ann@owner.example>"
    )
    assert explanation is not None
    assert explanation.startswith("No statement allows ses:FromDisplayName J?rg?xxx")
    assert explanation.endswith("x...")
    assert len(explanation) < 250
    assert explanation.isascii()


# ---------------------------------------------------------------- no policy's values

_SECRET = "classified"
_SECRETS: list[dict[str, Any]] = [
    {"StringEquals": {"ses:FromAddress": f"{_SECRET}@owner.example"}},
    {"StringLike": {"ses:FromAddress": [f"*{_SECRET}*", "x"]}},
    {"StringEquals": {"ses:FromAddress": f"${{aws:PrincipalTag/x, '{_SECRET}'}}"}},
    {"StringEqualsIgnoreCase": {"ses:FromDisplayName": _SECRET}},
    {"ForAllValues:StringLike": {"ses:Recipients": f"*@{_SECRET}.example"}},
    {"ForAnyValue:StringEquals": {"ses:Recipients": f"ceo@{_SECRET}.example"}},
    {"NumericEquals": {"ses:ApiVersion": _SECRET}},
    {"DateLessThan": {"aws:CurrentTime": _SECRET}},
    {"IpAddress": {"aws:SourceIp": _SECRET}},
    {"Bool": {"aws:SecureTransport": _SECRET}},
    {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::222222222222:user/{_SECRET}"}},
    {"StringEquals": {"aws:PrincipalTag/team": _SECRET}},
]
_NEGATED: list[dict[str, Any]] = [
    {"StringNotEquals": {"ses:FromAddress": f"{_SECRET}@owner.example"}},
    {"StringNotLike": {"ses:FromDisplayName": f"*{_SECRET}*"}},
    {"ForAnyValue:StringNotLike": {"ses:Recipients": f"*@{_SECRET}.example"}},
    {"NotIpAddress": {"aws:SourceIp": _SECRET}},
    {"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::222222222222:user/{_SECRET}"}},
]


@pytest.mark.parametrize("condition", _SECRETS, ids=[json.dumps(one) for one in _SECRETS])
@pytest.mark.parametrize("principal", ["*", {"AWS": STRANGER}], ids=["everyone", "another"])
def test_an_allow_that_does_not_hold_shows_none_of_its_values(condition: Any, principal: Any) -> None:
    one = statement(_DOMAIN, Sid=_SECRET, Principal=principal, Condition=condition)
    refusal = _refusal(send(arns=_DOMAIN), ground(identity("owner.example", policy(one, name=_SECRET))))
    assert _SECRET not in f"{refusal.text} {refusal.explanation}"


@pytest.mark.parametrize("condition", _NEGATED, ids=[json.dumps(one) for one in _NEGATED])
@pytest.mark.parametrize("is_granted", [True, False])
def test_a_deny_that_holds_shows_none_of_its_values(condition: Any, is_granted: bool) -> None:
    grants = [statement(_DOMAIN, Sid=_SECRET)] if is_granted else []
    stands = policy(*grants, statement(_DOMAIN, "Deny", Sid=_SECRET, Condition=condition), name=_SECRET)
    refusal = _refusal(
        send("News <ann@owner.example>", arns=_DOMAIN), ground(identity("owner.example", stands))
    )
    assert _SECRET not in f"{refusal.text} {refusal.explanation}"


def test_a_policy_that_cannot_be_read_is_not_quoted_by_the_owners_side() -> None:
    with pytest.raises(PolicyError) as caught:
        compile_policy(f'{{"{_SECRET}": 1}}')
    broken = unreadable(_SECRET, caught.value)
    refusal = _refusal(send(arns=_DOMAIN), ground(identity("owner.example", broken)))
    assert _SECRET not in f"{refusal.text} {refusal.explanation}"


@pytest.mark.parametrize("effect", ["Allow", "Deny"])
def test_the_senders_own_policies_are_not_quoted_either(effect: str) -> None:
    condition = {"StringLike" if effect == "Allow" else "StringNotLike": {"ses:FromAddress": f"*{_SECRET}*"}}
    own = user_policy(effect, Sid=_SECRET, Condition=condition)
    refusal = _refusal(
        send(arns=_DOMAIN), ground(lent(), user_policies=(user_policy(), own)[effect == "Allow" :])
    )
    assert _SECRET not in f"{refusal.text} {refusal.explanation}"


# ---------------------------------------------------------------- strangers


def _named(name: str, *policies: Any, **changed: Any) -> Identity:
    return identity(name, *(policy(one) for one in policies), **changed)


_FOR_ANOTHER = {"Principal": {"AWS": STRANGER}}


@pytest.mark.parametrize(
    "found",
    [
        pytest.param([], id="no-identity"),
        pytest.param([_named("owner.example")], id="without-policy"),
        pytest.param([_named("owner.example", verified=False)], id="unverified"),
        pytest.param([_named("owner.example", statement(_DOMAIN, **_FOR_ANOTHER))], id="lent-to-another"),
        pytest.param(
            [_named("owner.example", statement(_DOMAIN, **_FOR_ANOTHER), verified=False)],
            id="unverified-and-lent",
        ),
        pytest.param([_named("owner.example", statement(_DOMAIN, "Deny"))], id="denied-to-all"),
        pytest.param(
            [
                _named(
                    "owner.example",
                    statement(_DOMAIN, "Deny", Condition={"StringLike": {"ses:FeedbackAddress": "*"}}),
                )
            ],
            id="denied-on-a-condition",
        ),
        pytest.param(
            [
                _named("owner.example"),
                _named("ann@owner.example", statement(arn("ann@owner.example"), "Deny")),
            ],
            id="address-denied",
        ),
        pytest.param([_named("owner.example"), _named("Ann@owner.example")], id="address-in-other-case"),
        pytest.param([_named("Owner.example")], id="in-other-case"),
        pytest.param(
            [_named("owner.example", statement(_DOMAIN, Action="ses:SendEmail"))], id="other-action"
        ),
    ],
)
@pytest.mark.parametrize(
    "what",
    [
        pytest.param(send(arns=_DOMAIN), id="source-arn"),
        pytest.param(send(arns=Arns(from_=_DOMAIN)), id="from-arn"),
        pytest.param(
            send("Ann <ann@owner.example>", arns=_DOMAIN, mail_from="me@mine.example"), id="own-return-path"
        ),
    ],
)
def test_a_stranger_is_told_the_same_whether_an_identity_exists_or_not(
    found: list[Identity], what: Send
) -> None:
    mine = identity("mine.example", account_id=DELEGATE)
    refusal = _refusal(what, ground(mine, *found))
    assert refusal == _refusal(what, ground(mine))
    assert refusal.text == (
        f"Access denied: User `{user().arn}' is not authorized to perform `ses:SendRawEmail'"
        f" on resource `{_DOMAIN}'"
    )
    assert refusal.explanation == "No statement allows ses:FromAddress ann@owner.example"


@pytest.mark.parametrize(
    "account", [Account(DELEGATE, production=False), Account(DELEGATE, production=True, paused=True)]
)
def test_a_strangers_own_account_changes_nothing_of_the_answer(account: Account) -> None:
    what = send(arns=_DOMAIN, configuration_set="missing")
    assert _refusal(what, ground(account=account)) == _refusal(what, ground(identity("owner.example")))


def test_without_an_arn_a_foreign_identity_is_not_looked_at() -> None:
    assert _refusal(send(), ground(lent())) == _refusal(send(), ground())


# ---------------------------------------------------------------- the sender's own side


@pytest.mark.parametrize(
    ("verdict", "explanation"),
    [
        (
            Verdict(Effect.IMPLICIT_DENY),
            "No statement of the user's own policies allows ses:SendRawEmail on this identity",
        ),
        (
            Verdict(Effect.EXPLICIT_DENY, policy="p", statement=0),
            "A statement of the user's own policies denies ses:SendRawEmail",
        ),
        (Verdict(Effect.IMPLICIT_DENY, unreadable="mine"), "The user's policy mine cannot be read"),
    ],
    ids=["silence", "deny", "unreadable"],
)
def test_the_own_side_says_that_the_cure_is_there(verdict: Verdict, explanation: str) -> None:
    assert explain_own_side(RAW, verdict) == explanation
