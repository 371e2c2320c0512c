"""Bounce addresses: there and back, and nobody else's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.signing.return_path import Issuer, Rejection, Token, decode, encode, key_number, keys_by_number
from relay.submission.address import parse_mailbox

_KEY = b"k" * 32
_KEYS = {7: [_KEY]}
_DAY = 20_000
_ID = 780_825_054_412_812_295
_ADDRESS = encode(_ID, _DAY, 7, _KEY, "bounces.relay.example")


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**16 - 1), st.integers(0, 255), st.binary(min_size=16))
def test_a_token_comes_back_as_it_went(message_id: int, day: int, key_id: int, key: bytes) -> None:
    address = encode(message_id, day, key_id, key, "b.example")
    assert parse_mailbox(address).local == address.removesuffix("@b.example").lower()
    assert len(address) - len("@b.example") == 34  # of the 64 that RFC 5321 section 4.5.3.1.1 allows
    assert decode(address, {key_id: [key]}, day) == Token(message_id, day, key_id)


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
        pytest.param(_ADDRESS, {8: [_KEY]}, _DAY, Rejection.UNKNOWN_KEY, id="unknown-key"),
        pytest.param(_ADDRESS, {7: [b"x" * 32]}, _DAY, Rejection.FORGED, id="other-key"),
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
    address: str, keys: dict[int, list[bytes]], today: int, reason: Rejection
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


class TestKeys:
    def test_numbers_stand_for_themselves_and_words_for_one_of_256(self):
        assert [key_number(text) for text in ("1", "255", "256")] == [1, 255, 0]
        assert 0 <= key_number("key-of-2026") == key_number("key-of-2026") < 256

    def test_address_of_an_old_key_holds_after_rotation(self):
        before = encode(_ID, _DAY, key_number("1"), b"1" * 32, "b.example")
        keys = keys_by_number({"1": b"1" * 32, "2": b"2" * 32})
        assert decode(before, keys, _DAY) == Token(_ID, _DAY, 1)
        assert decode(before, keys_by_number({"2": b"2" * 32}), _DAY) is Rejection.UNKNOWN_KEY

    @pytest.mark.parametrize("key_id", ["1", "257"])
    def test_keys_of_one_number_are_all_tried(self, key_id: str):
        keys = {"1": b"1" * 32, "257": b"2" * 32}
        address = encode(_ID, _DAY, key_number(key_id), keys[key_id], "b.example")
        assert decode(address, keys_by_number(keys), _DAY) == Token(_ID, _DAY, 1)


class TestIssuer:
    ISSUER = Issuer("b.example", 7, 1, b"k" * 32)

    def test_address_serves_for_its_days_and_the_day_it_was_made(self):
        address = self.ISSUER.issue(_ID, _DAY * 86_400 + 5, None)
        assert address.endswith("@b.example")
        keys = {1: [b"k" * 32]}
        assert decode(address, keys, _DAY + 7) == Token(_ID, _DAY + 7, 1)
        assert decode(address, keys, _DAY + 8) is Rejection.EXPIRED

    def test_mail_from_domain_comes_before_ours(self):
        assert self.ISSUER.issue(_ID, 0, "bounce.owner.example").endswith("@bounce.owner.example")
        assert Issuer("", 7, 1, b"k" * 32).issue(_ID, 0, None) is None

    def test_key_shows_in_no_repr(self):
        assert "kkkk" not in repr(self.ISSUER)
