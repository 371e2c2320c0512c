"""The decision: which identity is asked for which address, in which order, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.authorization.decision import (
    Account,
    Allowed,
    ConfigurationSet,
    Decision,
    Denied,
    Ground,
    Rules,
    decide,
    named_owners,
    wanted,
)
from relay.authorization.identities import Identities, Identity, IdentityArn, MailFrom
from relay.authorization.policy import Policy, PolicyError, compile_policy, unreadable
from relay.authorization.send import Arns, Send
from relay.authorization.trace import Questions
from relay.submission.address import Mailbox
from relay.submission.answer import Reason
from tests.unit.authorization.ground import (
    DELEGATE,
    OWNER,
    REGION,
    RULES,
    STRANGER,
    arn,
    decided,
    ground,
    identity,
    lent,
    policy,
    send,
    service,
    sets,
    statement,
    user,
    user_policy,
)

_DOMAIN = arn("owner.example")
_ANN = arn("ann@owner.example")
# What the delegate's own account has verified.
_MINE = identity("mine.example", account_id=DELEGATE)


def _own(**changed: Any) -> Send:
    return send("me@mine.example", mail_from="bounces@mine.example", **changed)


def _borrowed(**changed: Any) -> Send:
    return send(**{"arns": _DOMAIN, **changed})


def _allowed(decision: Decision) -> Allowed:
    assert isinstance(decision, Allowed), decision
    return decision


def _denied(decision: Decision, reason: Reason) -> Denied:
    assert isinstance(decision, Denied), decision
    assert decision.reason is reason
    return decision


def _broken(name: str = "broken") -> Policy:
    with pytest.raises(PolicyError) as caught:
        compile_policy("{", name)
    return unreadable(name, caught.value)


# ---------------------------------------------------------------- the sender's own identities


@pytest.mark.parametrize(
    "from_",
    ["me@mine.example", "Me+x@mine.example", "me@a.b.mine.example", "Me <me@MINE.example>"],
    ids=["address", "label", "subdomain", "capitals"],
)
def test_r19_whoever_sends_from_its_own_account_needs_no_policy(from_: str) -> None:
    allowed = _allowed(decided(send(from_, mail_from="b@mine.example"), ground(_MINE)))
    assert allowed.identity.name == "mine.example"
    assert [grant.verdict for grant in allowed.grants] == [None, None]


def test_r02_every_address_that_is_not_verified_is_named_once() -> None:
    what = send(
        "Ann <ann@a.example>",
        sender="bob@b.example",
        return_path="ret@c.example",
        mail_from="bob@b.example",
    )
    denied = _denied(decided(what, ground(_MINE)), Reason.NOT_VERIFIED)
    assert denied.text == (
        "Message rejected: Email address is not verified. The following identities failed the check in"
        " region US-EAST-1: Ann <ann@a.example>, bob@b.example, ret@c.example"
    )
    assert denied.explanation == (
        "From ann@a.example: no identity of this account covers it, and no ARN names a lent one"
    )


@pytest.mark.parametrize(
    ("what", "explanation"),
    [
        (
            send("x@far.example", mail_from="me@mine.example"),
            "From x@far.example: no identity of this account",
        ),
        (
            send("me@mine.example", mail_from="x@far.example"),
            "Return-Path x@far.example: no identity of this",
        ),
        (
            send("x@far.example", mail_from="me@mine.example", arns=_DOMAIN),
            "From x@far.example: neither the ARN named for it nor an identity of this account covers it",
        ),
        (
            send("me@pending.example", mail_from="me@mine.example"),
            "From me@pending.example: the identity pending.example is not verified yet",
        ),
        (
            send("Me@case.example", mail_from="me@mine.example"),
            "From Me@case.example: it differs from an identity in letter case",
        ),
        (
            send("me@sub.mine.example", mail_from="x@far.example", sender="y@far.example"),
            "Sender y@far.example: no identity of this account",
        ),
    ],
    ids=["from", "return-path", "other-arn", "pending", "letter-case", "the-first-of-several"],
)
def test_a_refusal_says_why_the_first_address_is_not_verified(what: Send, explanation: str) -> None:
    on = ground(
        _MINE,
        lent(),
        identity("pending.example", account_id=DELEGATE, verified=False),
        identity("case.example", account_id=DELEGATE),
        identity("me@case.example", account_id=DELEGATE),
    )
    denied = _denied(decided(what, on), Reason.NOT_VERIFIED)
    assert denied.explanation is not None
    assert denied.explanation.startswith(explanation)


def test_the_list_of_addresses_that_are_not_verified_is_cut() -> None:
    address = "a" * 60 + "@" + "b" * 60 + ".example"
    what = send(f"{'N' * 100} <{address}>", mail_from=address.replace("a", "c"))
    text = _denied(decided(what, ground()), Reason.NOT_VERIFIED).text
    assert text.endswith(", ...")
    assert len(text) < 480


@pytest.mark.parametrize(
    ("from_", "mail_from", "failed"),
    [
        ("me@mine.example", "bounces@other.example", "bounces@other.example"),
        ("ann@other.example", "bounces@mine.example", "ann@other.example"),
        ("me@mine.example", "b@notmine.example", "b@notmine.example"),
    ],
    ids=["return-path", "from", "look-alike"],
)
def test_r06_both_addresses_must_be_the_senders_own(from_: str, mail_from: str, failed: str) -> None:
    denied = _denied(decided(send(from_, mail_from=mail_from), ground(_MINE)), Reason.NOT_VERIFIED)
    assert denied.text.endswith(f": {failed}")


def test_an_identity_that_is_not_verified_covers_nothing() -> None:
    on = ground(replace(_MINE, verified=False))
    denied = _denied(decided(_own(), on), Reason.NOT_VERIFIED)
    assert denied.text.endswith(": me@mine.example, bounces@mine.example")


def test_a_domain_still_covers_an_address_whose_own_identity_is_not_verified() -> None:
    pending = identity("me@mine.example", account_id=DELEGATE, verified=False)
    assert _allowed(decided(_own(), ground(_MINE, pending))).identity is _MINE


@pytest.mark.parametrize("from_", ["Me@mine.example", "ME+x@mine.example"])
def test_an_address_that_differs_from_an_identity_only_by_case_is_refused(from_: str) -> None:
    other_case = identity("me@mine.example", account_id=DELEGATE)
    denied = _denied(
        decided(send(from_, mail_from="b@mine.example"), ground(_MINE, other_case)), Reason.NOT_VERIFIED
    )
    assert denied.text.endswith(f": {from_}")


def test_the_owners_identities_are_not_the_delegates_own() -> None:
    _denied(decided(send(), ground(identity("owner.example"))), Reason.NOT_VERIFIED)


@pytest.mark.parametrize("effect", ["Deny", None], ids=["deny", "unreadable"])
def test_r19_a_policy_on_ones_own_identity_still_refuses(effect: str | None) -> None:
    resource = arn("mine.example", DELEGATE)
    stands = policy(statement(resource, effect)) if effect else _broken()
    on = ground(replace(_MINE, policies=(stands, policy(statement(resource)))))
    denied = _denied(decided(_own(), on), Reason.ACCESS_DENIED)
    assert f"on resource `{resource}'" in denied.text


def test_r19_a_policy_on_ones_own_identity_that_says_nothing_of_the_sender_is_silence() -> None:
    resource = arn("mine.example", DELEGATE)
    says = policy(
        statement(resource, Principal={"AWS": STRANGER}), statement(resource, "Deny", Action="ses:X")
    )
    assert _allowed(decided(_own(), ground(replace(_MINE, policies=(says,))))).grants[0].verdict is None


# ---------------------------------------------------------------- borrowed identities


def test_r04_a_granted_delegate_sends_as_the_owner() -> None:
    what = _borrowed()
    allowed = _allowed(decided(what, ground(lent())))
    assert allowed.identity.arn == _DOMAIN
    assert [(grant.claim.role, grant.identity.arn) for grant in allowed.grants] == [
        ("From", _DOMAIN),
        ("Return-Path", _DOMAIN),
    ]
    assert [grant.verdict.policy for grant in allowed.grants if grant.verdict] == ["lend", "lend"]


def test_several_policies_count_together() -> None:
    from_ = policy(statement(_DOMAIN, Condition={"StringLike": {"ses:FromAddress": "ann@*"}}), name="from")
    nobody = policy(statement(_DOMAIN, Principal={"AWS": STRANGER}), name="nobody")
    assert isinstance(decided(_borrowed(), ground(identity("owner.example", nobody, from_))), Allowed)
    veto = policy(statement(_DOMAIN, "Deny"), name="veto")
    _denied(decided(_borrowed(), ground(identity("owner.example", from_, veto))), Reason.ACCESS_DENIED)


@pytest.mark.parametrize(
    "policies",
    [
        pytest.param((), id="no-policy"),
        pytest.param((policy(statement(_DOMAIN, Principal={"AWS": STRANGER})),), id="for-another"),
        pytest.param((policy(statement(_DOMAIN, Action="ses:SendEmail")),), id="other-action"),
        pytest.param((policy(statement(_ANN)),), id="other-resource"),
        pytest.param((policy(statement(_DOMAIN, "Deny")),), id="deny"),
        pytest.param(
            (policy(statement(_DOMAIN)), policy(statement(_DOMAIN, "Deny"))), id="deny-beside-allow"
        ),
        pytest.param((policy(statement(_DOMAIN)), _broken()), id="unreadable-beside-allow"),
    ],
)
def test_r06_without_a_grant_a_borrowed_identity_is_refused(policies: tuple[Policy, ...]) -> None:
    denied = _denied(decided(_borrowed(), ground(identity("owner.example", *policies))), Reason.ACCESS_DENIED)
    assert denied.text == (
        f"Access denied: User `{user().arn}' is not authorized to perform `ses:SendRawEmail'"
        f" on resource `{_DOMAIN}'"
    )
    assert denied.explanation


def test_r06_the_return_path_needs_its_own_grant() -> None:
    only_from = policy(
        statement(_DOMAIN, Condition={"StringEquals": {"ses:FeedbackAddress": "ok@owner.example"}})
    )
    on = ground(identity("owner.example", only_from))
    assert isinstance(decided(_borrowed(mail_from="ok@owner.example"), on), Allowed)
    _denied(decided(_borrowed(mail_from="no@owner.example"), on), Reason.ACCESS_DENIED)


def test_r06_from_and_return_path_may_be_borrowed_from_two_owners() -> None:
    other = identity(
        "other.example", policy(statement(arn("other.example", STRANGER)), name="back"), account_id=STRANGER
    )
    what = send(
        mail_from="b@other.example", arns=Arns(from_=_DOMAIN, return_path=arn("other.example", STRANGER))
    )
    allowed = _allowed(decided(what, ground(lent(), other)))
    assert allowed.identity.account_id == OWNER
    assert [grant.identity.account_id for grant in allowed.grants] == [OWNER, STRANGER]
    _denied(decided(what, ground(lent(), replace(other, policies=()))), Reason.ACCESS_DENIED)


def test_a_borrowed_from_may_bounce_to_ones_own_address() -> None:
    what = send(mail_from="b@mine.example", arns=_DOMAIN)
    allowed = _allowed(decided(what, ground(lent(), _MINE)))
    assert [grant.identity.name for grant in allowed.grants] == ["owner.example", "mine.example"]


def test_a_named_identity_is_used_even_if_the_sender_verified_the_same_name() -> None:
    mine = identity("owner.example", account_id=DELEGATE)
    assert _allowed(decided(_borrowed(), ground(mine, lent()))).identity.account_id == OWNER
    assert _allowed(decided(send(), ground(mine, lent()))).identity.account_id == DELEGATE
    _denied(decided(_borrowed(), ground(mine, identity("owner.example"))), Reason.ACCESS_DENIED)


def test_an_arn_that_does_not_cover_the_address_counts_as_none() -> None:
    what = _own(arns=_DOMAIN)
    assert _allowed(decided(what, ground(lent(), _MINE))).identity is _MINE
    denied = _denied(decided(what, ground(lent())), Reason.NOT_VERIFIED)
    assert denied.text.endswith(": me@mine.example, bounces@mine.example")


@pytest.mark.parametrize(
    "named",
    [
        pytest.param("arn:aws:ses:us-east-1:999999999999:identity/owner.example", id="unknown-account"),
        pytest.param("arn:aws:ses:us-east-1:333333333333:identity/owner.example", id="another-account"),
        pytest.param(arn("ann@owner.example"), id="unknown-address-of-a-known-domain"),
        pytest.param("arn:aws:ses:eu-west-1:111111111111:identity/owner.example", id="other-region"),
        pytest.param("arn:aws:ses:*:111111111111:identity/owner.example", id="any-region"),
        pytest.param("arn:aws-cn:ses:us-east-1:111111111111:identity/owner.example", id="other-partition"),
        pytest.param("arn:aws:ses:us-east-1:111111111111:identity/", id="no-name"),
        pytest.param("owner.example", id="no-arn"),
        pytest.param("nonsense", id="nonsense"),
    ],
)
def test_r05_an_arn_that_names_nothing_here_is_answered_like_one_without_a_grant(named: str) -> None:
    denied = _denied(decided(_borrowed(arns=named), ground(lent())), Reason.ACCESS_DENIED)
    without = _denied(decided(_borrowed(), ground(identity("owner.example"))), Reason.ACCESS_DENIED)
    assert denied.text == without.text.replace(_DOMAIN, named)
    assert denied.explanation == without.explanation


def test_one_arn_that_names_nothing_refuses_the_message_whatever_the_others() -> None:
    what = _borrowed(arns=Arns(source=_DOMAIN, return_path="nonsense"))
    denied = _denied(decided(what, ground(lent())), Reason.ACCESS_DENIED)
    assert denied.text.endswith("`nonsense'")


@pytest.mark.parametrize("role", ["Sender", "MAIL FROM"])
def test_sender_and_mail_from_are_identities_as_much_as_from(role: str) -> None:
    extra = {"Sender": {"sender": "x@else.example"}, "MAIL FROM": {"mail_from": "x@else.example"}}[role]
    what = _borrowed(return_path="ret@owner.example", **extra)
    denied = _denied(decided(what, ground(lent())), Reason.NOT_VERIFIED)
    assert denied.text.endswith(": x@else.example")
    known = identity("else.example", account_id=DELEGATE)
    assert isinstance(decided(what, ground(lent(), known)), Allowed)


def test_a_condition_sees_the_owner_of_the_identity_that_is_asked() -> None:
    condition = {"StringEquals": {"aws:ResourceAccount": OWNER, "aws:PrincipalAccount": DELEGATE}}
    on = ground(identity("owner.example", policy(statement(_DOMAIN, Condition=condition))))
    assert isinstance(decided(_borrowed(), on), Allowed)


# ---------------------------------------------------------------- levels


def _level(name: str, effect: str | None, **changed: Any) -> Identity:
    says = (policy(statement(arn(name), effect), name=name),) if effect else ()
    return identity(name, *says, **changed)


@pytest.mark.parametrize(
    ("address", "subdomain", "domain", "decider"),
    [
        ("Allow", "Deny", "Deny", "ann@sub.owner.example"),
        ("Deny", "Allow", "Allow", None),
        (None, "Allow", "Deny", "sub.owner.example"),
        (None, "Deny", "Allow", None),
        (None, None, "Allow", "owner.example"),
        (None, None, "Deny", None),
        (None, None, None, None),
        ("Allow", None, None, "ann@sub.owner.example"),
    ],
)
def test_the_most_specific_level_that_says_anything_decides(
    address: str | None, subdomain: str | None, domain: str | None, decider: str | None
) -> None:
    on = ground(
        _level("ann@sub.owner.example", address),
        _level("sub.owner.example", subdomain),
        _level("owner.example", domain),
    )
    decision = decided(_borrowed(from_="ann@sub.owner.example", mail_from="ann@sub.owner.example"), on)
    if decider is None:
        _denied(decision, Reason.ACCESS_DENIED)
        return
    [from_, _] = _allowed(decision).grants
    assert from_.verdict is not None
    assert from_.verdict.policy == decider


def test_a_domain_that_denies_and_an_address_that_allows_lend_that_address_only() -> None:
    on = ground(_level("owner.example", "Deny"), _level("ann@owner.example", "Allow"))
    assert isinstance(decided(_borrowed(mail_from="ann+v@owner.example"), on), Allowed)
    _denied(decided(_borrowed(from_="bob@owner.example"), on), Reason.ACCESS_DENIED)


def test_a_domain_that_allows_and_an_address_that_denies_lend_all_but_that_address() -> None:
    on = ground(_level("owner.example", "Allow"), _level("ann@owner.example", "Deny"))
    assert isinstance(decided(_borrowed(from_="bob@owner.example"), on), Allowed)
    for from_ in ("ann@owner.example", "ann+x@owner.example"):
        _denied(decided(_borrowed(from_=from_), on), Reason.ACCESS_DENIED)


def test_a_level_whose_statements_do_not_apply_leaves_the_question_to_the_next() -> None:
    tls = {"Bool": {"aws:SecureTransport": "false"}}
    silent = identity("ann@owner.example", policy(statement(_ANN, "Deny", Condition=tls)))
    assert isinstance(decided(_borrowed(), ground(silent, lent())), Allowed)
    _denied(decided(_borrowed(is_secure=False), ground(silent, lent())), Reason.ACCESS_DENIED)


def test_a_level_speaks_only_of_its_own_resource() -> None:
    address = identity("ann@owner.example", policy(statement(_DOMAIN, "Deny")))
    assert isinstance(decided(_borrowed(), ground(address, lent())), Allowed)


def test_a_policy_of_a_level_that_cannot_be_read_refuses() -> None:
    address = identity("ann@owner.example", _broken())
    _denied(decided(_borrowed(), ground(address, lent())), Reason.ACCESS_DENIED)


def test_an_allow_of_an_unverified_level_is_silence() -> None:
    pending = _level("ann@owner.example", "Allow", verified=False)
    [from_, _] = _allowed(decided(_borrowed(), ground(pending, lent()))).grants
    assert from_.verdict is not None
    assert from_.verdict.policy == "lend"
    _denied(decided(_borrowed(), ground(pending, _level("owner.example", "Deny"))), Reason.ACCESS_DENIED)


def test_a_deny_of_an_unverified_level_still_denies() -> None:
    pending = _level("ann@owner.example", "Deny", verified=False)
    _denied(decided(_borrowed(), ground(pending, lent())), Reason.ACCESS_DENIED)


def test_r02_an_unverified_identity_lends_nothing() -> None:
    _denied(decided(_borrowed(), ground(lent(verified=False))), Reason.ACCESS_DENIED)


def test_r02_a_named_address_that_is_not_verified_is_named_if_its_domain_grants_it() -> None:
    on = ground(identity("ann@owner.example", verified=False), lent())
    what = _borrowed(arns=_ANN, mail_from="ann@owner.example")
    denied = _denied(decided(what, on), Reason.NOT_VERIFIED)
    assert denied.text.endswith(": ann@owner.example")


def test_a_borrowed_address_that_differs_from_an_identity_only_by_case_is_refused() -> None:
    on = ground(identity("Ann@owner.example"), lent())
    denied = _denied(decided(_borrowed(), on), Reason.NOT_VERIFIED)
    assert denied.text.endswith(": ann@owner.example")


# ---------------------------------------------------------------- both sides


@pytest.mark.parametrize(
    ("policies", "explanation"),
    [
        pytest.param((), "No statement of the user's own policies allows ses:SendRawEmail", id="none"),
        pytest.param((user_policy(Action="ses:SendEmail"),), "No statement", id="other-action"),
        pytest.param((user_policy(Resource=arn("other.example")),), "No statement", id="other-identity"),
        pytest.param(
            (user_policy(), user_policy("Deny")), "A statement of the user's own policies denies", id="deny"
        ),
        pytest.param(
            (user_policy(), _broken("mine")), "The user's policy mine cannot be read", id="unreadable"
        ),
        pytest.param(
            (user_policy(Condition={"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}),),
            "No statement",
            id="condition",
        ),
    ],
)
@pytest.mark.parametrize("is_borrowed", [True, False])
def test_the_senders_own_policies_must_allow_too(
    policies: tuple[Policy, ...], explanation: str, is_borrowed: bool
) -> None:
    on = ground(lent(), _MINE, user_policies=policies)
    denied = _denied(decided(_borrowed() if is_borrowed else _own(), on), Reason.ACCESS_DENIED)
    assert denied.explanation is not None
    assert denied.explanation.startswith(explanation)


@pytest.mark.parametrize(
    ("resource", "expected"),
    [(_DOMAIN, True), (arn("*"), True), ("*", True), (_ANN, False), (arn("owner.example", STRANGER), False)],
)
def test_the_senders_own_policies_are_asked_of_the_identity_that_is_named(
    resource: str, expected: bool
) -> None:
    on = ground(lent(), user_policies=(user_policy(Resource=resource),))
    assert isinstance(decided(_borrowed(), on), Allowed) is expected


def test_without_a_permission_of_its_own_a_sender_is_not_told_what_is_not_verified() -> None:
    denied = _denied(decided(send(), ground(user_policies=())), Reason.ACCESS_DENIED)
    assert f"on resource `{arn('ann@owner.example', DELEGATE)}'" in denied.text


def test_the_owners_side_alone_decides_about_a_service() -> None:
    condition = {
        "StringEquals": {"aws:SourceAccount": DELEGATE},
        "ArnLike": {"aws:SourceArn": f"arn:aws:cognito-idp:{REGION}:{DELEGATE}:userpool/*"},
    }
    stands = policy(
        statement(_DOMAIN, Principal={"Service": "cognito-idp.amazonaws.com"}, Condition=condition),
        name="pool",
    )
    on = ground(identity("owner.example", stands), user_policies=None)
    assert isinstance(decided(_borrowed(principal=service()), on), Allowed)
    _denied(decided(_borrowed(principal=service("sns.amazonaws.com")), on), Reason.ACCESS_DENIED)
    _denied(decided(_borrowed(principal=service(account_id=STRANGER)), on), Reason.ACCESS_DENIED)


# ---------------------------------------------------------------- sandbox


_SANDBOXED = {"account": Account(DELEGATE, production=False)}


@pytest.mark.parametrize(
    ("to", "failed"),
    [
        pytest.param(["a@mine.example"], [], id="own-domain"),
        pytest.param(["a+x@sub.mine.example"], [], id="own-subdomain"),
        pytest.param(["friend@known.example"], [], id="own-address"),
        pytest.param(["success@simulator.amazonses.com"], [], id="simulator"),
        pytest.param(
            ["a@mine.example", "x@far.example", "y@far.example"],
            ["x@far.example", "y@far.example"],
            id="some",
        ),
        pytest.param(
            ["other@known.example"], ["other@known.example"], id="other-address-of-a-verified-one's-domain"
        ),
        pytest.param(["a@owner.example"], ["a@owner.example"], id="owners-domain"),
        pytest.param(["a@pending.example"], ["a@pending.example"], id="unverified"),
        pytest.param(
            ["a@sub.simulator.amazonses.com"], ["a@sub.simulator.amazonses.com"], id="below-the-simulator"
        ),
    ],
)
def test_r15_a_sandboxed_sender_reaches_verified_recipients_and_the_simulator(
    to: list[str], failed: list[str]
) -> None:
    on = ground(
        lent(),
        _MINE,
        identity("friend@known.example", account_id=DELEGATE),
        identity("pending.example", account_id=DELEGATE, verified=False),
        **_SANDBOXED,
    )
    for what in (_borrowed(to=to), _own(to=to)):
        decision = decided(what, on)
        if failed:
            assert _denied(decision, Reason.NOT_VERIFIED).text.endswith(f": {', '.join(failed)}")
        else:
            assert isinstance(decision, Allowed)


_OWNER_SANDBOXED = {"owners": {OWNER: Account(OWNER, production=False)}}
_BOTH_OUT = replace(RULES, owner_out_of_sandbox_too=True)


@pytest.mark.parametrize(
    ("rules", "is_borrowed", "owner_production", "expected"),
    [
        (RULES, True, False, True),
        (_BOTH_OUT, True, True, True),
        (_BOTH_OUT, True, False, False),
        (_BOTH_OUT, False, False, True),
    ],
)
def test_r15_the_owner_must_be_out_of_the_sandbox_only_if_the_operator_says_so(
    rules: Rules, is_borrowed: bool, owner_production: bool, expected: bool
) -> None:
    on = ground(lent(), _MINE, owners={OWNER: Account(OWNER, production=owner_production)})
    decision = decided(_borrowed() if is_borrowed else _own(), on, rules)
    assert isinstance(decision, Allowed) is expected
    if not expected:
        assert _denied(decision, Reason.NOT_VERIFIED).text.endswith(": someone@recipient.example")


def test_r15_recipients_that_the_sender_verified_pass_for_a_sandboxed_owner_too() -> None:
    on = ground(lent(), _MINE, **_OWNER_SANDBOXED)
    assert isinstance(decided(_borrowed(to=["a@mine.example"]), on, _BOTH_OUT), Allowed)


# ---------------------------------------------------------------- paused, configuration sets


def test_a_paused_account_sends_nothing() -> None:
    on = ground(lent(), account=Account(DELEGATE, production=True, paused=True))
    denied = _denied(decided(_borrowed(), on), Reason.PAUSED)
    assert denied.text.startswith("Message rejected: Sending paused for this account.")


def test_a_paused_owner_stops_nobody() -> None:
    on = ground(lent(), owners={OWNER: Account(OWNER, production=True, paused=True)})
    assert isinstance(decided(_borrowed(), on), Allowed)


@pytest.mark.parametrize(
    ("name", "reason", "text"),
    [
        ("missing", Reason.CONFIGURATION_SET, "Configuration set <missing> does not exist."),
        ("Mine", Reason.CONFIGURATION_SET, "Configuration set <Mine> does not exist."),
        ("stopped", Reason.CONFIGURATION_SET_PAUSED, "Sending paused for configuration set <stopped>."),
    ],
)
def test_a_configuration_set_must_exist_and_send(name: str, reason: Reason, text: str) -> None:
    on = ground(_MINE, configuration_sets=sets("mine", stopped=True))
    denied = _denied(decided(_own(configuration_set=name), on), reason)
    assert denied.text == f"Message rejected: {text}"


@pytest.mark.parametrize(
    ("named", "default", "expected"),
    [(None, None, None), ("mine", None, "mine"), (None, "usual", "usual"), ("mine", "usual", "mine")],
)
def test_a_named_configuration_set_beats_the_identitys_default(
    named: str | None, default: str | None, expected: str | None
) -> None:
    on = ground(replace(_MINE, configuration_set=default), configuration_sets=sets("mine", "usual"))
    assert _allowed(decided(_own(configuration_set=named), on)).configuration_set == expected


# ---------------------------------------------------------------- custom MAIL FROM domains

_BOUNCE = MailFrom("bounce.mine.example", verified=True)


@pytest.mark.parametrize(
    ("mail_from", "expected"),
    [
        (None, None),
        (_BOUNCE, "bounce.mine.example"),
        (replace(_BOUNCE, verified=False), None),
        (replace(_BOUNCE, rejects=True), "bounce.mine.example"),
    ],
)
def test_mail_from_domain_is_used_while_it_is_verified(
    mail_from: MailFrom | None, expected: str | None
) -> None:
    allowed = _allowed(decided(_own(), ground(replace(_MINE, mail_from=mail_from))))
    assert allowed.mail_from_domain == expected


def test_unverified_mail_from_domain_refuses_if_its_owner_wants_that() -> None:
    rejecting = replace(_BOUNCE, verified=False, rejects=True)
    denied = _denied(decided(_own(), ground(replace(_MINE, mail_from=rejecting))), Reason.MAIL_FROM_DOMAIN)
    assert denied.text == "Mail FROM domain is not verified"
    assert denied.explanation is not None
    assert "bounce.mine.example" in denied.explanation


def test_r01_address_without_a_mail_from_domain_has_none_of_its_domains() -> None:
    rejecting = replace(_BOUNCE, verified=False, rejects=True)
    mine = replace(_MINE, mail_from=rejecting)
    address = identity("me@mine.example", account_id=DELEGATE)
    assert _allowed(decided(_own(), ground(mine, address))).mail_from_domain is None


def test_a_default_configuration_set_must_send_too() -> None:
    on = ground(replace(_MINE, configuration_set="stopped"), configuration_sets=sets(stopped=True))
    _denied(decided(_own(), on), Reason.CONFIGURATION_SET_PAUSED)


def test_r03_the_default_set_of_a_borrowed_identity_never_applies() -> None:
    on = ground(lent(configuration_set="usual"), configuration_sets=sets("usual"))
    assert _allowed(decided(_borrowed(), on)).configuration_set is None
    assert isinstance(decided(_borrowed(), ground(lent(configuration_set="missing"))), Allowed)


def test_the_default_set_is_that_of_the_most_specific_verified_identity() -> None:
    address = identity("me@mine.example", account_id=DELEGATE, configuration_set="of-address")
    domain = replace(_MINE, configuration_set="of-domain")
    on = ground(address, domain, configuration_sets=sets("of-address", "of-domain"))
    assert _allowed(decided(_own(), on)).configuration_set == "of-address"
    pending = ground(replace(address, verified=False), domain, configuration_sets=on.configuration_sets)
    assert _allowed(decided(_own(), pending)).configuration_set == "of-domain"


# ---------------------------------------------------------------- order


_STEPS: list[tuple[str, dict[str, Any], Reason]] = [
    ("own-policies", {"user_policies": ()}, Reason.ACCESS_DENIED),
    ("grant", {"identities": ground(identity("owner.example")).identities}, Reason.ACCESS_DENIED),
    ("verification", {"identities": ground(lent()).identities}, Reason.NOT_VERIFIED),
    ("sandbox", {"account": Account(DELEGATE, production=False)}, Reason.NOT_VERIFIED),
    ("paused", {"account": Account(DELEGATE, production=True, paused=True)}, Reason.PAUSED),
    ("configuration-set", {"configuration_sets": {}}, Reason.CONFIGURATION_SET),
]


def _with_faults(*faults: dict[str, Any]) -> Ground:
    """A ground on which everything is well but for the faults; an account may have two at once."""
    on = ground(lent(), _MINE, configuration_sets=sets("mine"))
    for fault in reversed(faults):
        on = replace(on, **fault)
    accounts = [fault["account"] for fault in faults if "account" in fault]
    if accounts:
        production = all(account.production for account in accounts)
        paused = any(account.paused for account in accounts)
        on = replace(on, account=Account(DELEGATE, production=production, paused=paused))
    return on


_ORDERED = {"mail_from": "b@mine.example", "configuration_set": "mine"}


def test_with_no_fault_the_message_is_allowed() -> None:
    assert isinstance(decided(_borrowed(**_ORDERED), _with_faults()), Allowed)


@pytest.mark.parametrize("first", range(len(_STEPS)), ids=[name for name, _, _ in _STEPS])
def test_the_first_fault_in_the_fixed_order_is_the_answer(first: int) -> None:
    faults = [fault for _, fault, _ in _STEPS[first:]]
    _, alone, reason = _STEPS[first]
    answer = _denied(decided(_borrowed(**_ORDERED), _with_faults(*faults)), reason)
    assert answer == decided(_borrowed(**_ORDERED), _with_faults(alone))


def test_not_authorized_comes_before_not_verified_whichever_address_it_is_about() -> None:
    what = send("ann@unknown.example", arns=_DOMAIN, mail_from="b@owner.example")
    _denied(decided(what, ground(identity("owner.example"))), Reason.ACCESS_DENIED)
    _denied(decided(what, ground(lent())), Reason.NOT_VERIFIED)


# ---------------------------------------------------------------- settings and signer


_SIGNS = {"dkim_verified": True, "has_keys": True}


def test_r01_the_settings_are_those_of_the_most_specific_verified_identity() -> None:
    on = ground(lent(), identity("ann@owner.example"), identity("ann+x@owner.example", verified=False))
    allowed = _allowed(decided(_borrowed(from_="ann+x@owner.example"), on))
    assert (allowed.identity.name, allowed.settings.name) == ("owner.example", "ann@owner.example")


@pytest.mark.parametrize(
    ("found", "signer", "because"),
    [
        pytest.param([lent(**_SIGNS)], "owner.example", None, id="domain"),
        pytest.param(
            [lent(**_SIGNS, dkim_enabled=False)], None, "DKIM is switched off for owner.example", id="off"
        ),
        pytest.param(
            [lent(has_keys=True)],
            None,
            "the DKIM key of owner.example has not been seen in DNS",
            id="not-seen",
        ),
        pytest.param([lent()], None, "no domain identity above owner.example holds a key", id="no-key"),
        pytest.param([lent(**_SIGNS), identity("ann@owner.example")], "owner.example", None, id="address"),
        pytest.param(
            [lent(**_SIGNS), identity("ann@owner.example", dkim_enabled=False)],
            None,
            "DKIM is switched off for ann@owner.example",
            id="address-off",
        ),
        pytest.param(
            [lent(**_SIGNS, dkim_enabled=False), identity("ann@owner.example")],
            None,
            "DKIM is switched off for owner.example",
            id="address-under-a-domain-that-is-off",
        ),
        pytest.param(
            [identity("ann@owner.example", policy(statement(_ANN)), dkim_enabled=True)],
            None,
            "no domain identity above ann@owner.example holds a key",
            id="address-alone",
        ),
        pytest.param(
            [
                identity("ann@owner.example", policy(statement(_ANN))),
                identity("owner.example", verified=False, **_SIGNS),
            ],
            None,
            "no domain identity above ann@owner.example holds a key",
            id="unverified-domain",
        ),
    ],
)
def test_r11_the_owners_key_signs(found: list[Identity], signer: str | None, because: str | None) -> None:
    named = _ANN if len(found[0].policies) and found[0].name == "ann@owner.example" else _DOMAIN
    allowed = _allowed(decided(_borrowed(arns=named, mail_from="ann@owner.example"), ground(*found)))
    assert (allowed.signer.name if allowed.signer else None, allowed.unsigned_because) == (signer, because)


def test_r11_the_deepest_verified_domain_signs() -> None:
    on = ground(lent(**_SIGNS), identity("sub.owner.example", **_SIGNS), identity("ann@sub.owner.example"))
    allowed = _allowed(decided(_borrowed(from_="ann@sub.owner.example"), on))
    assert allowed.signer is not None
    assert allowed.signer.name == "sub.owner.example"


def test_r11_the_senders_own_key_never_signs_for_a_borrowed_identity() -> None:
    mine = identity("owner.example", account_id=DELEGATE, **_SIGNS)
    assert _allowed(decided(_borrowed(), ground(mine, lent()))).signer is None


# ---------------------------------------------------------------- what is asked


def test_an_address_used_twice_under_one_arn_is_judged_once() -> None:
    questions = Questions()
    decide(
        _borrowed(mail_from="ann@owner.example", sender="Ann <ann@owner.example>"),
        ground(lent()),
        RULES,
        questions.ask,
    )
    assert [(one.side, one.resource) for one in questions] == [("sender", _DOMAIN), ("owner", _DOMAIN)]


def test_the_questions_name_both_sides_and_every_level_once() -> None:
    questions = Questions()
    on = ground(identity("ann@owner.example", policy(statement(_ANN, Action="ses:X"))), lent())
    decide(_borrowed(), on, RULES, questions.ask)
    assert [(one.side, one.resource) for one in questions] == [
        *(("sender", _DOMAIN), ("owner", _ANN), ("owner", _DOMAIN)),
    ]


def test_two_identities_are_asked_each_for_itself() -> None:
    questions = Questions()
    mail_from = identity("other.example", policy(statement(arn("other.example"))))
    arns = Arns(from_=_DOMAIN, return_path=mail_from.arn)
    what = send(mail_from="b@other.example", arns=arns)
    decide(what, ground(lent(), mail_from), RULES, questions.ask)
    assert [(one.side, one.resource) for one in questions] == [
        *(("sender", _DOMAIN), ("owner", _DOMAIN)),
        *(("sender", mail_from.arn), ("owner", mail_from.arn)),
    ]


class _Watched(Identities):
    """Notes each identity that a decision asks for."""

    def __init__(self, found: Sequence[Identity]) -> None:
        self.asked: set[tuple[str, str]] = set()
        super().__init__(_Watching({(one.account_id, one.name.lower()): (one,) for one in found}, self.asked))


class _Watching(dict[tuple[str, str], Any]):
    def __init__(self, found: dict[tuple[str, str], Any], asked: set[tuple[str, str]]) -> None:
        super().__init__(found)
        self._asked = asked

    def get(self, key: tuple[str, str], default: Any = None) -> Any:
        self._asked.add(key)
        return super().get(key, default)


_addresses = st.sampled_from(
    ["ann@owner.example", "Ann+x@sub.owner.example", "me@mine.example", "x@far.example", "ann@OWNER.example"]
)
_arns = st.sampled_from(
    [None, _DOMAIN, _ANN, arn("mine.example", DELEGATE), arn("Owner.example"), "nonsense"]
)


@settings(max_examples=100, deadline=None)
@given(
    addresses=st.tuples(_addresses, _addresses, st.none() | _addresses, st.none() | _addresses),
    to=st.lists(_addresses, min_size=1, max_size=3),
    arns=st.builds(Arns, _arns, _arns, _arns),
    production=st.booleans(),
    owner_production=st.booleans(),
)
@example(
    addresses=("ann@owner.example", "ann@owner.example", None, None),
    to=["x@far.example"],
    arns=Arns(_DOMAIN),
    production=True,
    owner_production=False,
)
@pytest.mark.parametrize("rules", [RULES, _BOTH_OUT], ids=["sender", "owner-too"])
def test_a_decision_asks_for_no_identity_that_was_not_wanted(
    rules: Rules, addresses: Any, to: list[str], arns: Arns, production: bool, owner_production: bool
) -> None:
    from_, mail_from, sender, return_path = addresses
    what = send(from_, mail_from=mail_from, sender=sender, return_path=return_path, to=to, arns=arns)
    watched = _Watched([lent(), lent("ann@owner.example"), _MINE])
    on = ground(
        account=Account(DELEGATE, production=production),
        identities=watched,
        owners={OWNER: Account(OWNER, production=owner_production)},
    )
    decide(what, on, rules)
    assert watched.asked <= wanted(what, production, rules)


def test_the_owners_wanted_are_those_of_every_arn() -> None:
    arns = Arns(source=_DOMAIN, from_=arn("other.example", STRANGER))
    assert named_owners(send(arns=arns)) == {OWNER, STRANGER}
    assert named_owners(send(arns="nonsense")) == frozenset()
    assert named_owners(send()) == frozenset()


def test_the_letter_case_of_a_names_domain_in_an_arn_counts() -> None:
    upper = IdentityArn("aws", REGION, OWNER, "Owner.example")
    assert ground(lent()).identities.named(upper) is None
    what = _borrowed(arns=str(upper), mail_from="b@mine.example", from_="me@mine.example")
    assert isinstance(decided(what, ground(lent(), _MINE)), Allowed)
    _denied(decided(_borrowed(arns=str(upper)), ground(lent())), Reason.NOT_VERIFIED)


def test_addresses_reach_a_policy_with_the_domain_in_small_letters() -> None:
    assert Mailbox("Ann", "owner.example") == send("Ann@OWNER.example").from_.mailbox
    condition = {"StringEquals": {"ses:FromAddress": "Ann@owner.example"}}
    on = ground(identity("owner.example", policy(statement(_DOMAIN, Condition=condition))))
    assert isinstance(decided(_borrowed(from_="Ann@OWNER.example"), on), Allowed)
    _denied(decided(_borrowed(from_="ann@owner.example"), on), Reason.ACCESS_DENIED)


def test_what_somebody_listens_for_is_of_the_used_set_and_of_the_settings_identity() -> None:
    usual = ConfigurationSet("usual", events=frozenset({"Send"}), max_delivery_seconds=600)
    other = ConfigurationSet("other", events=frozenset({"Delivery"}))
    on = ground(
        replace(_MINE, configuration_set="usual", events=frozenset({"Bounce"})),
        configuration_sets={"usual": usual, "other": other},
    )
    allowed = _allowed(decided(_own(), on))
    assert (allowed.events, allowed.max_delivery_seconds) == ({"Bounce", "Send"}, 600)
    named = _allowed(decided(_own(configuration_set="other"), on))
    assert (named.events, named.max_delivery_seconds) == ({"Bounce", "Delivery"}, None)


def test_r03_a_foreign_default_set_is_not_listened_to() -> None:
    usual = ConfigurationSet("usual", events=frozenset({"Send"}), max_delivery_seconds=600)
    on = ground(lent(configuration_set="usual"), configuration_sets={"usual": usual})
    allowed = _allowed(decided(_borrowed(), on))
    assert (allowed.events, allowed.max_delivery_seconds) == (frozenset(), None)
