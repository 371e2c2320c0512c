"""What a submission says to a policy: the keys that are known, each with its value, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from relay.authorization.context import context_of
from tests.unit.authorization.ground import DELEGATE, REGION, send, service, user

_ALWAYS = {
    "ses:recipients": ("someone@recipient.example",),
    "ses:fromaddress": "ann@owner.example",
    "ses:feedbackaddress": "bounces@owner.example",
    "ses:apiversion": "2",
    "aws:sourceip": "203.0.113.7",
    "aws:securetransport": "true",
    "aws:currenttime": "2024-06-15T12:00:00Z",
    "aws:epochtime": "1718452800",
    "aws:requestedregion": REGION,
    "aws:viaawsservice": "false",
}
_OF_USER = {
    "aws:principalisawsservice": "false",
    "aws:principalarn": "arn:aws:iam::222222222222:user/app",
    "aws:principalaccount": DELEGATE,
    "aws:principaltype": "User",
    "aws:userid": "AIDAAPP",
    "aws:username": "app",
}
_OF_SERVICE = {
    "aws:principalisawsservice": "true",
    "aws:sourceaccount": DELEGATE,
    "aws:sourcearn": "arn:aws:cognito-idp:us-east-1:222222222222:userpool/pool",
}


def test_a_users_message_says_this_and_no_more() -> None:
    assert context_of(send(), REGION) == {**_ALWAYS, **_OF_USER}


def test_a_services_message_says_this_and_no_more() -> None:
    assert context_of(send(principal=service()), REGION) == {**_ALWAYS, **_OF_SERVICE}


@pytest.mark.parametrize(
    ("changed", "key", "value"),
    [
        ({"is_secure": False}, "aws:securetransport", "false"),
        ({"user_agent": "sdk/1"}, "aws:useragent", "sdk/1"),
        ({"user_agent": ""}, "aws:useragent", None),
        ({"from_": "Ann Owner <ann@owner.example>"}, "ses:fromdisplayname", "Ann Owner"),
        ({"from_": " <ann@owner.example>"}, "ses:fromdisplayname", None),
        ({"from_": "Ann@OWNER.example"}, "ses:fromaddress", "Ann@owner.example"),
        ({"return_path": "ret@owner.example"}, "ses:feedbackaddress", "ret@owner.example"),
        ({"sender": "x@owner.example"}, "ses:fromaddress", "ann@owner.example"),
        (
            {"to": ["A@One.example", "b@two.example", "A@One.example"]},
            "ses:recipients",
            ("A@one.example", "b@two.example", "A@one.example"),
        ),
        ({"at": 0}, "aws:currenttime", "1970-01-01T00:00:00Z"),
        ({"at": 999_999}, "aws:epochtime", "0"),
        ({"principal": user(user_name=None)}, "aws:username", None),
        ({"principal": user(tags=(("Team", "Mail"),))}, "aws:principaltag/team", "Mail"),
        ({"principal": user(tags=(("Team", ""),))}, "aws:principaltag/team", None),
        ({"api_version": "1"}, "ses:apiversion", "1"),
    ],
)
def test_a_key_has_its_value_or_is_absent(changed: dict[str, Any], key: str, value: Any) -> None:
    assert context_of(send(**changed), REGION).get(key) == value


def test_no_key_is_empty() -> None:
    what = send(
        " <ann@owner.example>", user_agent="", principal=user(user_name="", tags=(("a", ""), ("b", "c")))
    )
    assert all(context_of(what, REGION).values())
