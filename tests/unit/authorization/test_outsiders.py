"""Which statements lend an identity to another account: R3 asks before it stores."""

from __future__ import annotations

import pytest

from relay.authorization.outsiders import lends_outside
from tests.unit.authorization.ground import DELEGATE, OWNER, arn, policy, statement

MINE = arn("owner.example")
USER = f"arn:aws:iam::{DELEGATE}:user/app"


def lends(**changed) -> bool:
    return lends_outside(policy(statement(MINE, **changed)), OWNER) is not None


@pytest.mark.parametrize(
    "principal",
    [
        pytest.param("*", id="everyone"),
        pytest.param({"AWS": "*"}, id="every account"),
        pytest.param({"AWS": DELEGATE}, id="account"),
        pytest.param({"AWS": f"arn:aws:iam::{DELEGATE}:root"}, id="root"),
        pytest.param({"AWS": USER}, id="user"),
        pytest.param({"AWS": f"arn:aws:sts::{DELEGATE}:assumed-role/r/s"}, id="session"),
        pytest.param({"AWS": [OWNER, USER]}, id="one of several"),
        pytest.param({"Service": "cognito-idp.amazonaws.com"}, id="service"),
    ],
)
def test_r03_principal_of_another_account_is_outside(principal) -> None:
    assert lends(Principal=principal)


@pytest.mark.parametrize(
    "principal",
    [
        pytest.param({"AWS": OWNER}, id="account"),
        pytest.param({"AWS": f"arn:aws:iam::{OWNER}:root"}, id="root"),
        pytest.param({"AWS": [f"arn:aws:iam::{OWNER}:user/a", f"arn:aws:iam::{OWNER}:role/b"]}, id="users"),
        pytest.param({"AWS": "AIDAABCDEFGHIJKLMNOP"}, id="a user that was deleted"),
        pytest.param({"Federated": "accounts.example"}, id="nobody here"),
    ],
)
def test_r03_principal_of_the_owners_account_is_inside(principal) -> None:
    assert not lends(Principal=principal)


def test_r03_deny_lends_nothing() -> None:
    assert not lends(effect="Deny", Principal="*")


def test_r03_allow_for_all_but_somebody_lends_to_everybody_else() -> None:
    negated = {"Effect": "Allow", "NotPrincipal": {"AWS": DELEGATE}, "Action": "ses:*", "Resource": MINE}
    assert lends_outside(policy(negated), OWNER)


@pytest.mark.parametrize(
    ("condition", "is_inside"),
    [
        ({"StringEquals": {"aws:PrincipalAccount": OWNER}}, True),
        ({"StringEquals": {"AWS:SourceAccount": [OWNER]}}, True),
        ({"StringLike": {"aws:PrincipalAccount": OWNER}}, True),
        ({"StringEquals": {"aws:PrincipalAccount": [OWNER, DELEGATE]}}, False),
        ({"StringLike": {"aws:PrincipalAccount": f"{OWNER[:3]}*"}}, False),
        ({"StringEqualsIfExists": {"aws:PrincipalAccount": OWNER}}, False),
        ({"StringNotEquals": {"aws:PrincipalAccount": OWNER}}, False),
        ({"ForAllValues:StringEquals": {"aws:PrincipalAccount": OWNER}}, False),
        ({"StringEquals": {"aws:ResourceAccount": OWNER}}, False),
        ({"StringEquals": {"ses:FromAddress": "a@owner.example"}}, False),
    ],
    ids=lambda value: str(value),
)
def test_r03_only_a_condition_on_the_owners_account_keeps_everyone_inside(condition, is_inside) -> None:
    assert lends(Principal="*", Condition=condition) is not is_inside


def test_r03_first_statement_that_lends_is_named() -> None:
    found = lends_outside(
        policy(
            statement(MINE, Principal={"AWS": OWNER}),
            statement(MINE, Principal={"AWS": USER}, Sid="Lend"),
        ),
        OWNER,
    )
    assert found is not None
    assert (found.number, found.sid) == (1, "Lend")
