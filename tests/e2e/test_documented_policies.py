"""The policy examples of SES's documentation: the same verdict through real SMTP and through ``explain``."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import DELEGATE, OWNER, REGION, Gateway, Login, arn, user_arn

_numbers = itertools.count(1)
POOL = f"arn:aws:cognito-idp:{REGION}:{OWNER}:userpool/us-east-1_pool"


@dataclass(frozen=True)
class Example:
    """A documented statement; ``{domain}`` stands for the lent domain.

    ``sent`` are messages with their verdict: From, and what differs from the usual.
    """

    statement: dict[str, Any]
    sent: list[tuple[bool, str, dict[str, Any]]] = field(default_factory=list)


ANYONE_OF = {"AWS": [user_arn("app")]}
EXAMPLES = {
    # Developer Guide, sending authorization policy examples: specifying the principal
    "account": Example({"Principal": {"AWS": [DELEGATE]}}, [(True, "a@{domain}", {})]),
    "account as root": Example(
        {"Principal": {"AWS": [f"arn:aws:iam::{DELEGATE}:root"]}}, [(True, "a@{domain}", {})]
    ),
    "other account": Example({"Principal": {"AWS": ["333333333333"]}}, [(False, "a@{domain}", {})]),
    "user": Example({"Principal": {"AWS": [user_arn("app"), user_arn("John")]}}, [(True, "a@{domain}", {})]),
    # restricting the From address
    "From by label": Example(
        {
            "Principal": ANYONE_OF,
            "Condition": {"StringLike": {"ses:FromAddress": "marketing+.*@{domain}"}},
        },
        [
            (True, "marketing+.x@{domain}", {}),
            (False, "marketing+x@{domain}", {}),
            (False, "sales@{domain}", {}),
        ],
    ),
    "From by beginning": Example(
        {
            "Principal": ANYONE_OF,
            "Condition": {"StringLike": {"ses:FromAddress": "invoicing*@{domain}"}},
        },
        [(True, "invoicing-eu@{domain}", {}), (False, "eu-invoicing@{domain}", {})],
    ),
    "From but not admin": Example(
        {
            "Principal": ANYONE_OF,
            "Condition": {"StringNotLike": {"ses:FromAddress": "*admin*{domain}"}},
        },
        [
            (True, "sender@{domain}", {}),
            (False, "admin@{domain}", {}),
            (False, "admin+1@{domain}", {}),
            (False, "sender@admin.{domain}", {}),
        ],
    ),
    # restricting the display name
    "display name": Example(
        {"Principal": ANYONE_OF, "Condition": {"StringLike": {"ses:FromDisplayName": "Marketing"}}},
        [
            (True, "Marketing <a@{domain}>", {}),
            (True, "=?utf-8?q?Marketing?= <a@{domain}>", {}),
            (False, "Marketing Team <a@{domain}>", {}),
            (False, "a@{domain}", {}),
        ],
    ),
    # restricting the time
    "time": Example(
        {
            "Principal": ANYONE_OF,
            "Condition": {
                "DateGreaterThan": {"aws:CurrentTime": "2021-08-31T12:00Z"},
                "DateLessThan": {"aws:CurrentTime": "2022-08-31T12:00Z"},
            },
        },
        [(False, "a@{domain}", {})],
    ),
    "time to come": Example(
        {
            "Principal": ANYONE_OF,
            "Condition": {
                "DateGreaterThan": {"aws:CurrentTime": "2021-08-31T12:00Z"},
                "DateLessThan": {"aws:CurrentTime": "2121-08-31T12:00Z"},
            },
        },
        [(True, "a@{domain}", {})],
    ),
    # restricting From and Return-Path together
    "both addresses": Example(
        {
            "Principal": ANYONE_OF,
            "Condition": {
                "StringLike": {"ses:FromAddress": "*@{domain}", "ses:FeedbackAddress": "*@{domain}"}
            },
        },
        [(True, "a@{domain}", {}), (False, "a@sub.{domain}", {})],
    ),
    # restricting the recipients
    "recipients": Example(
        {
            "Principal": ANYONE_OF,
            "Condition": {"ForAllValues:StringLike": {"ses:Recipients": "*@example.com"}},
        },
        [
            (True, "a@{domain}", {"rcpt": ["b@example.com", "c@example.com"]}),
            (True, "a@{domain}", {"rcpt": ["b@Example.com"]}),
            (False, "a@{domain}", {"rcpt": ["b@example.com", "c@example.net"]}),
        ],
    ),
    # restricting the action and the API version: SMTP is version 2 of ses:SendRawEmail
    "SendRawEmail": Example(
        {"Principal": ANYONE_OF, "Action": "ses:SendRawEmail"}, [(True, "a@{domain}", {})]
    ),
    "SendEmail only": Example(
        {"Principal": ANYONE_OF, "Action": "ses:SendEmail"}, [(False, "a@{domain}", {})]
    ),
    "API version 2": Example(
        {"Principal": ANYONE_OF, "Condition": {"StringEquals": {"ses:ApiVersion": "2"}}},
        [(True, "a@{domain}", {})],
    ),
    "API version 1": Example(
        {"Principal": ANYONE_OF, "Condition": {"StringEquals": {"ses:ApiVersion": "1"}}},
        [(False, "a@{domain}", {})],
    ),
    # an organization, which nobody here has
    "organization": Example(
        {"Principal": "*", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-xxxxxxxxxxx"}}},
        [(False, "a@{domain}", {})],
    ),
    "address of the client": Example(
        {"Principal": ANYONE_OF, "Condition": {"IpAddress": {"aws:SourceIp": ["127.0.0.0/8"]}}},
        [(True, "a@{domain}", {})],
    ),
    "TLS": Example(
        {"Principal": ANYONE_OF, "Condition": {"Bool": {"aws:SecureTransport": "true"}}},
        [(True, "a@{domain}", {})],
    ),
}
CASES = [
    pytest.param(example.statement, *sent, id=f"{name}: {sent[1]} {sent[2] or ''}".strip())
    for name, example in EXAMPLES.items()
    for sent in example.sent
]


def filled(value: Any, domain: str) -> Any:
    return json.loads(json.dumps(value).replace("{domain}", domain))


@pytest.fixture
def lent(gateway: Gateway) -> str:
    name = f"doc{next(_numbers)}.example"
    gateway.identity(name)
    return name


@pytest.mark.parametrize(("statement", "is_allowed", "from_", "more"), CASES)
def test_documented_policy_gives_the_documented_verdict(
    gateway: Gateway, app: Login, lent: str, tmp_path: Path, statement, is_allowed, from_, more
):
    document = {
        "Version": "2012-10-17",
        "Id": "ExampleAuthorizationPolicy",
        "Statement": [
            {
                "Sid": "Example",
                "Effect": "Allow",
                "Action": ["ses:SendEmail", "ses:SendRawEmail"],
                "Resource": arn(lent),
                **filled(statement, lent),
            }
        ],
    }
    gateway.policy(arn(lent), document)
    from_ = from_.format(domain=lent)
    address = from_.partition("<")[2].rstrip(">") or from_
    rcpts = more.get("rcpt", ["user@customer.example"])
    code, text = gateway.send(app, mail_from=address, rcpt=rcpts, headers={"From": from_}, arns=arn(lent))
    assert (code == 250) is is_allowed, text
    message = tmp_path / "message.eml"
    message.write_text(f"From: {from_}\nX-SES-SOURCE-ARN: {arn(lent)}\n\nx\n")
    explained = gateway.run(
        "explain",
        str(message),
        "--user",
        user_arn("app"),
        "--mail-from",
        address,
        *(part for rcpt in rcpts for part in ("--rcpt", rcpt)),
    )
    assert (explained["decision"] == "Allowed") is is_allowed


def test_service_example(gateway: Gateway, lent: str, tmp_path: Path):
    """Cognito, restricted to one account and one user pool."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": ["cognito-idp.amazonaws.com", "email.cognito-idp.amazonaws.com"]},
        "Action": ["ses:SendEmail", "ses:SendRawEmail"],
        "Resource": arn(lent),
        "Condition": {
            "StringEquals": {"aws:SourceAccount": OWNER},
            "ArnLike": {"aws:SourceArn": POOL},
        },
    }
    gateway.policy(arn(lent), {"Version": "2012-10-17", "Statement": [statement]})
    message = tmp_path / "message.eml"
    message.write_text(f"From: a@{lent}\nX-SES-SOURCE-ARN: {arn(lent)}\n\nx\n")
    for account, source, expected in ((OWNER, POOL, 250), (DELEGATE, POOL, 554), (OWNER, POOL + "x", 554)):
        service = ["--service", "cognito-idp.amazonaws.com", "--source-arn", source, "--account", account]
        made = gateway.run("credential", "create", *service)
        login = Login(made["smtp_username"], made["smtp_password"])
        own = expected == 554 and account == OWNER
        code, _ = gateway.send(login, mail_from=f"a@{lent}", headers={"From": f"a@{lent}"}, arns=arn(lent))
        # A service in the owner's own account needs no policy (R19).
        assert code == (250 if own else expected)
        explained = gateway.run(
            "explain", str(message), *service, "--mail-from", f"a@{lent}", "--rcpt", "b@customer.example"
        )
        assert (explained["decision"] == "Allowed") is (code == 250)


def test_quoted_local_part_is_refused_before_any_policy(gateway: Gateway, app: Login, lent: str):
    gateway.policy(
        arn(lent),
        {
            "Version": "2012-10-17",
            "Statement": {
                "Effect": "Allow",
                "Principal": ANYONE_OF,
                "Action": "ses:SendRawEmail",
                "Resource": arn(lent),
                "Condition": {"StringNotLike": {"ses:FromAddress": f"*admin*{lent}"}},
            },
        },
    )
    code, text = gateway.send(app, mail_from=f"a@{lent}", headers={"From": f'"admin"@{lent}'}, arns=arn(lent))
    assert code == 554
    assert text.startswith("Transaction failed: ")
