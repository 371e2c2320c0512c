"""The report of RFC 3464, read back by the standard library's parser."""

from __future__ import annotations

import email
import re
from dataclasses import replace
from email.message import EmailMessage, Message
from email.policy import default
from email.utils import parsedate_to_datetime

import pytest
from flufl.bounce import all_failures
from hypothesis import given
from hypothesis import strategies as st

from relay.outcome import bounce_types
from relay.outcome.bounce_mail import FailedRecipient, Report, compose, failed_recipients
from relay.outcome.bounce_types import GENERAL, SOFT, BounceKind
from relay.outcome.report_mail import Letter

SECOND = 1_000_000
RECEIVED = 1_795_428_000 * SECOND
HEADER = (
    b"Received: from relay.example by relay.example with ESMTPSA id 0100;\r\n"
    b"\tMon, 23 Nov 2026 10:00:00 +0000\r\n"
    b"From: Alerts <alerts@owner.example>\r\n"
    b"To: nobody@customer.example\r\n"
    b"Subject: Hello\r\n"
)
NOBODY = FailedRecipient(
    address="nobody@customer.example",
    status="5.1.1",
    code=550,
    text="5.1.1 <nobody@customer.example>: no such user here",
    host="mx.customer.example[192.0.2.7]:25",
    at=RECEIVED + 5 * SECOND,
    attempts=1,
    kind=GENERAL,
)
SILENT = FailedRecipient(
    address="slow@customer.example",
    status="4.4.2",
    code=None,
    text="timed out waiting for the next hop",
    host="mx.customer.example[192.0.2.7]:25",
    at=RECEIVED + 50_400 * SECOND,
    attempts=19,
    expired=True,
    kind=SOFT,
)
LETTER = Letter(
    hostname="relay.example",
    to="bounces@owner.example",
    message_id="0100019aaf2e0000-11111111-2222-4333-a444-555555000001-000000",
    original_id="0100019aaf2e0000-aaaaaaaa-bbbb-4ccc-addd-eeeeee000000-000000",
    received_at=RECEIVED,
    at=RECEIVED + 6 * SECOND,
    header=HEADER,
)
REPORT = Report(LETTER, (NOBODY,))
DELAY = replace(REPORT, recipients=(replace(SILENT, expired=False),), retry_until=RECEIVED + 50_400 * SECOND)
HOSTILE = [
    pytest.param("no\r\nFinal-Recipient: rfc822; other@victim.example", id="crlf"),
    pytest.param("no\nAction: delivered", id="lf"),
    pytest.param("no\rAction: delivered", id="cr"),
    pytest.param("no\r\n\r\nFinal-Recipient: rfc822; other@victim.example\r\nAction: failed", id="block"),
    pytest.param("no\r\n.\r\nMAIL FROM:<a@victim.example>", id="end-of-data"),
    pytest.param(f"no\r\n--=_{LETTER.message_id}--\r\n", id="boundary"),
    pytest.param("no\x00\x1b[2J\x7f\x85\u2028\u2029", id="controls"),
    pytest.param("keine Mailbox für jösé \U0001f4ec", id="non-ascii"),
    pytest.param("broken \udcff\udc80 octets", id="surrogates"),
    pytest.param("=?utf-8?q?=0D=0AAction:_delivered?=", id="encoded-word"),
    pytest.param("x" * 5_000, id="long"),
    pytest.param("word " * 5_000, id="long-words"),
    pytest.param("", id="empty"),
]


