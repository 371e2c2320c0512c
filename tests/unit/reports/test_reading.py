"""Reports as servers write them, and whatever else arrives in their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.reports import mime
from relay.reports.reading import read
from relay.reports.report import Kind, Report, address_of

CORPUS = Path(__file__).parents[2] / "data" / "reports"
BOUNCE, DELAY, COMPLAINT, AUTOREPLY = Kind.BOUNCE, Kind.DELAY, Kind.COMPLAINT, Kind.AUTOREPLY


def octets(name: str) -> bytes:
    return (CORPUS / f"{name}.eml").read_bytes().replace(b"\n", b"\r\n")


def report(name: str) -> Report:
    found = read(octets(name))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "kind", "address", "status", "code", "host"),
    [
        ("postfix", BOUNCE, "sales@customer.example", "5.1.1", 550, "inner.customer.example"),
        ("exchange", BOUNCE, "full@customer.example", "5.2.2", 554, "BN8PR.prod.outlook.example"),
        ("gmail", BOUNCE, "gone@gmail.example", "5.1.1", 550, "gmail-smtp-in.l.google.example"),
        ("opensmtpd", BOUNCE, "user@customer.example", "5.0.0", None, "mx.customer.example"),
        ("expired", BOUNCE, "slow@customer.example", "4.4.1", None, "mx.customer.example"),
        # Who failed is known, and not why.
        ("no-status", BOUNCE, "user@customer.example", None, None, "appliance.customer.example"),
        ("exim", BOUNCE, "nobody@customer.example", None, None, ""),
        ("qmail", BOUNCE, "nobody@old.customer.example", None, None, ""),
        ("delay-warning", DELAY, "user@customer.example", "4.2.0", None, "mx.customer.example"),
        ("complaint", COMPLAINT, "user@customer.example", None, None, "mx.customer.example"),
        ("vacation", AUTOREPLY, "user@customer.example", None, None, ""),
        ("vacation-old", AUTOREPLY, "user@customer.example", None, None, ""),
    ],
)
def test_what_is_reported_of_whom(name, kind, address, status, code, host):
    [about] = report(name).about
    assert (about.kind, about.addresses[0], about.status) == (kind, address, status)
    assert (about.code, about.host) == (code, host)


def test_address_that_was_sent_to_comes_before_the_one_it_was_forwarded_to():
    [about] = report("postfix").about
    assert about.addresses == ("sales@customer.example", "user@customer.example")
    assert about.text.startswith("<user@customer.example>: Recipient address rejected")


def test_each_recipient_has_its_own_fate_and_success_is_none():
    found = [(one.kind, one.addresses, one.status) for one in report("two-recipients").about]
    assert found == [
        (BOUNCE, ("one@customer.example",), "5.1.1"),
        (DELAY, ("two@customer.example",), "4.4.1"),
    ]


def test_complaint_says_what_the_reporter_said():
    assert report("complaint").details == {
        "feedback_type": "abuse",
        "user_agent": "Customer!-Feedback/2.0",
        "arrived_at": 1_795_514_400_000_000,
    }


def test_complaint_may_hide_its_author():
    [about] = report("complaint-redacted").about
    assert (about.kind, about.addresses) == (COMPLAINT, ())


def test_report_has_its_id_and_its_sender():
    found = report("complaint")
    assert found.report_id == "<arf-1@arf.mail.customer.example>"
    assert found.sender_domain == "arf.mail.customer.example"


@pytest.mark.parametrize("name", ["by-hand", "quoted-bounce"])
def test_mail_that_people_write_is_no_report(name):
    """Not even if they ask what a bounce means that they have got."""
    assert read(octets(name)) is None


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("rfc822; user@customer.example", "user@customer.example"),
        ("RFC822;<user@customer.example>", "user@customer.example"),
        ("<user@customer.example>", "user@customer.example"),
        ("rfc822; user@customer.example (expanded)", "user@customer.example"),
        ("Ann User <user@customer.example>", "user@customer.example"),
        ("unknown; nobody", ""),
        ("", ""),
        ("rfc822; a@b@c", "a@b"),
    ],
)
def test_addresses_in_fields(field, found):
    assert address_of(field) == found


class TestHostile:
    """Whatever the octets are, they are answered within moments, with a report or None."""

    @pytest.mark.parametrize("name", sorted(path.stem for path in CORPUS.glob("*.eml")))
    @given(data=st.data())
    def test_r46_damaged_reports_are_answered(self, name, data):
        whole = octets(name)
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, min(start + 60, len(whole))))
        answered(whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:])

    @given(st.binary(max_size=400))
    def test_r46_any_octets_are_answered(self, anything):
        answered(anything)
        answered(b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n" + anything)
        answered(
            b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n"
            b"Content-Type: message/delivery-status\r\n\r\n" + anything
        )

    # Generous: unbounded, these take minutes or exhaust the stack.
    @pytest.mark.timeout(20)
    @pytest.mark.parametrize(
        "bomb",
        [
            pytest.param(
                b"".join(
                    b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n)
                    for n in range(9000)
                ),
                id="nested-parts",
            ),
            pytest.param(b"Content-Type: message/rfc822\r\n\r\n" * 9000, id="nested-mails"),
            pytest.param(
                b"Content-Type: multipart/digest; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 30_000,
                id="many-parts",
            ),
            pytest.param(
                b"Content-Type: message/delivery-status\r\n\r\n" + b"a: b\r\n\r\n" * 30_000, id="many-groups"
            ),
            pytest.param(b"Content-Type: multipart/report" + b';a="' * 60_000, id="parameters"),
            pytest.param(b"Content-Type: multipart/report" + b";\r\n a=b" * 40_000, id="folded"),
            pytest.param(b"a: b\r\n" * 40_000, id="many-fields"),
            pytest.param(b"From: " + b"<a@" * 80_000, id="long-field"),
            pytest.param(b"\r\n" + b"x" * 250_000, id="long-line"),
            pytest.param(
                b"\r\nThe following addresses had permanent errors\r\n" + b"x" * 999 * 250, id="no-address"
            ),
            pytest.param(
                b"\r\nThe address to which the message has not yet been delivered is\r\n"
                + (b" " * 990 + b"\r\n") * 250,
                id="blank-lines-to-match",
            ),
            pytest.param(
                b"\r\nfailed addresses follow:\r\n" + (b"x" * 990 + b"\r\n") * 250, id="quadratic-lines"
            ),
            pytest.param(b"\r\n" + b"\r\n" * 120_000, id="empty-lines"),
            pytest.param(
                b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
                + b"PHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4\r\n" * 5000,
                id="one-long-decoded-line",
            ),
            pytest.param(b"Content-Type: multipart/report; boundary*=a\0b''c\r\n\r\n--c\r\n", id="nul"),
            pytest.param(b"Content-Type: text/plain; charset=nonsense\r\n\r\n\xff\xfe\r\n", id="charset"),
        ],
    )
    def test_r46_what_was_made_to_be_slow_is_not(self, bomb):
        answered(bomb)

    def test_what_comes_before_the_cut_is_read(self):
        found = read(octets("postfix") + b"--\r\n" * 10_000 + b"x" * (2 * mime.MOST_OCTETS))
        assert found is not None
        assert found.about[0].status == "5.1.1"


def answered(anything: bytes) -> None:
    found = read(anything)
    assert found is None or isinstance(found, Report)
    for about in found.about if found else ():
        assert all(isinstance(text, str) and text.isascii() for text in (about.text, about.host))
