"""The body's digest, taken piece by piece, is that of dkimpy's canonicalization of the whole."""

from __future__ import annotations

import hashlib

import pytest
from dkim.canonicalization import CanonicalizationPolicy
from hypothesis import example, given
from hypothesis import strategies as st

from relay.signing.dkim import SimpleBodyHash

_canonicalize = CanonicalizationPolicy.from_c_value(b"relaxed/simple").canonicalize_body


def _in_pieces(pieces: list[bytes]) -> bytes:
    hashed = SimpleBodyHash()
    for piece in pieces:
        hashed.update(piece)
    return hashed.digest()


def _whole(body: bytes) -> bytes:
    return hashlib.sha256(_canonicalize(body)).digest()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="nothing"),
        pytest.param([b""], id="empty-piece"),
        pytest.param([b"\r\n"], id="line-end"),
        pytest.param([b"\r\n", b"\r\n"], id="line-ends"),
        pytest.param([b"a"], id="no-line-end"),
        pytest.param([b"a\r\n"], id="one-line"),
        pytest.param([b"a\r\n\r\n\r\n"], id="blank-lines-at-the-end"),
        pytest.param([b"a\r\n\r\n", b"\r\n\r\nb"], id="blank-lines-inside"),
        pytest.param([b"a\r", b"\n\r", b"\n"], id="split-line-ends"),
        pytest.param([b"a\r"], id="cr-at-the-end"),
        pytest.param([b"a\r\n\r"], id="cr-after-line-end"),
        pytest.param([b"a\n\r\n\r\n"], id="lf-before-line-ends"),
        pytest.param([b"\r\n" * 40_000, b"a"], id="more-blank-lines-than-a-block"),
    ],
)
def test_pieces_hash_as_the_whole(pieces: list[bytes]) -> None:
    assert _in_pieces(pieces) == _whole(b"".join(pieces))


@st.composite
def _bodies_in_pieces(draw: st.DrawFn) -> list[bytes]:
    parts = st.sampled_from([b"a", b"\r\n", b"\r\n", b"\r", b"\n", b".", b"\0"])
    body = b"".join(draw(st.lists(parts, max_size=20)))
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=6)))
    return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


@given(_bodies_in_pieces())
@example([b"\r", b"\r\n", b"\r\n"])
def test_r46_any_octets_in_any_pieces_hash_as_the_whole(pieces: list[bytes]) -> None:
    assert _in_pieces(pieces) == _whole(b"".join(pieces))


def test_a_digest_can_be_taken_before_the_end() -> None:
    hashed = SimpleBodyHash()
    hashed.update(b"a\r\n\r\n")
    assert hashed.digest() == _whole(b"a")
    hashed.update(b"b")
    assert hashed.digest() == _whole(b"a\r\n\r\nb")


def test_blank_lines_are_counted_and_not_kept() -> None:
    hashed = SimpleBodyHash()
    for _ in range(600):  # 40 MB; joined anew for each piece it would be 12 GB
        hashed.update(b"\r\n" * 32_768)
    assert hashed.digest() == _whole(b"")