def parsed(report: Report) -> EmailMessage:
    message = email.message_from_bytes(compose(report), policy=default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def parts(report: Report) -> list[Message]:
    found = list(parsed(report).iter_parts())
    assert all(not part.defects for part in found)
    return found


def blocks(report: Report) -> list[Message]:
    """The delivery-status part: the block about the message, then one a recipient."""
    content = parts(report)[1].get_payload()
    assert isinstance(content, list)
    return content


def words(report: Report) -> str:
    return str(parts(report)[0].get_payload()).replace("\r\n", "\n")


# ---------------------------------------------------------------- the whole


def test_report_is_a_multipart_report_of_three_parts() -> None:
    message = parsed(REPORT)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["MIME-Version"] == "1.0"
    assert [part.get_content_type() for part in parts(REPORT)] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_report_comes_from_the_daemon_to_the_return_path() -> None:
    message = parsed(REPORT)
    assert message["Date"] == "Mon, 23 Nov 2026 10:00:06 +0000"
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@relay.example>"
    assert message["To"] == "bounces@owner.example"
    assert message["Subject"] == "Delivery Status Notification (Failure)"
    assert message["Message-ID"] == f"<{LETTER.message_id}@relay.example>"
    assert parsedate_to_datetime(message["Date"]).timestamp() == LETTER.at // SECOND


def test_report_says_that_a_machine_wrote_it() -> None:
    """RFC 3834: and in answer to what, if the original says."""
    assert parsed(REPORT)["Auto-Submitted"] == "auto-replied"
    assert "In-Reply-To" not in parsed(REPORT)
    header = HEADER + b"Message-ID: <1@app.example>\r\n"
    message = parsed(replace(REPORT, letter=replace(LETTER, header=header)))
    assert message["In-Reply-To"] == message["References"] == "<1@app.example>"


@pytest.mark.parametrize("report", [REPORT, DELAY], ids=["failure", "delay"])
def test_every_line_ends_in_crlf_and_is_short_enough(report: Report) -> None:
    octets = compose(report)
    assert octets.endswith(b"\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", octets)
    assert octets.isascii()
    assert max(map(len, octets.split(b"\r\n"))) <= 998


def test_same_report_gives_the_same_octets() -> None:
    assert compose(REPORT) == compose(replace(REPORT))


# ---------------------------------------------------------------- for machines


def test_first_block_tells_of_the_message() -> None:
    about = blocks(REPORT)[0]
    assert about["Reporting-MTA"] == "dns; relay.example"
    assert about["X-Relay-ID"] == LETTER.original_id
    assert parsedate_to_datetime(about["Arrival-Date"]).timestamp() == RECEIVED // SECOND


def test_block_of_a_refused_recipient_has_the_remotes_reply() -> None:
    block = blocks(REPORT)[1]
    assert dict(block.items()) == {
        "Final-Recipient": "rfc822; nobody@customer.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.customer.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 <nobody@customer.example>: no such user here",
        "Last-Attempt-Date": "Mon, 23 Nov 2026 10:00:05 +0000",
    }


def test_block_without_a_reply_does_not_pretend_that_there_was_one() -> None:
    block = blocks(replace(REPORT, recipients=(SILENT,)))[1]
    assert "Remote-MTA" not in block
    assert block["Diagnostic-Code"] == "X-Relay; timed out waiting for the next hop"
    assert block["Status"] == "4.4.2"
    assert block["Action"] == "failed"


@pytest.mark.parametrize(
    ("report", "passing", "permanent"),
    [
        pytest.param(replace(REPORT, recipients=(NOBODY, SILENT)), set(), {NOBODY, SILENT}, id="failure"),
        pytest.param(DELAY, {SILENT}, set(), id="delay"),
    ],
)
def test_mailing_list_software_reads_it(
    report: Report, passing: set[FailedRecipient], permanent: set[FailedRecipient]
) -> None:
    """flufl.bounce is what Mailman has for it."""
    found = all_failures(email.message_from_bytes(compose(report)))
    assert found == tuple({one.address.encode() for one in of} for of in (passing, permanent))


def test_every_recipient_has_a_block_of_its_own_in_order() -> None:
    many = tuple(replace(NOBODY, address=f"r{number}@customer.example") for number in range(50))
    found = blocks(replace(REPORT, recipients=many))
    assert [block["Final-Recipient"] for block in found[1:]] == [f"rfc822; {one.address}" for one in many]
    assert all(block["Action"] == "failed" for block in found[1:])


# ---------------------------------------------------------------- for people


def test_words_name_recipient_reason_reply_remedy_and_message() -> None:
    text = words(REPORT)
    assert (
        "\n\nnobody@customer.example\n"
        "    There is no such address, or it takes no mail any more.\n"
        "    mx.customer.example said: 550 5.1.1 <nobody@customer.example>: no such user here\n"
        "    What to do: look for a typing error; if there is none, take the address off your lists.\n\n"
    ) in text
    assert f"accepted by relay.example at Mon, 23 Nov 2026 10:00:00 +0000 as {LETTER.original_id}." in text
    assert "gave up" not in text


def test_every_kind_of_bounce_has_plain_words() -> None:
    kinds = [kind for kind in vars(bounce_types).values() if isinstance(kind, BounceKind)]
    told = {words(replace(REPORT, recipients=(replace(NOBODY, kind=kind),))) for kind in kinds}
    assert len(told) == len(kinds) == 11


def test_words_say_that_time_ran_out() -> None:
    text = words(replace(REPORT, recipients=(SILENT,)))
    assert "we gave up after 19 attempts.\n" in text
    assert "The last attempt ended so: timed out waiting for the next hop (mx.customer.example)\n" in text


def test_host_without_an_address_is_shown_as_it_is() -> None:
    assert "    mx.customer.example said: " in words(
        replace(REPORT, recipients=(replace(NOBODY, host="mx.customer.example"),))
    )


def test_late_report_is_quoted_with_what_the_remote_wrote() -> None:
    late = replace(NOBODY, code=None, text="", diagnostic="smtp; 550 5.1.1 gone")
    report = replace(REPORT, recipients=(late,))
    assert "mx.customer.example said: 550 5.1.1 gone\n" in words(report)
    assert blocks(report)[1]["Diagnostic-Code"] == "smtp; 550 5.1.1 gone"


# ---------------------------------------------------------------- the original


def test_original_is_given_back_as_its_header_only() -> None:
    original = parts(REPORT)[2]
    assert original.get_content_charset() == "us-ascii"
    assert original.get_payload().replace("\r\n", "\n").encode() == HEADER.replace(b"\r\n", b"\n")


def test_long_header_line_stays_one_line() -> None:
    line = b"X-Long: " + b"y" * 990
    octets = compose(replace(REPORT, letter=replace(LETTER, header=HEADER + line + b"\r\n")))
    assert b"\r\n" + line + b"\r\n" in octets
    assert max(map(len, octets.split(b"\r\n"))) == 998


def test_original_with_eight_bit_octets_is_shown_in_ascii() -> None:
    octets = compose(
        replace(REPORT, letter=replace(LETTER, header=HEADER + "X-Name: jösé\r\n".encode("latin-1")))
    )
    assert octets.isascii()
    assert b"X-Name: j?s?\r\n" in octets


# ---------------------------------------------------------------- a delay


def test_delay_says_that_nothing_is_lost_yet() -> None:
    message = parsed(DELAY)
    assert message["Subject"] == "Delivery Status Notification (Delay)"
    block = blocks(DELAY)[1]
    assert block["Action"] == "delayed"
    assert block["Will-Retry-Until"] == "Tue, 24 Nov 2026 00:00:00 +0000"
    text = words(DELAY)
    assert "we keep trying until Tue, 24 Nov 2026 00:00:00 +0000" in text
    assert "An error occurred" not in text


def test_failure_says_nothing_of_trying_again() -> None:
    assert "Will-Retry-Until" not in blocks(REPORT)[1]


# ---------------------------------------------------------------- what a stranger said


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("code", [550, None])
def test_remotes_words_stay_on_their_line(text: str, code: int | None) -> None:
    report = replace(REPORT, recipients=(replace(NOBODY, text=text, code=code), SILENT))
    octets = compose(report)
    assert octets.isascii()
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", octets)
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert not re.search(rb"(?m)^\.\r$", octets)
    assert [part.get_content_type() for part in parts(report)][1:] == [
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    found = blocks(report)
    assert len(found) == 3
    assert [block["Final-Recipient"] for block in found[1:]] == [
        f"rfc822; {NOBODY.address}",
        f"rfc822; {SILENT.address}",
    ]
    assert [block.get_all("Action") for block in found[1:]] == [["failed"], ["failed"]]


@pytest.mark.parametrize(
    "host", ["mx\r\nAction: delivered[192.0.2.7]:25", "mx.jösé.example", "[::1]:25", "-"]
)
def test_hosts_name_stays_on_its_line(host: str) -> None:
    report = replace(REPORT, recipients=(replace(NOBODY, host=host),))
    assert compose(report).isascii()
    assert blocks(report)[1].get_all("Action") == ["failed"]


def test_remotes_words_are_cut() -> None:
    report = replace(REPORT, recipients=(replace(NOBODY, text="x" * 5_000),))
    assert len(blocks(report)[1]["Diagnostic-Code"]) < 500
    assert len(compose(report)) < 5_000


@given(st.text(), st.none() | st.integers(200, 599), st.text())
def test_no_words_break_the_report(text: str, code: int | None, host: str) -> None:
    report = replace(REPORT, recipients=(replace(NOBODY, text=text, code=code, host=host),))
    octets = compose(report)
    assert octets.isascii()
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", octets)
    assert len(blocks(report)) == 2


# ---------------------------------------------------------------- what the settlement wrote down


def note(**changed: object) -> dict[str, object]:
    return {
        "address": "nobody@customer.example",
        "status": "5.1.1",
        "expired": False,
        "code": 550,
        "enhanced": "5.1.1",
        "text": "no such user here",
        "host": "mx.customer.example[192.0.2.7]:25",
        "phase": "rcpt",
        "at": RECEIVED,
        "attempts": 1,
        **changed,
    }


def test_notice_is_read_as_it_was_written() -> None:
    [one] = failed_recipients([note()])
    assert one == replace(NOBODY, text="5.1.1 no such user here", at=RECEIVED)


def test_notice_without_a_reply_has_no_code() -> None:
    [one] = failed_recipients(
        [note(code=None, enhanced=None, text="timed out", status="4.4.2", expired=True)]
    )
    assert (one.code, one.text, one.status, one.expired) == (None, "timed out", "4.4.2", True)


def test_notice_of_a_delay_is_read_as_it_was_written() -> None:
    [one] = failed_recipients([note(status=None, code=451, enhanced="4.2.0", text="later", attempts=2)])
    assert (one.status, one.code, one.text, one.attempts) == ("4.2.0", 451, "4.2.0 later", 2)


@pytest.mark.parametrize(
    ("enhanced", "status"),
    [
        pytest.param("4.2.1", "4.2.1", id="as-given"),
        pytest.param(None, "4.0.0", id="none"),
        # RFC 3464 section 2.3.4: a delay is a transient failure, whatever the next hop called it.
        pytest.param("5.7.1", "4.7.1", id="permanent-word-for-a-passing-refusal"),
    ],
)
def test_delay_has_a_transient_status(enhanced: str | None, status: str) -> None:
    [one] = failed_recipients([note(status=None, enhanced=enhanced)])
    assert one.status == status
