"""MTA-STS: records and policies as domains publish them, the wrong ones included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.mta_sts import Mode, NoPolicy, Policy, parse_policy, parse_record

GOOD = "version: STSv1\r\nmode: enforce\r\nmx: mail.x.example\r\nmx: *.x.example\r\nmax_age: 86400\r\n"


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        pytest.param(["v=STSv1; id=20260101T000000;"], "20260101T000000", id="as-in-the-standard"),
        pytest.param(["v=STSv1;id=1"], "1", id="tight"),
        pytest.param(["v=STSv1 ; other=x; id=abc ;"], "abc", id="another-field-before"),
        pytest.param(["v=spf1 -all", "v=STSv1; id=2;"], "2", id="beside-another-record"),
        pytest.param(["v=STSv1; id=1;", "v=STSv1; id=2;"], None, id="two-are-none"),
        pytest.param(["id=1; v=STSv1;"], None, id="version-comes-first"),
        pytest.param(["v=STSv2; id=1;"], None, id="another-version"),
        pytest.param(["v=STSv1;"], None, id="no-id"),
        pytest.param(["v=STSv1; id=;"], None, id="empty-id"),
        pytest.param(["v=STSv1; id=a-b;"], None, id="id-with-a-hyphen"),
        pytest.param([f"v=STSv1; id={'1' * 33};"], None, id="long-id"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_record_announces_a_policy_or_none(texts: list[str], found: str | None) -> None:
    assert parse_record(texts) == found


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        pytest.param(GOOD, Policy(Mode.ENFORCE, 86400, ("mail.x.example", "*.x.example")), id="usual"),
        pytest.param(
            "max_age:1\nmx:Mail.X.example\nmode:testing\nversion:STSv1",
            Policy(Mode.TESTING, 1, ("mail.x.example",)),
            id="any-order-and-line-end",
        ),
        pytest.param("version: STSv1\nmode: none\nmax_age: 60\n", Policy(Mode.NONE, 60, ()), id="none"),
        pytest.param(GOOD + "mode: none\n", parse_policy(GOOD), id="first-of-a-key-counts"),
        pytest.param(GOOD + "future: yes\n\n", parse_policy(GOOD), id="unknown-key"),
        pytest.param(
            "version: STSv1\nmode: none\nmax_age: 9999999999\n",
            Policy(Mode.NONE, 31_557_600, ()),
            id="a-year-at-most",
        ),
    ],
)
def test_policies(text: str, policy: Policy) -> None:
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "version"),
        (GOOD.replace("STSv1", "STSv2"), "version"),
        (GOOD.replace("enforce", "force"), "mode"),
        (GOOD.replace("86400", "-1"), "max_age"),
        (GOOD.replace("86400", "12345678901"), "max_age"),
        ("version: STSv1\nmode: enforce\nmax_age: 1\n", "no mx"),
        (GOOD + "mx: a.*.example\n", "no host name"),
        (GOOD + "mx: \n", "no host name"),
        (GOOD + "<html>\n", "not a line"),
        (GOOD + "mx: a.example\n" * 1000, "more than 1000"),
    ],
)
def test_what_is_no_policy_is_told(text: str, reason: str) -> None:
    with pytest.raises(NoPolicy, match=reason):
        parse_policy(text)


@pytest.mark.parametrize(
    ("host", "is_named"),
    [
        ("mail.other.example", True),
        ("a.x.example", True),
        ("x.example", False),
        ("a.b.x.example", False),
        ("ax.example", False),
        ("mail.other.example.evil", False),
    ],
)
def test_wildcard_is_one_label(host: str, is_named: bool) -> None:
    policy = Policy(Mode.ENFORCE, 1, ("mail.other.example", "*.x.example"))
    assert policy.names(host) is is_named


@given(st.text(max_size=300))
def test_any_text_is_a_policy_or_none(text: str) -> None:
    try:
        policy = parse_policy(text)
    except NoPolicy:
        return
    assert policy.mx or policy.mode is Mode.NONE
