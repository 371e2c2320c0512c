"""The mailbox simulator: what each mailbox answers, what that means, and the automatic reply."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest

from relay.outcome.bounce_types import GENERAL, ON_GLOBAL_LIST, bounce_kind
from relay.outcome.classify import Kind, classify
from relay.outcome.simulator import AutoReply, Box, answer_of, box_of, compose_auto_reply, kind_of
from relay.submission.headers import parse_headers


@pytest.mark.parametrize(
    ("local", "box"),
    [
        ("success", Box.SUCCESS),
        ("bounce", Box.BOUNCE),
        ("ooto", Box.AWAY),
        ("complaint", Box.COMPLAINT),
        ("suppressionlist", Box.SUPPRESSION_LIST),
        ("bounce+label1", Box.BOUNCE),
        ("Bounce+A+B", Box.BOUNCE),
        ("SUCCESS", Box.SUCCESS),
        ("success1", Box.NONE),
        ("+success", Box.NONE),
        ("somebody", Box.NONE),
    ],
)
def test_local_part_names_the_mailbox(local: str, box: Box) -> None:
    assert box_of(f"{local}@simulator.amazonses.com") is box


@pytest.mark.parametrize("box", Box)
def test_answer_means_what_the_mailbox_stands_for(box: Box) -> None:
    phase, reply = answer_of(box)
    verdict = classify(reply, phase)
    if box in (Box.SUCCESS, Box.AWAY, Box.COMPLAINT):
        assert (verdict.kind, str(reply)) == (Kind.DELIVERED, "250 2.6.0 Message received")
        return
    assert (verdict.kind, verdict.status) == (Kind.PERMANENT, "5.1.1")
    # Whoever reads the reply alone calls it the same, but for the list that no reply can tell of.
    assert bounce_kind(verdict.status, reply.text) == GENERAL
    assert kind_of(box) == (ON_GLOBAL_LIST if box is Box.SUPPRESSION_LIST else GENERAL)


def reply_to(header: bytes) -> bytes:
    return compose_auto_reply(
        AutoReply(
            hostname="relay.example",
            to="bounces@owner.example",
            away="ooto+x@simulator.amazonses.com",
            message_id="0100-id",
            at=1_795_000_000_000_000,
            original=header,
        )
    )


def test_auto_reply_is_as_rfc_3834_wants_it() -> None:
    header = b"From: a@owner.example\r\nSubject: Your\r\n order\r\nMessage-ID: <1@app.example>\r\n"
    message = message_from_bytes(reply_to(header), policy=policy.default)
    assert message["Auto-Submitted"] == "auto-replied"  # section 5
    assert message["Subject"] == "Auto: Your order"  # section 3.1.5
    assert message["In-Reply-To"] == message["References"] == "<1@app.example>"  # section 3.1.6
    assert message["To"] == "bounces@owner.example"
    assert "ooto+x@simulator.amazonses.com is out of the office" in message.get_content()


def test_auto_reply_names_no_domain_but_ours_as_its_author() -> None:
    message = message_from_bytes(reply_to(b"From: a@owner.example\r\n"), policy=policy.default)
    assert [one.domain for one in message["From"].addresses] == ["relay.example"]
    assert message["In-Reply-To"] is None


def test_auto_reply_to_a_header_without_end_keeps_to_the_limits_of_a_line() -> None:
    header = b"Subject: " + b"\r\n ".join([b"x" * 900] * 50) + b"\r\nMessage-ID: <" + b"i" * 980 + b">\r\n"
    octets = reply_to(header)
    head, blank, _ = octets.partition(b"\r\n\r\n")
    assert blank
    parse_headers(head + b"\r\n")
    assert max(map(len, octets.split(b"\r\n"))) <= 998
