"""Identities: which addresses each covers, and in which order they are asked (R1)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.authorization.identities import (
    covering_names,
    covers,
    identity_arn,
    most_specific_verified,
    parse_identity_arn,
)
from relay.submission.address import Mailbox, parse_mailbox
from tests.unit.authorization.ground import DELEGATE, OWNER, arn, identities, identity

_ARN = "arn:aws:ses:us-east-1:111111111111:identity/example.com"


# ---------------------------------------------------------------- ARNs


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (_ARN, ("aws", "us-east-1", OWNER, "example.com")),
        (
            "arn:aws:ses:eu-west-1:000000000001:identity/Ann+x@example.com",
            ("aws", "eu-west-1", "000000000001", "Ann+x@example.com"),
        ),
        (
            "arn:aws-us-gov:ses:us-gov-west-1:111111111111:identity/a.b",
            ("aws-us-gov", "us-gov-west-1", OWNER, "a.b"),
        ),
    ],
    ids=["domain", "address-as-written", "other-partition"],
)
def test_an_identitys_arn_is_read_as_written(text: str, parts: tuple[str, ...]) -> None:
    found = parse_identity_arn(text)
    assert found is not None
    assert (found.partition, found.region, found.account_id, found.name) == parts
    assert str(found) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "example.com", "arn:aws:ses:us-east-1:111111111111:example.com"),
        *(f" {_ARN}", f"{_ARN} ", f"{_ARN}\n", _ARN.upper(), _ARN.replace("identity", "Identity")),
        *(_ARN.replace("identity/example.com", "identity/"), _ARN.replace("identity/", "identity:")),
        *(_ARN.replace("us-east-1", ""), _ARN.replace("us-east-1", "*"), _ARN.replace(OWNER, "1111")),
        *(_ARN.replace(OWNER, "١" * 12), _ARN.replace(OWNER, ""), _ARN.replace(":ses:", ":iam:")),
        *(_ARN.replace("example.com", "exämple.com"), _ARN.replace("example.com", "a b"), _ARN + "x" * 320),
        *(_ARN.replace("arn:aws:", "arn:awsx:"), _ARN.replace("arn:aws:", "arn::"), f"<{_ARN}>"),
        _ARN.replace("identity/example.com", "configuration-set/example.com"),
    ],
)
def test_nothing_else_is_an_identitys_arn(text: str) -> None:
    assert parse_identity_arn(text) is None


def test_an_identity_has_the_arn_of_its_name() -> None:
    assert identity_arn("us-east-1", OWNER, "example.com") == _ARN


# ---------------------------------------------------------------- covering


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        pytest.param("example.com", "ann@example.com", True, id="domain"),
        pytest.param("example.com", "ann@EXAMPLE.com", True, id="domain-in-capitals"),
        pytest.param("example.com", "ann@sub.example.com", True, id="subdomain"),
        pytest.param("example.com", "ann@a.b.c.example.com", True, id="deep-subdomain"),
        pytest.param("sub.example.com", "ann@example.com", False, id="nothing-upwards"),
        pytest.param("www.example.com", "ann@sub.example.com", False, id="sibling"),
        pytest.param("example.com", "ann@notexample.com", False, id="look-alike"),
        pytest.param("example.com", "ann@example.com.evil.example", False, id="domain-in-front"),
        pytest.param("example.com", "example.com@evil.example", False, id="domain-as-local-part"),
        pytest.param("com", "ann@example.com", True, id="top-level"),
        pytest.param("ann@example.com", "ann@example.com", True, id="address"),
        pytest.param("ann@example.com", "Ann@example.com", False, id="address-in-other-case"),
        pytest.param("Ann@example.com", "Ann@example.com", True, id="address-as-written"),
        pytest.param("ann@example.com", "ann@Example.com", True, id="domain-of-address-in-capitals"),
        pytest.param("ann@example.com", "ann+x@example.com", True, id="label"),
        pytest.param("ann@example.com", "ann+x+y@example.com", True, id="label-with-plus"),
        pytest.param("ann@example.com", "ann+@example.com", True, id="empty-label"),
        pytest.param("ann+x@example.com", "ann+x@example.com", True, id="labelled-identity"),
        pytest.param("ann+x@example.com", "ann@example.com", False, id="label-covers-nothing-above"),
        pytest.param("ann+x@example.com", "ann+x+y@example.com", False, id="label-has-no-labels"),
        pytest.param("ann@example.com", "Ann+x@example.com", False, id="label-in-other-case"),
        pytest.param("ann@example.com", "ann-x@example.com", False, id="other-separator"),
        pytest.param("ann@example.com", "anna@example.com", False, id="prefix"),
        pytest.param("ann@example.com", "ann@sub.example.com", False, id="address-at-subdomain"),
        pytest.param("@example.com", "+x@example.com", False, id="label-of-nobody"),
    ],
)
def test_an_identity_covers_an_address(name: str, address: str, expected: bool) -> None:
    assert covers(name, parse_mailbox(address)) is expected


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("ann@example.com", ["ann@example.com", "example.com"]),
        (
            "Ann+x@a.b.example.com",
            [
                "Ann+x@a.b.example.com",
                "Ann@a.b.example.com",
                "a.b.example.com",
                "b.example.com",
                "example.com",
            ],
        ),
        ("ann+x+y@example.com", ["ann+x+y@example.com", "ann@example.com", "example.com"]),
        ("+x@example.com", ["+x@example.com", "example.com"]),
        ("root@localhost", ["root@localhost", "localhost"]),
    ],
)
def test_the_most_specific_name_is_asked_first(address: str, names: list[str]) -> None:
    assert list(covering_names(parse_mailbox(address))) == names


_mailboxes = st.builds(
    Mailbox,
    st.sampled_from(["a", "A", "a+b", "a+b+c", "+a"]),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(".".join),
)


@settings(max_examples=100, deadline=None)
@given(_mailboxes, _mailboxes)
def test_covering_names_are_the_names_that_cover_but_for_a_top_level_domain(
    one: Mailbox, other: Mailbox
) -> None:
    names = set(covering_names(one))
    assert all(covers(name, one) for name in names)
    for name in (str(other), other.domain):
        is_top_level = "@" not in name and "." not in name and "." in one.domain
        assert is_top_level or (name in names) is covers(name, one)


# ---------------------------------------------------------------- the identities of one decision


def test_those_that_cover_come_most_specific_first_verified_or_not() -> None:
    found = [
        identity("example.com"),
        identity("ann@a.example.com", verified=False),
        identity("a.example.com"),
        identity("other.example"),
        identity("ann+x@a.example.com"),
        identity("a.example.com", account_id=DELEGATE),
    ]
    covering = identities(*found).covering(OWNER, parse_mailbox("ann+x@a.example.com"))
    assert [one.name for one in covering] == [
        *("ann+x@a.example.com", "ann@a.example.com", "a.example.com", "example.com")
    ]
    assert {one.account_id for one in covering} == {OWNER}


def test_an_address_identity_in_another_letter_case_does_not_cover() -> None:
    found = identities(identity("Ann@example.com"), identity("example.com"))
    assert [one.name for one in found.covering(OWNER, parse_mailbox("ann@example.com"))] == ["example.com"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ann@example.com", True),
        ("ANN@example.com", True),
        ("ann+x@example.com", True),
        ("Ann@example.com", False),
        ("Ann+x@example.com", False),
        ("Ann@sub.example.com", False),
        ("bob@example.com", False),
    ],
)
def test_an_address_that_differs_from_an_identity_only_by_case_is_noticed(
    address: str, expected: bool
) -> None:
    found = identities(identity("Ann@example.com"), identity("example.com"))
    assert found.has_other_case(OWNER, parse_mailbox(address)) is expected


def test_two_identities_that_differ_by_case_both_cover_their_own() -> None:
    found = identities(identity("Ann@example.com"), identity("ann@example.com"))
    for address in ("Ann@example.com", "ann@example.com"):
        assert [one.name for one in found.covering(OWNER, parse_mailbox(address))] == [address]
        assert not found.has_other_case(OWNER, parse_mailbox(address))


@pytest.mark.parametrize(
    ("name", "account_id", "expected"),
    [
        ("example.com", OWNER, True),
        ("Example.com", OWNER, False),
        ("Ann@example.com", OWNER, True),
        ("ann@example.com", OWNER, False),
        ("example.com", DELEGATE, False),
        ("sub.example.com", OWNER, False),
    ],
)
def test_an_arn_names_an_identity_exactly_as_written(name: str, account_id: str, expected: bool) -> None:
    found = identities(identity("Ann@example.com"), identity("example.com"))
    named = parse_identity_arn(arn(name, account_id))
    assert named is not None
    assert (found.named(named) is not None) is expected


@pytest.mark.parametrize(
    ("verified", "expected"),
    [((True, True), "first"), ((False, True), "second"), ((False, False), None), ((), None)],
)
def test_the_first_verified_one_applies(verified: tuple[bool, ...], expected: str | None) -> None:
    names = ("first", "second")
    found = [identity(name, verified=one) for name, one in zip(names, verified, strict=False)]
    chosen = most_specific_verified(found)
    assert (chosen.name if chosen else None) == expected


def test_a_domain_has_no_at() -> None:
    assert identity("example.com").is_domain
    assert not identity("ann@example.com").is_domain
