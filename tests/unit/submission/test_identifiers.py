"""Keys and what is made of them."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.submission.identifiers import (
    EPOCH_MILLISECONDS,
    compose_id,
    id_milliseconds,
    notification_id,
    parse_notification_id,
    parse_ses_message_id,
    reference,
    ses_message_id,
)

_TIMES = st.integers(EPOCH_MILLISECONDS, EPOCH_MILLISECONDS + 2**41 - 1)
_KEYS = st.integers(0, 2**63 - 1)
_NOW = 1_795_000_000_000


@given(_TIMES, st.integers(0, 1023), st.integers(0, 4095))
def test_a_key_is_a_positive_64_bit_integer_that_tells_its_time(at: int, worker: int, sequence: int) -> None:
    key = compose_id(at, worker, sequence)
    assert 0 <= key < 2**63
    assert id_milliseconds(key) == at


def test_keys_sort_by_time_then_worker_then_sequence() -> None:
    parts = [(_NOW, 0, 0), (_NOW, 0, 1), (_NOW, 1, 0), (_NOW + 1, 0, 0)]
    keys = [compose_id(*part) for part in parts]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    "parts", [(EPOCH_MILLISECONDS - 1, 0, 0), (_NOW, 1024, 0), (_NOW, 0, 4096), (_NOW, -1, 0), (2**43, 0, 0)]
)
def test_what_does_not_fit_is_no_key(parts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no id for"):
        compose_id(*parts)


@given(_KEYS)
def test_a_message_id_has_the_shape_of_ses_and_gives_its_key_back(key: int) -> None:
    text = ses_message_id(key)
    assert re.fullmatch(r"0100[0-9a-f]{12}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-000000", text)
    assert int(text[4:16], 16) == id_milliseconds(key)
    assert uuid.UUID(text[17:53]).version == 4
    assert parse_ses_message_id(text) == key


@given(_KEYS, st.integers(0, 59), st.sampled_from("0123456789abcdef"))
def test_a_mistyped_message_id_is_noticed(key: int, position: int, digit: str) -> None:
    text = ses_message_id(key)
    changed = text[:position] + digit + text[position + 1 :]
    assert parse_ses_message_id(changed) == (key if changed == text else None)


@given(st.one_of(st.text(), st.from_regex(r"0100[0-9a-f]{12}(-[0-9a-f]{4,12}){5}-000000", fullmatch=True)))
def test_r46_a_text_that_is_no_message_id_gives_none(text: str) -> None:
    key = parse_ses_message_id(text)
    assert key is None or ses_message_id(key) == text


def test_references_are_short_readable_and_different_for_what_happens_together() -> None:
    keys = [
        compose_id(_NOW + at, worker, number)
        for at in range(20)
        for worker in range(32)
        for number in range(32)
    ]
    references = {reference(key) for key in keys}
    assert len(references) == len(keys)
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{8}", text) for text in references)


@given(_KEYS, _KEYS)
def test_two_keys_share_a_reference_only_as_documented(one: int, other: int) -> None:
    def standing_for(key: int) -> tuple[int, int, int]:
        return (key >> 22) % 2**30, (key >> 12) % 32, key % 32

    assert (reference(one) == reference(other)) == (standing_for(one) == standing_for(other))


@given(_KEYS)
def test_a_notification_id_is_a_random_uuid_to_others_and_gives_its_key_back(key: int) -> None:
    text = notification_id(key)
    assert uuid.UUID(text).version == 4
    assert uuid.UUID(text).variant == uuid.RFC_4122
    assert parse_notification_id(text) == key


@given(_KEYS, st.integers(0, 35), st.sampled_from("0123456789abcdef"))
def test_a_mistyped_notification_id_is_noticed(key: int, position: int, digit: str) -> None:
    text = notification_id(key)
    mistyped = text[:position] + digit + text[position + 1 :]
    assert parse_notification_id(mistyped) in ({key} if mistyped == text else {None})
