"""The header as it leaves us: which fields go, which come, and everything else to the octet."""

from __future__ import annotations

import dataclasses
import email.utils
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.signing.rewrite import Rewriting, Rewritten, TraceFacts, is_loop, rewrite, submitted
from relay.submission.headers import HeaderError, parse_headers

_ID = "0100019ab697e800-e013f765-b560-4796-a957-99d032003007-000000"
_FACTS = TraceFacts(
    hostname="gw.relay.example",
    helo="app.internal.example",
    protocol="ESMTPSA",
    tls_version="TLSv1.3",
    message_id=_ID,
    at=1_764_000_000,
    region="us-east-1",
)
_PLAIN = (
    b"From:  Owner <news@owner.example>\r\n"
    b"Subject: folded\r\n\t here\r\n"
    b"Message-ID: <1@app.example>\r\n"
    b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    b"Feedback-ID: a:b:c:own\r\n"
)


def _rewritten(block: bytes, signing_domain: str | None = "owner.example", ses: bool = False) -> Rewritten:
    headers = parse_headers(block)
    return rewrite(headers, _FACTS, signing_domain=signing_domain, replaces_identity_fields=ses)


def _removed(line: bytes, signing_domain: str | None = "owner.example") -> bool:
    """Whether a field goes; if it does not, it is there to the octet."""
    found = _rewritten(_PLAIN + line + b"\r\n", signing_domain)
    is_kept = line + b"\r\n" in [field.raw for field in found.headers.fields]
    assert is_kept != bool(found.removed)
    return not is_kept


def test_only_trace_fields_are_added_to_a_complete_header() -> None:
    found = _rewritten(_PLAIN)
    assert bytes(found.headers) == (
        b"Received: by gw.relay.example with ESMTPSA (TLSv1.3)\r\n"
        b"\tid " + _ID.encode() + b";\r\n"
        b"\tMon, 24 Nov 2025 16:00:00 +0000\r\n"
        b"X-Relay-ID: " + _ID.encode() + b"\r\n" + _PLAIN
    )
    assert [field.name for field in found.added] == ["received", "x-relay-id"]
    assert found.removed == ()


def test_nothing_is_told_of_the_client() -> None:
    assert b"internal" not in bytes(_rewritten(_PLAIN).headers)


def test_without_tls_none_is_claimed() -> None:
    facts = dataclasses.replace(_FACTS, protocol="HTTP", tls_version=None)
    found = rewrite(parse_headers(_PLAIN), facts, signing_domain=None)
    assert found.headers.fields[0].raw.startswith(b"Received: by gw.relay.example with HTTP\r\n")


def test_missing_fields_are_added_at_the_end() -> None:
    found = _rewritten(b"From: a@owner.example\r\n")
    assert [field.name for field in found.headers.fields] == [
        "received",
        "x-relay-id",
        "from",
        "message-id",
        "date",
        "feedback-id",
    ]
    assert found.headers.value("message-id") == f"<{_ID}@gw.relay.example>"
    assert email.utils.parsedate_to_datetime(found.headers.value("date") or "").timestamp() == _FACTS.at
    feedback_id = found.headers.value("feedback-id") or ""
    assert re.fullmatch(r"::1\.us-east-1\.[A-Za-z0-9+/]{24}:RelaySMTP", feedback_id)
    assert {field.name for field in found.added} >= {"message-id", "date", "feedback-id"}


def test_feedback_tags_fill_the_first_two_parts() -> None:
    facts = dataclasses.replace(_FACTS, feedback_tags=("spring", "mail7"))
    found = rewrite(parse_headers(b"From: a@owner.example\r\n"), facts, signing_domain=None)
    assert (found.headers.value("feedback-id") or "").startswith("spring:mail7:1.us-east-1.")


def test_the_ses_dialect_replaces_message_id_and_date() -> None:
    found = _rewritten(_PLAIN, ses=True)
    assert found.headers.value("message-id") == f"<{_ID}@gw.relay.example>"
    assert found.headers.value("date") == "Mon, 24 Nov 2025 16:00:00 +0000"
    assert [field.name for field in found.removed] == ["message-id", "date"]


@pytest.mark.parametrize(
    ("line", "is_removed"),
    [
        pytest.param(b"X-SES-SOURCE-ARN: x", True, id="source-arn"),
        pytest.param(b"x-ses-anything: x", True, id="other-control-field"),
        pytest.param(b"X-SESSION: x", False, id="not-a-control-field"),
        pytest.param(b"Bcc: a@b.example,\r\n c@d.example", True, id="bcc"),
        pytest.param(b"Return-Path: <a@b.example>", True, id="return-path"),
        pytest.param(b"Received: from x by y; Thu, 1 Jan 2026 00:00:00 +0000", False, id="received"),
        pytest.param(b"Sender: a@b.example", False, id="sender"),
        pytest.param(b"X-Mailer:\r\n  odd  \t", False, id="odd-white-space"),
    ],
)
def test_r05_r11_control_fields_and_bcc_go_and_others_stay(line: bytes, is_removed: bool) -> None:
    assert _removed(line) == is_removed


