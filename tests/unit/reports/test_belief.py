"""A report is believed of recipients that its message had, and of nobody else."""

from __future__ import annotations

import pytest

from relay.outcome.bounce_types import UNDETERMINED
from relay.outcome.event_rows import kind_of
from relay.queue.values import QueuedRecipient
from relay.reports.belief import believed, is_bad, notice
from relay.reports.report import About, Kind, Report

ANN = QueuedRecipient(0, "Ann@customer.example", "customer.example", attempts=2)
BOB = QueuedRecipient(1, "bob@other.example", "other.example")
BOTH = (ANN, BOB)


def bounce(*addresses: str, **said: object) -> About:
    return About(Kind.BOUNCE, addresses, **said)


def numbers(report: Report) -> list[int]:
    return [to.number for to, _ in believed(report, BOTH)]


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        (("Ann@customer.example",), [0]),
        (("ann@CUSTOMER.example",), [0]),
        (("ann@customer.example", "forwarded@elsewhere.example"), [0]),
        (("forwarded@elsewhere.example",), []),
        (("ann@customer.example.evil.example",), []),
        (("bounces@owner.example",), []),
    ],
)
def test_bounce_is_believed_of_a_recipient_by_any_of_its_addresses(addresses, found):
    assert numbers(Report((bounce(*addresses),))) == found


def test_recipient_counts_once_for_each_kind():
    twice = (bounce("ann@customer.example", status="5.1.1"), bounce("ann@customer.example"))
    late = About(Kind.DELAY, ("ann@customer.example",))
    found = believed(Report((*twice, late)), BOTH)
    assert [(to.number, about.kind, about.status) for to, about in found] == [
        (0, Kind.BOUNCE, "5.1.1"),
        (0, Kind.DELAY, None),
    ]


@pytest.mark.parametrize(
    ("reporter", "found"),
    [
        ("arf.mail.customer.example", [0]),
        ("other.example", [1]),
        ("notcustomer.example", [0, 1]),
        ("elsewhere.example", [0, 1]),
        ("", [0, 1]),
    ],
)
def test_hidden_complaint_is_of_those_at_the_reporters_domain_else_of_all(reporter, found):
    assert numbers(Report((About(Kind.COMPLAINT, ()),), sender_domain=reporter)) == found


def test_complaint_that_names_a_stranger_is_not_believed():
    assert numbers(Report((About(Kind.COMPLAINT, ("eve@customer.example",)),))) == []


@pytest.mark.parametrize(
    ("about", "is_sure", "expected"),
    [
        (bounce("a@b", status="5.1.1"), True, True),
        (bounce("a@b", status="5.7.1", text="spam"), True, False),
        (bounce("a@b", status="4.4.1"), True, False),
        (bounce("a@b"), True, False),
        (About(Kind.COMPLAINT, ("a@b",)), True, True),
        (About(Kind.COMPLAINT, ()), False, False),
        (About(Kind.AUTOREPLY, ("a@b",)), True, False),
    ],
)
def test_address_is_bad_if_it_is_wrong_for_good_or_surely_complains(about, is_sure, expected):
    assert is_bad(about, is_sure=is_sure) is expected


class TestNotice:
    def test_it_has_what_a_settlement_writes_and_that_it_is_late(self):
        about = bounce(
            "ann@customer.example",
            status="5.1.1",
            code=550,
            enhanced="5.1.1",
            text="no such user",
            diagnostic="smtp; 550 5.1.1 no such user",
        )
        written = notice(ANN, about, Report((about,), report_id="<r@x>"), 7, "192.0.2.1")
        assert written == {
            "address": "Ann@customer.example",
            "status": "5.1.1",
            "expired": False,
            "code": 550,
            "enhanced": "5.1.1",
            "diagnostic": "smtp; 550 5.1.1 no such user",
            "text": "no such user",
            "host": "192.0.2.1",
            "phase": "report",
            "at": 7,
            "attempts": 2,
            "late": True,
            "report_id": "<r@x>",
        }

    def test_failure_without_a_reason_is_undetermined(self):
        written = notice(ANN, bounce("a@b"), Report(()), 7, "192.0.2.1")
        assert kind_of(written, is_custom_time=False) == UNDETERMINED
        assert written["text"] == "reported by 192.0.2.1 without a reason"
