"""The question a submission poses: which addresses it uses, under which ARN, and how it is kept."""

from __future__ import annotations

import json

import pytest

from relay.authorization.send import Arns, Send, from_record, to_record
from tests.unit.authorization.ground import send, service, user

_ALL = Arns(source="S", from_="F", return_path="R")


@pytest.mark.parametrize(
    ("arns", "from_", "return_path", "mail_from"),
    [
        (Arns(), None, None, None),
        (_ALL, "F", "R", "S"),
        (Arns(source="S"), "S", "S", "S"),
        (Arns(from_="F"), "F", "F", "F"),
        (Arns(return_path="R"), None, "R", None),
        (Arns(source="S", from_="F"), "F", "S", "S"),
        (Arns(source="S", return_path="R"), "S", "R", "S"),
        (Arns(from_="F", return_path="R"), "F", "R", "F"),
    ],
    ids=["none", "all", "source", "from", "return-path", "no-return-path", "no-from", "no-source"],
)
def test_r05_each_address_is_named_by_the_first_arn_of_its_row(
    arns: Arns, from_: str | None, return_path: str | None, mail_from: str | None
) -> None:
    what = send(sender="s@a.example", return_path="r@a.example", mail_from="m@a.example", arns=arns)
    assert [(claim.role, claim.arn) for claim in what.claims] == [
        ("From", from_),
        ("Sender", from_),
        ("Return-Path", return_path),
        ("MAIL FROM", mail_from),
    ]


@pytest.mark.parametrize(
    ("what", "used"),
    [
        (send("Ann <a@a.example>", mail_from="m@a.example"), ["Ann <a@a.example>", "m@a.example"]),
        (
            send("a@a.example", sender="Bob <b@a.example>", mail_from="m@a.example"),
            ["a@a.example", "Bob <b@a.example>", "m@a.example"],
        ),
        (
            send("a@a.example", return_path="r@a.example", mail_from="m@a.example"),
            ["a@a.example", "r@a.example", "m@a.example"],
        ),
        (
            send("a@a.example", return_path="m@a.example", mail_from="m@A.example"),
            ["a@a.example", "m@a.example"],
        ),
    ],
    ids=["plain", "sender", "return-path", "return-path-as-mail-from"],
)
def test_every_address_that_is_used_is_claimed(what: Send, used: list[str]) -> None:
    assert [claim.shown for claim in what.claims] == used


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(send(), id="plain"),
        pytest.param(
            send(
                "Jörg \U0001f600 <Ann+x@owner.example>",
                sender="s@a.example",
                return_path="r@a.example",
                to=["a@a.example", "B@b.example"],
                arns=_ALL,
                configuration_set="mine",
                user_agent="sdk/1",
                is_secure=False,
                principal=user(tags=(("b", "1"), ("a", "2"))),
            ),
            id="everything",
        ),
        pytest.param(send(principal=service()), id="service"),
    ],
)
def test_a_question_that_was_kept_is_the_same_again(what: Send) -> None:
    assert from_record(json.loads(json.dumps(to_record(what)))) == what


@pytest.mark.parametrize("missing", ["principal", "from", "recipients", "at", "configuration_set"])
def test_a_record_that_lacks_something_is_refused(missing: str) -> None:
    record = to_record(send())
    del record[missing]
    with pytest.raises(KeyError):
        from_record(record)


@pytest.mark.parametrize(
    ("key", "value"), [("mail_from", "nobody"), ("from", [None, None]), ("return_path", "a b@c.example")]
)
def test_a_record_with_something_that_is_no_address_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValueError):
        from_record({**to_record(send()), key: value})