@pytest.mark.parametrize(
    ("value", "is_removed"),
    [
        pytest.param(b"v=1; d=owner.example; s=x; b=AA", True, id="owner"),
        pytest.param(b"v=1; d=OWNER.Example.; b=AA", True, id="owner-in-other-letters"),
        pytest.param(b"v=1; d = owner.\r\n example; b=AA", True, id="owner-folded"),
        pytest.param(b"d=sub.owner.example", True, id="below"),
        pytest.param(b"v=1; d=example; b=AA", False, id="above"),
        pytest.param(b"v=1; d=app.example; i=@owner.example; b=AA", False, id="other"),
        pytest.param(b"v=1; d=notowner.example; b=AA", False, id="same-ending"),
        pytest.param(b"v=1; d=app.example; d=owner.example; b=AA", True, id="two-domains"),
        pytest.param(b"v=1; bd=app.example; b=AA", True, id="no-domain"),
        pytest.param(b"", True, id="empty"),
    ],
)
def test_r25_signatures_that_claim_the_owner_go(value: bytes, is_removed: bool) -> None:
    assert _removed(b"DKIM-Signature: " + value) == is_removed
    # Unsigned mail keeps what the author signed himself.
    assert not _removed(b"DKIM-Signature: " + value, signing_domain=None)


@pytest.mark.parametrize(
    ("value", "is_removed"),
    [
        pytest.param(b"gw.relay.example; dkim=pass", True, id="our-host"),
        pytest.param(b"GW.relay.example 1; none", True, id="other-case-and-version"),
        pytest.param(b"(by (us)) gw.relay.example; none", True, id="comments-first"),
        pytest.param(b'"gw.relay.example"; none', True, id="quoted"),
        pytest.param(b"mx.owner.example; dkim=pass", True, id="owner"),
        pytest.param(b"mx.other.example; dkim=pass", False, id="other"),
        pytest.param(b"(a\\) b) mx.other.example; dkim=pass", True, id="comment-with-escape"),
        pytest.param(b"", True, id="empty"),
    ],
)
def test_r25_verdicts_in_our_name_or_the_owners_go(value: bytes, is_removed: bool) -> None:
    assert _removed(b"Authentication-Results: " + value) == is_removed


_FIELDS = st.lists(
    st.sampled_from(
        [
            b"Bcc: x\r\n",
            b"X-SES-FROM-ARN: x\r\n",
            b"Return-Path: <x>\r\n",
            b"DKIM-Signature: d=owner.example\r\n",
        ]
        + [b"From: a\r\n", b"X-A:\r\n \t b\r\n", b"X-A:  c \r\n", b"Received: x\r\n", b"Date: d\r\n"]
    ),
    max_size=10,
)


@given(_FIELDS, st.booleans())
def test_r01_every_submitted_field_is_either_kept_to_the_octet_or_recorded(
    lines: list[bytes], ses: bool
) -> None:
    try:
        headers = parse_headers(b"".join(lines))
    except HeaderError:
        return
    found = rewrite(headers, _FACTS, signing_domain="owner.example", replaces_identity_fields=ses)
    kept = [field for field in found.headers.fields if field not in found.added]
    assert sorted([*kept, *found.removed]) == sorted(headers.fields)
    assert kept == [field for field in headers.fields if field not in found.removed]
    assert bytes(parse_headers(bytes(found.headers))) == bytes(found.headers)


@given(_FIELDS, st.booleans(), st.sampled_from([b"", b"DKIM-Signature: v=1; d=owner.example\r\n"]))
def test_header_as_submitted_is_had_back_in_its_order(
    lines: list[bytes], ses: bool, signatures: bytes
) -> None:
    try:
        headers = parse_headers(b"".join(lines))
    except HeaderError:
        return
    found = rewrite(headers, _FACTS, signing_domain="owner.example", replaces_identity_fields=ses)
    kept = Rewriting(
        len(signatures),
        tuple(field.raw for field in found.added),
        tuple(field.raw for field in found.removed),
        found.removed_at,
    )
    assert submitted(signatures + bytes(found.headers), kept) == headers.fields


@pytest.mark.parametrize(
    ("lines", "is_found"),
    [
        pytest.param([], False, id="none"),
        pytest.param([b"from x by y with SMTP"] * 99, False, id="99-hosts"),
        pytest.param([b"from x by y with SMTP"] * 100, True, id="100-hosts"),
        pytest.param([b"from x by y", b"by gw.relay.example with ESMTPSA"], True, id="us"),
        pytest.param(
            [b"from x\r\n\tby GW.Relay.Example. (Relay) with ESMTPSA"], True, id="us-in-other-letters"
        ),
        pytest.param([b"from gw.relay.example by y with SMTP"], False, id="from-us"),
        pytest.param([b"from x by gw.relay.example.org with SMTP"], False, id="longer-name"),
        pytest.param([b"from x (by gw.relay.example ) by y"], False, id="in-a-comment"),
    ],
)
def test_r34_loops_are_recognised(lines: list[bytes], is_found: bool) -> None:
    block = b"".join(b"Received: " + line + b"; Thu, 1 Jan 2026 00:00:00 +0000\r\n" for line in lines)
    assert is_loop(parse_headers(block), "gw.relay.example") == is_found


def test_r34_our_own_trace_is_recognised() -> None:
    assert is_loop(_rewritten(_PLAIN).headers, _FACTS.hostname)
    assert not is_loop(_rewritten(_PLAIN).headers, "other.example")
