"""The abuse report of RFC 5965, read back by the standard library's parser and by our own listener."""

from __future__ import annotations

import email
from dataclasses import replace
from email.policy import default

import pytest

from relay.outcome.complaint_mail import Complaint, Said, compose, said
from relay.reports.reading import read
from relay.reports.report import Kind

AT = 1_795_428_000_000_000
COMPLAINT = Complaint(
    hostname="relay.example",
    to="bounces@owner.example",
    message_id="0100019aaf2e0000-11111111-2222-4333-a444-555555000001-000000",
    original_id="0100019aaf2e0000-aaaaaaaa-bbbb-4ccc-addd-eeeeee000000-000000",
    received_at=AT,
    at=AT + 3_600_000_000,
    header=b"From: Alerts <alerts@owner.example>\r\nSubject: Hello\r\n",
    said=Said(("user@customer.example",), "abuse", "Customer!-Feedback/2.0", AT + 60_000_000),
)


def test_report_has_its_three_parts_and_is_no_answer_to_answer():
    mail = email.message_from_bytes(compose(COMPLAINT), policy=default)
    assert not mail.defects
    assert (mail.get_content_type(), mail.get_param("report-type")) == ("multipart/report", "feedback-report")
    assert mail["Auto-Submitted"] == "auto-replied"
    assert mail["To"] == "bounces@owner.example"
    assert [part.get_content_type() for part in mail.iter_parts()] == [
        "text/plain",
        "message/feedback-report",
        "text/rfc822-headers",
    ]
    assert "user@customer.example" in mail.get_payload(0).get_payload()
    assert "Subject: Hello" in mail.get_payload(2).get_payload()


def test_feedback_has_the_fields_that_the_standard_wants():
    fields = email.message_from_bytes(compose(COMPLAINT)).get_payload(1).get_payload(0)
    assert dict(fields.items()) == {
        "Feedback-Type": "abuse",
        "User-Agent": "Customer!-Feedback/2.0",
        "Version": "1",
        "Original-Mail-From": "<bounces@owner.example>",
        "Original-Rcpt-To": "<user@customer.example>",
        "Arrival-Date": "Mon, 23 Nov 2026 10:01:00 +0000",
        "Reporting-MTA": "dns; relay.example",
        "X-Relay-ID": COMPLAINT.original_id,
    }


def test_our_own_reader_reads_it():
    found = read(compose(replace(COMPLAINT, said=Said(("a@x.example", "b@y.example")))))
    assert found is not None
    assert [about.addresses for about in found.about] == [("a@x.example",), ("b@y.example",)]
    assert {about.kind for about in found.about} == {Kind.COMPLAINT}
    assert found.details == {"feedback_type": "abuse", "user_agent": "relay", "arrived_at": AT}


@pytest.mark.parametrize("words", ["abuse\r\nX-Evil: 1", "a\nb", "\x00\x1b", "jösé", "x" * 5000])
def test_reporters_words_break_no_line(words):
    mail = email.message_from_bytes(compose(replace(COMPLAINT, said=Said(("a@x.example",), words, words))))
    fields = mail.get_payload(1).get_payload(0)
    assert "X-Evil" not in fields
    assert fields["Feedback-Type"].isprintable()


def test_what_the_listener_wrote_down():
    details = {"feedback_type": "fraud", "user_agent": None, "arrived_at": None}
    notices = [{"address": "a@x.example", **details}, {"address": "b@x.example", **details}]
    assert said(notices) == Said(("a@x.example", "b@x.example"), "fraud")
