"""Bounce addresses: there and back, and nobody else's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.signing.return_path import Rejection, Token, decode, encode
from relay.submission.address import parse_mailbox

_KEY = b"k" * 32
_KEYS = {7: _KEY}
_DAY = 20_000
_ID = 780_825_054_412_812_295
_ADDRESS = encode(_ID, _DAY, 7, _KEY, "bounces.relay.example")


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**16 - 1), st.integers(0, 255), st.binary(min_size=16))
def test_a_token_comes_back_as_it_went(message_id: int, day: int, key_id: int, key: bytes) -> None:
    address = encode(message_id, day, key_id, key, "b.example")
    assert parse_mailbox(address).local == address.removesuffix("@b.example").lower()
    assert len(address) - len("@b.example") == 34  # of the 64 that RFC 5321 section 4.5.3.1.1 allows
    assert decode(address, {key_id: key}, day) == Token(message_id, day, key_id)


def test_letter_case_does_not_matter_on_the_way_back() -> None:
    assert decode(_ADDRESS.upper(), _KEYS, _DAY) == Token(_ID, _DAY, 7)


@pytest.mark.parametrize(
    ("address", "keys", "today", "reason"),
    [
        pytest.param("user@bounces.relay.example", _KEYS, _DAY, Rejection.NOT_A_TOKEN, id="a-user"),
        pytest.param("", _KEYS, _DAY, Rejection.NOT_A_TOKEN, id="nothing"),
        pytest.param("x" + _ADDRESS, _KEYS, _DAY, Rejection.NOT_A_TOKEN, id="prefixed"),
        pytest.param("1" + _ADDRESS[1:], _KEYS, _DAY, Rejection.NOT_A_TOKEN, id="not-base32"),
        pytest.param("\u212a" + _ADDRESS[1:], _KEYS, _DAY, Rejection.NOT_A_TOKEN, id="kelvin-sign"),
        pytest.param(_ADDRESS, {8: _KEY}, _DAY, Rejection.UNKNOWN_KEY, id="unknown-key"),
        pytest.param(_ADDRESS, {7: b"x" * 32}, _DAY, Rejection.FORGED, id="other-key"),
        pytest.param(_ADDRESS, _KEYS, _DAY + 1, Rejection.EXPIRED, id="late"),
        pytest.param(
            encode(_ID, _DAY, 7, b"x" * 32, "b.example"),
            _KEYS,
            _DAY + 1,
            Rejection.FORGED,
            id="forged-and-late",
        ),
    ],
)
def test_other_addresses_are_rejected_with_the_reason(
    address: str, keys: dict[int, bytes], today: int, reason: Rejection
) -> None:
    assert decode(address, keys, today) is reason


@pytest.mark.parametrize("position", range(34))
def test_no_other_letters_stand_for_the_same_token(position: int) -> None:
    for letter in "abcdefghijklmnopqrstuvwxyz234567":
        changed = _ADDRESS[:position] + letter + _ADDRESS[position + 1 :]
        answer = decode(changed, _KEYS, _DAY)
        assert isinstance(answer, Token) == (changed == _ADDRESS)


@given(st.text(max_size=80))
def test_r46_any_text_is_answered(address: str) -> None:
    assert isinstance(decode(address, _KEYS, _DAY), Rejection)


@pytest.mark.parametrize(("day", "key_id"), [(2**16, 7), (_DAY, 256), (-1, 7)])
def test_what_does_not_fit_is_no_address(day: int, key_id: int) -> None:
    with pytest.raises(ValueError, match="no return path for"):
        encode(_ID, day, key_id, _KEY, "b.example")
