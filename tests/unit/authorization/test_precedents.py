"""A precedent answers as the decision itself would, and only where it may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.authorization import precedents
from relay.authorization.context import OF_EACH_MESSAGE, context_of
from relay.authorization.decision import Account, Allowed, ConfigurationSet, Denied, Ground, Rules, decide
from relay.authorization.policy import Policy
from relay.authorization.precedents import Precedents
from relay.authorization.send import Arns, Send
from relay.submission.address import parse_mailbox
from tests.unit.authorization.ground import (
    AT,
    DELEGATE,
    MAY_SEND,
    REGION,
    RULES,
    arn,
    ground,
    identity,
    lent,
    policy,
    send,
    statement,
    user,
    user_policy,
)

OWNED = "owner.example"
OTHERS = {"recipients": (parse_mailbox("other@elsewhere.example"),), "at": AT + 86_400_000_000}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Send]:
    """What was decided and not merely remembered."""
    found: list[Send] = []

    def noting(what: Send, *rest: Any) -> Allowed | Denied:
        found.append(what)
        return decide(what, *rest)

    monkeypatch.setattr(precedents, "decide", noting)
    return found


def submission(**changed: Any) -> Send:
    return send(arns=arn(OWNED), **changed)


def on(what: Ground, rules: Rules = RULES) -> Precedents:
    return Precedents(user(), what, rules)


def limited(**condition: dict[str, Any]) -> Ground:
    """Lent under a condition."""
    return ground(identity(OWNED, policy(statement(arn(OWNED), Condition=condition))))


def test_recipients_and_time_make_no_new_question(asked: list[Send]) -> None:
    before = on(ground(lent()))
    first = before.decide(submission())
    assert isinstance(first, Allowed)
    assert before.decide(submission(**OTHERS)) is first
    assert len(asked) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"from_": "Ann <ann@owner.example>"},
        {"from_": "bob@owner.example"},
        {"sender": "ann@owner.example"},
        {"mail_from": "other@owner.example"},
        {"return_path": "r@owner.example"},
        {"action": "ses:SendEmail"},
        {"api_version": "1"},
        {"source_ip": "203.0.113.8"},
        {"is_secure": False},
        {"user_agent": "curl"},
        {"configuration_set": "News"},
        {"principal": user("other")},
        {"principal": user(tags=(("team", "a"),))},
    ],
    ids=lambda changed: "-".join(f"{key}" for key in changed),
)
def test_whatever_else_differs_is_decided_anew(asked: list[Send], changed: dict[str, Any]) -> None:
    here = ground(lent(), configuration_sets={"News": ConfigurationSet("News")})
    before = on(here)
    before.decide(submission())
    assert before.decide(submission(**changed)) == decide(submission(**changed), here, RULES)
    assert len(asked) == 2


def test_an_arn_more_or_less_is_decided_anew(asked: list[Send]) -> None:
    before = on(ground(lent()))
    for arns in (Arns(source=arn(OWNED)), Arns(arn(OWNED), return_path=arn("other.example")), None):
        before.decide(send(arns=arns))
    assert len(asked) == 3


@pytest.mark.parametrize(
    "limits",
    [
        {"StringLike": {"ses:Recipients": "*@recipient.example"}},
        {"ForAllValues:StringLike": {"SES:RECIPIENTS": ["*@recipient.example"]}},
        {"Null": {"ses:recipients": "false"}},
        {"DateLessThan": {"aws:CurrentTime": "2024-06-16T00:00:00Z"}},
        {"NumericLessThan": {"aws:EpochTime": "1718500000"}},
        {"StringLike": {"ses:FromAddress": ["ann@*", "${ses:Recipients, 'x'}"]}},
    ],
    ids=["recipients", "all-recipients", "null", "time", "epoch", "variable"],
)
def test_what_looks_at_each_message_is_asked_each_time(asked: list[Send], limits: dict[str, Any]) -> None:
    here = limited(**limits)
    before = on(here)
    for what in (submission(), submission(**OTHERS), submission()):
        assert before.decide(what) == decide(what, here, RULES)
    assert len(asked) == 3


def test_a_condition_on_other_things_keeps_its_precedent(asked: list[Send]) -> None:
    before = on(limited(StringEquals={"ses:FromAddress": "ann@owner.example"}))
    assert before.decide(submission(**OTHERS)) is before.decide(submission())
    assert len(asked) == 1


@pytest.mark.parametrize(
    "own",
    [
        user_policy(name="own", Condition={"StringLike": {"ses:Recipients": "*@recipient.example"}}),
        user_policy(effect="Deny", name="not now", Condition={"Null": {"aws:CurrentTime": "true"}}),
    ],
    ids=["recipients", "time"],
)
def test_the_users_own_policies_are_looked_at_too(asked: list[Send], own: Policy) -> None:
    before = on(ground(lent(), user_policies=(MAY_SEND, own)))
    before.decide(submission())
    before.decide(submission())
    assert len(asked) == 2


def test_a_resource_with_a_variable_is_looked_at_too(asked: list[Send]) -> None:
    of_time = statement(f"arn:aws:ses:{REGION}:111111111111:identity/${{aws:CurrentTime}}")
    before = on(ground(identity(OWNED, policy(statement(arn(OWNED)), of_time))))
    before.decide(submission())
    before.decide(submission())
    assert len(asked) == 2


def test_r15_in_a_sandbox_recipients_count(asked: list[Send]) -> None:
    here = ground(lent(), account=Account(DELEGATE, production=False))
    before = on(here)
    assert isinstance(before.decide(submission()), Denied)
    assert isinstance(before.decide(submission(**OTHERS)), Denied)
    assert len(asked) == 2


def test_r15_the_owners_sandbox_too_if_it_counts(asked: list[Send]) -> None:
    before = on(ground(lent()), Rules(REGION, owner_out_of_sandbox_too=True))
    before.decide(submission())
    before.decide(submission())
    assert len(asked) == 2


def test_a_refusal_is_no_precedent(asked: list[Send]) -> None:
    before = on(ground(identity(OWNED)))
    assert isinstance(before.decide(submission()), Denied)
    assert isinstance(before.decide(submission()), Denied)
    assert len(asked) == 2


def test_memory_is_bounded(asked: list[Send]) -> None:
    before = on(ground(lent()))
    for number in range(1000):
        before.decide(submission(from_=f"Ann {number} <ann@owner.example>"))
    assert len(before._allowed) <= 16, "a worker holds up to 1,024 of these (store/directory.py)"
    assert len(asked) == 1000


@pytest.mark.parametrize(
    "long",
    [
        {"from_": f"{'x' * 2000} <ann@owner.example>"},
        {"sender": f"{'x' * 2000} <a@owner.example>"},
        {"user_agent": "x" * 2000},
    ],
    ids=["from", "sender", "agent"],
)
def test_what_is_long_is_not_kept(asked: list[Send], long: dict[str, Any]) -> None:
    before = on(ground(lent()))
    assert isinstance(before.decide(submission(**long)), Allowed)
    assert before.decide(submission(**long)) == before.decide(submission(**long))
    assert len(asked) == 3
    assert not before._allowed


def test_messages_of_one_sender_differ_in_nothing_else_that_policies_see() -> None:
    """A key that is new in the context must be part of the question, or of what differs each time."""
    one, other = (context_of(what, REGION) for what in (submission(), submission(**OTHERS)))
    assert {key for key in one if one[key] != other[key]} == OF_EACH_MESSAGE
    assert one.keys() == other.keys()
    asked_of = replace(submission(), user_agent="agent", source_ip="192.0.2.1", is_secure=False)
    assert context_of(asked_of, REGION).keys() - one.keys() == {"aws:useragent"}
