"""The report of RFC 3464, read by a parser that is not ours."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace

import pytest

from relay.outcome.bounce_mail import FailedRecipient, Report, compose, failed_recipients

FAILED = FailedRecipient(
    address="b@customer.example",
    status="5.1.1",
    code=550,
    text="5.1.1 no such user",
    host="mx.customer.example[192.0.2.1]:25",
    at=1_795_492_359_000_000,
    attempts=1,
)
REPORT = Report(
    hostname="relay.example",
    to="bounces@owner.example",
    message_id="0100-report",
    original_id="0100-original",
    received_at=1_795_492_300_000_000,
    at=1_795_492_360_000_000,
    header=b"From: a@owner.example\r\nSubject: s\r\n",
    recipients=(FAILED,),
)


def parsed(report: Report) -> email.message.Message:
    return email.message_from_bytes(compose(report), policy=email.policy.default)


def test_report_has_its_three_parts():
    message = parsed(REPORT)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_report_is_from_us_to_the_return_path_and_says_that_a_machine_made_it():
    message = parsed(REPORT)
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@relay.example>"
    assert message["To"] == "bounces@owner.example"
    assert message["Subject"] == "Delivery Status Notification (Failure)"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Date"] == "Tue, 24 Nov 2026 03:52:40 +0000"


def test_status_has_the_fields_of_rfc_3464():
    status = list(parsed(REPORT).iter_parts())[1]
    about, recipient = status.get_payload()
    assert about["Reporting-MTA"] == "dns; relay.example"
    assert about["Arrival-Date"] == "Tue, 24 Nov 2026 03:51:40 +0000"
    assert dict(recipient.items()) == {
        "Final-Recipient": "rfc822; b@customer.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.customer.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        "Last-Attempt-Date": "Tue, 24 Nov 2026 03:52:39 +0000",
    }


def test_recipient_without_a_reply_has_no_remote():
    silent = replace(FAILED, code=None, text="the connection broke", status="4.4.2", expired=True, attempts=9)
    message = parsed(replace(REPORT, recipients=(silent,)))
    text, status, _ = message.iter_parts()
    assert "gave up after 9 attempts" in text.get_content()
    block = status.get_payload()[1]
    assert block["Remote-MTA"] is None
    assert block["Diagnostic-Code"] == "X-Relay; the connection broke"


def test_delay_says_until_when_we_try():
    message = parsed(replace(REPORT, retry_until=1_795_500_000_000_000))
    assert message["Subject"] == "Delivery Status Notification (Delay)"
    block = list(message.iter_parts())[1].get_payload()[1]
    assert block["Action"] == "delayed"
    assert block["Will-Retry-Until"] == "Tue, 24 Nov 2026 06:00:00 +0000"


def test_original_header_is_quoted_and_its_body_is_not():
    original = list(parsed(REPORT).iter_parts())[2]
    assert original.get_content().replace("\r\n", "\n") == "From: a@owner.example\nSubject: s\n"


@pytest.mark.parametrize(
    "text",
    ["a\r\nBcc: evil@x.example\r\n\r\nbody", "\x1b[31mred", "größer", "x" * 5000, "=_0100-report--"],
    ids=["line ends", "escape", "non-ASCII", "long", "boundary"],
)
def test_words_of_a_stranger_are_cleaned_and_cut(text):
    octets = compose(replace(REPORT, recipients=(replace(FAILED, text=text),)))
    assert octets.isascii()
    assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(octets)
    assert message["Bcc"] is None
    assert len(message.get_payload()) == 3


def test_what_the_settlement_wrote_down_is_read_back():
    [one] = failed_recipients(
        [
            {
                "address": "b@customer.example",
                "status": None,
                "expired": False,
                "code": 451,
                "enhanced": "4.2.0",
                "text": "later",
                "host": "mx",
                "phase": "rcpt",
                "at": 5,
                "attempts": 2,
            }
        ]
    )
    assert (one.status, one.code, one.text, one.attempts) == ("4.2.0", 451, "4.2.0 later", 2)
