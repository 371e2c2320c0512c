"""The complaint report of RFC 5965, read back by the standard library's parser."""

from __future__ import annotations

import email
from email.policy import default

import pytest

from relay.outcome.complaint_mail import ComplaintReport, compose
from relay.outcome.events import Complained
from relay.outcome.report_mail import Letter

AT = 1_795_428_000_000_000
LETTER = Letter(
    hostname="relay.example",
    to="bounces@owner.example",
    message_id="0100019aaf2e0000-11111111-2222-4333-a444-555555000001-000000",
    original_id="0100019aaf2e0000-aaaaaaaa-bbbb-4ccc-addd-eeeeee000000-000000",
    received_at=AT,
    at=AT + 60_000_000,
    header=b"From: alerts@owner.example\r\nMessage-ID: <1@app.example>\r\n",
)
SAID = Complained(AT, "id", ("a@customer.example", "b@customer.example"), None, "Yahoo!", "abuse", AT - 1)


def report(*complaints: Complained) -> email.message.EmailMessage:
    octets = compose(ComplaintReport(LETTER, "bounces@owner.example", complaints or (SAID,)))
    assert octets.isascii()
    message = email.message_from_bytes(octets, policy=default)
    assert isinstance(message, email.message.EmailMessage)
    assert not message.defects
    return message


def test_report_is_made_by_a_machine_in_answer_to_the_message() -> None:
    message = report()
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "feedback-report"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == "<1@app.example>"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/feedback-report",
        "text/rfc822-headers",
    ]


def test_words_name_the_recipients_and_say_what_to_do() -> None:
    text = str(next(report().iter_parts()).get_payload())
    assert "a@customer.example" in text
    assert "b@customer.example" in text
    assert "What to do: take the address off your lists" in text


def test_machines_read_who_complained_of_what() -> None:
    [fields] = list(report().iter_parts())[1].get_payload()
    assert dict(fields.items()) == {
        "Feedback-Type": "abuse",
        "User-Agent": "Yahoo!",
        "Version": "1",
        "Original-Mail-From": "<bounces@owner.example>",
        "Original-Rcpt-To": "<b@customer.example>",
        "Arrival-Date": "Mon, 23 Nov 2026 09:59:59 +0000",
        "Reporting-MTA": "dns; relay.example",
    }
    assert fields.get_all("Original-Rcpt-To") == ["<a@customer.example>", "<b@customer.example>"]


@pytest.mark.parametrize("text", ["x\r\nOriginal-Rcpt-To: <victim@x.example>", "jösé", "x" * 5000])
def test_strangers_words_stay_on_their_line(text: str) -> None:
    [fields] = list(report(Complained(AT, "id", ("a@x.example",), None, text, text)).iter_parts())[
        1
    ].get_payload()
    assert fields.get_all("Original-Rcpt-To") == ["<a@x.example>"]
    assert len(fields["User-Agent"]) < 500
