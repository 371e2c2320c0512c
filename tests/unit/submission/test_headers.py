"""The header block: lossless, and refused where two readers could split it differently."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.submission.headers import (
    Field,
    HeaderBlock,
    HeaderError,
    Limits,
    LineCheck,
    parse_headers,
)

_BLOCK = (
    b"Received: from a by b;\r\n\tThu, 1 Jan 2026 00:00:00 +0000\r\n"
    b"received: from c by d\r\n"
    b"FROM:  Owner <news@owner.example> \r\n"
    b"Subject:\r\n A subject that\r\n\t is folded\r\n"
    b"X-Empty:\r\n"
    b"X-Odd!#$%&'*+:a:b\r\n"
)


def test_fields_are_kept_to_the_octet() -> None:
    block = parse_headers(_BLOCK)
    assert bytes(block) == _BLOCK
    assert [field.name for field in block.fields] == [
        "received",
        "received",
        "from",
        "subject",
        "x-empty",
        "x-odd!#$%&'*+",
    ]


def test_fields_are_found_by_name() -> None:
    block = parse_headers(_BLOCK)
    assert block.get("from") == Field("from", b"FROM:  Owner <news@owner.example> \r\n")
    assert block.get("to") is None
    assert [field.raw[:8] for field in block.all("received")] == [b"Received", b"received"]
    assert block.received_count == 2
    assert bytes(block.without({"received", "from", "subject"})) == b"X-Empty:\r\nX-Odd!#$%&'*+:a:b\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("from", "Owner <news@owner.example>"),
        ("subject", "A subject that\t is folded"),
        ("x-empty", ""),
        ("x-odd!#$%&'*+", "a:b"),
        ("to", None),
    ],
)
def test_values_are_unfolded_and_stripped(name: str, value: str | None) -> None:
    assert parse_headers(_BLOCK).value(name) == value


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"A: " + b"x" * 995 + b"\r\n", id="longest-line"),
        pytest.param(b"A: " + b"x" * 995 + b"\r\n " + b"y" * 997 + b"\r\n", id="longest-continuation"),
        pytest.param(b"A:x\r\n", id="no-blank-after-colon"),
        pytest.param(b"A:\r\n x\r\n", id="value-on-the-next-line"),
        pytest.param(b"A:\tx \t\r\n", id="tabs"),
        pytest.param(b"A:x\r\na:y\r\nA:z\r\n", id="repeats-of-unknown-fields"),
        pytest.param(b"Received: x\r\n" * 99, id="many-received"),
    ],
)
def test_well_formed_headers_are_taken(block: bytes) -> None:
    assert bytes(parse_headers(block)) == block


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        pytest.param(b"From: a@b.example", "Header does not end with CRLF", id="unended"),
        pytest.param(b"A: x\r\n\r\n", "Header contains an empty line", id="with-its-separator"),
        pytest.param(b"\r\nA: x\r\n", "Header contains an empty line", id="blank-line-in-front"),
        pytest.param(b"A: x\ry\r\n", "Header contains a bare CR or LF", id="bare-cr"),
        pytest.param(b"A: x\nB: y\r\n", "Header contains a bare CR or LF", id="bare-lf"),
        pytest.param(b"A: x\r\r\n", "Header contains a bare CR or LF", id="cr-cr-lf"),
        pytest.param(b"\nA: x\r\n", "Header contains a bare CR or LF", id="lf-in-front"),
        pytest.param(b"A: x\r\n\r", "Header contains a bare CR or LF", id="cr-at-the-end"),
        pytest.param(b"A: x\0\r\n", "Header contains NUL", id="nul"),
        pytest.param(b"A: x\x0b\r\n", "Header contains control characters", id="vertical-tab"),
        pytest.param(b"A: x\x7f\r\n", "Header contains control characters", id="delete"),
        pytest.param("A: ü\r\n".encode(), "Header contains non-ASCII octets", id="utf-8"),
        pytest.param(b"A: \xff\r\n", "Header contains non-ASCII octets", id="eight-bit"),
        pytest.param(b"\xef\xbb\xbfA: x\r\n", "Header starts with a byte order mark", id="bom"),
        pytest.param(b" A: x\r\n", "Header starts with a continuation line", id="continuation-first"),
        pytest.param(b"A: x\r\n \r\nB: y\r\n", "Header contains a blank line", id="blank-continuation"),
        pytest.param(b"A: x\r\n\t\r\n y\r\n", "Header contains a blank line", id="tab-continuation"),
        pytest.param(b"A: x\r\n  \r\n", "Header contains a blank line", id="blank-last-line"),
        pytest.param(b"From a@b Thu Jan 1 00:00\r\nA: x\r\n", "Header starts with an mbox line", id="mbox"),
        pytest.param(b"A : x\r\n", "Header field name is followed by white space", id="blank-before-colon"),
        pytest.param(b"A\t: x\r\n", "Header field name is followed by white space", id="tab-before-colon"),
        pytest.param(b"A B: x\r\n", "Header line is not a field", id="blank-in-name"),
        pytest.param(b": x\r\n", "Header line is not a field", id="no-name"),
        pytest.param(b"A\r\n", "Header line is not a field", id="no-colon"),
        pytest.param(b"A: x\r\n--boundary\r\n", "Header line is not a field", id="body-without-blank-line"),
        pytest.param(b"A: " + b"x" * 996 + b"\r\n", "Header line is longer than 998 octets", id="long-line"),
        pytest.param(
            b"A: x\r\n " + b"y" * 998 + b"\r\n",
            "Header line is longer than 998 octets",
            id="long-continuation",
        ),
    ],
)
def test_r06_what_is_not_a_header_is_refused(block: bytes, reason: str) -> None:
    with pytest.raises(HeaderError) as caught:
        parse_headers(block)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "name",
    [
        "From",
        "Sender",
        "Return-Path",
        "To",
        "Cc",
        "Bcc",
        "Message-ID",
        "Subject",
        "DKIM-Signature",
        "MIME-Version",
    ],
)
def test_r07_fields_that_may_occur_once_do(name: str) -> None:
    lines = f"{name}: x\r\nX-Between: y\r\n{name.upper()}: x\r\n"
    with pytest.raises(HeaderError) as caught:
        parse_headers(lines.encode())
    assert caught.value.reason == f"Duplicate header '{name}'."


def test_limits_hold() -> None:
    limits = Limits(most_fields=2, most_bytes=20)
    parse_headers(b"A: x\r\nB: y\r\n", limits=limits)
    with pytest.raises(HeaderError, match="too many fields"):
        parse_headers(b"A:\r\n" * 3, limits=limits)
    with pytest.raises(HeaderError, match="too long"):
        parse_headers(b"A: 0123456789abcdef\r\n", limits=limits)


# ---------------------------------------------------------------- properties

_LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"From: a@b.example", b"Subject:", b" folded", b"\tfolded", b" ", b"", b"To : x", b"A:b", b"x"]
        ),
        st.binary(max_size=12),
        st.text(st.sampled_from("aB:; \t\r\n\0\x7fü"), max_size=12).map(str.encode),
    ),
    max_size=8,
)
_BLOCKS = st.tuples(_LINES, st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r"])).map(
    lambda parts: b"".join(line + parts[1] for line in parts[0])
)


def _naive(block: bytes) -> list[tuple[str, bytes]]:
    """A reader that knows nothing but lines: a field begins where a line does not begin with white space."""
    fields: list[bytes] = []
    for line in block.split(b"\r\n")[:-1]:
        if line[:1] in (b" ", b"\t"):
            fields[-1] += line + b"\r\n"
        else:
            fields.append(line + b"\r\n")
    return [(raw.split(b":")[0].decode().lower(), raw) for raw in fields]


@given(st.one_of(_BLOCKS, st.binary(max_size=200)))
def test_r46_whatever_is_accepted_reads_the_same_to_others(block: bytes) -> None:
    try:
        parsed = parse_headers(block)
    except HeaderError:
        return
    assert bytes(parsed) == block
    assert [tuple(field) for field in parsed.fields] == _naive(block)
    message = email.message_from_bytes(block + b"\r\nbody", policy=email.policy.compat32)
    assert [name.lower() for name in message] == [field.name for field in parsed.fields]
    assert [value.replace("\r\n", "").strip(" \t") for value in message.values()] == [
        field.value for field in parsed.fields
    ]


# ---------------------------------------------------------------- the body's lines


def _check(pieces: list[bytes]) -> str | None:
    check = LineCheck()
    for piece in pieces:
        fault = check.feed(piece)
        if fault:
            return fault
    return check.end()


@pytest.mark.parametrize(
    ("pieces", "fault"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([b""], None, id="empty-piece"),
        pytest.param([b"a\r\nb\r\n"], None, id="clean"),
        pytest.param([b"a\r", b"\nb"], None, id="split-line-end"),
        pytest.param([b"a\r", b"", b"\nb"], None, id="split-line-end-around-nothing"),
        pytest.param([b"a\xff\r\n"], None, id="eight-bit"),
        pytest.param([b"a" * 998 + b"\r\n"], None, id="longest-line"),
        pytest.param([b"a" * 500, b"a" * 498, b"\r\n"], None, id="longest-line-in-pieces"),
        pytest.param([b"\r\n" * 5000], None, id="many-short-lines"),
        pytest.param([(b"a" * 998 + b"\r\n") * 9], None, id="many-long-lines"),
        pytest.param(
            [b"a\r\n" + b"b" * 999 + b"\r\nc\r\n"], "Message line is longer than 998 octets", id="long-inside"
        ),
        pytest.param([b"a\rb\r\n"], "Message contains a bare CR or LF", id="bare-cr"),
        pytest.param([b"a\nb\r\n"], "Message contains a bare CR or LF", id="bare-lf"),
        pytest.param([b"a", b"\nb"], "Message contains a bare CR or LF", id="lf-first-in-piece"),
        pytest.param([b"a\r", b"b"], "Message contains a bare CR or LF", id="cr-last-in-piece"),
        pytest.param([b"a\r\r\n"], "Message contains a bare CR or LF", id="cr-cr-lf"),
        pytest.param([b"a\r"], "Message contains a bare CR or LF", id="cr-at-the-end"),
        pytest.param([b"a\0b\r\n"], "Message contains NUL", id="nul"),
        pytest.param([b"a" * 999 + b"\r\n"], "Message line is longer than 998 octets", id="long-line"),
        pytest.param([b"a" * 999], "Message line is longer than 998 octets", id="long-open-line"),
        pytest.param([b"a" * 998, b"a\r\n"], "Message line is longer than 998 octets", id="long-in-pieces"),
        pytest.param(
            [b"a\r\n" + b"a" * 999, b"\r\n"], "Message line is longer than 998 octets", id="long-last"
        ),
    ],
)
def test_r06_body_lines_are_clean_and_bounded(pieces: list[bytes], fault: str | None) -> None:
    assert _check(pieces) == fault


@st.composite
def _bodies_in_pieces(draw: st.DrawFn) -> list[bytes]:
    parts = st.sampled_from([b"a", b"\r\n", b"\r\n", b"x" * 497, b"y" * 998, b"\r", b"\n", b"\0"])
    body = b"".join(draw(st.lists(parts, max_size=12)))
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=5)))
    return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


@given(_bodies_in_pieces())
def test_r46_pieces_are_judged_as_the_whole(pieces: list[bytes]) -> None:
    lines = b"".join(pieces).split(b"\r\n")
    is_clean = all(len(line) <= 998 and not set(line) & {0, 10, 13} for line in lines)
    assert (_check(pieces) is None) == is_clean


def test_a_block_can_be_put_together_from_fields() -> None:
    fields = (Field("a", b"A: x\r\n"), Field("b", b"B: y\r\n"))
    assert bytes(HeaderBlock(fields)) == b"A: x\r\nB: y\r\n"
