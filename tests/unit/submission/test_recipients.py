"""Address lists of the API and of To, Cc, Bcc."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.submission.address import AddressError
from relay.submission.headers import parse_headers
from relay.submission.recipients import parse_recipient, parse_recipients, recipients_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@x.example", ["a@x.example"]),
        ("a@x.example, b@X.example", ["a@x.example", "b@x.example"]),
        ('"Doe, John" <j@x.example>, Ann <ann@x.example>', ["j@x.example", "ann@x.example"]),
        ('"a <evil@y.example>" <j@x.example>', ["j@x.example"]),
        ("a@x.example,, ", ["a@x.example"]),
        ("", []),
    ],
)
def test_list_is_read(text: str, expected: list[str]) -> None:
    assert [str(one) for one in parse_recipients(text)] == expected


@pytest.mark.parametrize(
    "text",
    [
        "undisclosed-recipients:;",
        '"open <a@x.example>',
        "a@x.example b@x.example",
        "(c) a@x.example",
        "<a@x> <b@x>",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        list(parse_recipients(text))


def test_each_recipient_of_the_header_counts_once() -> None:
    headers = parse_headers(
        b"From: s@x.example\r\nTo: a@x.example,\r\n b@x.example\r\n"
        b"Cc: A <a@x.example>\r\nBcc: c@x.example\r\n"
    )
    assert [str(one) for one in recipients_of(headers)] == ["a@x.example", "b@x.example", "c@x.example"]


@given(st.text(max_size=60))
def test_any_text_gives_mailboxes_or_a_refusal(text: str) -> None:
    for read in (lambda: list(parse_recipients(text)), lambda: parse_recipient(text)):
        try:
            read()
        except AddressError:
            pass
