"""From what the queue wrote down to the events that it tells."""

from __future__ import annotations

from typing import Any

import pytest

from relay.outcome import bounce_types
from relay.outcome.event_rows import EventRow, read_events
from relay.outcome.events import (
    Bounced,
    Complained,
    Connected,
    Delayed,
    Delivered,
    Diagnosed,
    Rejected,
    Sent,
    feedback_id,
)

AT = 1_795_428_005_000_000
UNTIL = AT + 50_000_000_000


def item(address: str = "a@customer.example", **changed: Any) -> dict[str, Any]:
    return {
        "address": address,
        "status": "5.1.1",
        "expired": False,
        "code": 550,
        "enhanced": "5.1.1",
        "text": "no such user",
        "host": "mx.customer.example[192.0.2.7]:25",
        "phase": "rcpt",
        "at": AT - 10,
        "attempts": 1,
        "tls": "TLSv1.3",
        "local": "198.51.100.25",
        "notice": False,
        **changed,
    }


def read(kind: str, *items: dict[str, Any], is_custom_time: bool = False):
    return read_events(EventRow(7, kind, AT, items, UNTIL, is_custom_time))


BY = Connected("192.0.2.7", "198.51.100.25", "TLSv1.3")


def test_send_and_reject_have_no_recipients() -> None:
    assert read("send") == (Sent(),)
    assert read("reject") == (Rejected("Bad content"),)


def test_recipients_taken_with_one_reply_are_one_delivery() -> None:
    ok = {"code": 250, "enhanced": "2.0.0", "text": "Ok: queued as 1", "phase": "dot", "status": None}
    other = {**ok, "text": "Ok: queued as 2"}
    told = read("delivery", item("a@x", **ok), item("b@x", **other), item("c@x", **ok))
    assert told == (
        Delivered(AT, ("a@x", "c@x"), "250 2.0.0 Ok: queued as 1", BY),
        Delivered(AT, ("b@x",), "250 2.0.0 Ok: queued as 2", BY),
    )


def test_recipients_that_failed_differently_are_bounces_of_their_own() -> None:
    full = {"code": 552, "enhanced": "5.2.2", "status": "5.2.2", "text": "full"}
    first, second = read("bounce", item("a@x"), item("b@x", **full), item("c@x"))
    assert first == Bounced(
        AT,
        bounce_types.GENERAL,
        feedback_id(7),
        (
            Diagnosed("a@x", "5.1.1", "smtp; 550 5.1.1 no such user"),
            Diagnosed("c@x", "5.1.1", "smtp; 550 5.1.1 no such user"),
        ),
        BY,
    )
    assert (second.kind, second.feedback_id) == (bounce_types.MAILBOX_FULL, feedback_id(7, 1))


def test_what_no_next_hop_said_is_not_given_as_its_words() -> None:
    silent = {"code": None, "enhanced": None, "text": "timed out", "host": "-", "status": "4.4.2"}
    [late] = read("bounce", item(**silent, expired=True))
    assert late.kind == bounce_types.SOFT
    assert late.recipients == (Diagnosed("a@customer.example", "4.4.2", "X-Relay; timed out"),)
    assert late.by.remote_ip is None


def test_dns_word_is_none_of_the_next_hops() -> None:
    [told] = read("bounce", item(phase="route", code=550, enhanced="5.1.2", status="5.1.2", text="no domain"))
    assert told.kind == bounce_types.NO_EMAIL
    assert told.recipients[0].diagnostic == "X-Relay; no domain"


@pytest.mark.parametrize(("expired", "kind"), [(True, bounce_types.TIMEOUT), (False, bounce_types.GENERAL)])
def test_time_of_the_configuration_set_has_a_name_of_its_own(expired, kind) -> None:
    [told] = read("bounce", item(expired=expired), is_custom_time=True)
    assert told.kind == kind


@pytest.mark.parametrize("kind", [bounce_types.ON_ACCOUNT_LIST, bounce_types.ON_GLOBAL_LIST])
def test_suppressed_recipient_is_told_as_it_was_written(kind) -> None:
    words = "Amazon SES has suppressed sending to this address"
    [told] = read(
        "bounce", item(kind=[kind.type, kind.subtype], code=None, enhanced=None, text=words, host=None)
    )
    assert told.kind == kind
    assert told.recipients == (Diagnosed("a@customer.example", "5.1.1", words),)


def test_late_bounce_has_the_word_of_its_report() -> None:
    late = {"late": True, "code": None, "enhanced": None, "text": "", "diagnostic": "smtp; 550 5.1.1 gone"}
    [told] = read("bounce", item(**late))
    assert told.recipients == (Diagnosed("a@customer.example", "5.1.1", "smtp; 550 5.1.1 gone"),)
    [vague] = read("bounce", item(**{**late, "status": None, "diagnostic": None}))
    assert vague.recipients == (Diagnosed("a@customer.example", None, None),)
    assert vague.kind == bounce_types.UNDETERMINED


def test_auto_reply_is_told_as_a_soft_bounce() -> None:
    [told] = read("autoreply", {"address": "a@x", "at": AT})
    assert told == Bounced(AT, bounce_types.SOFT, feedback_id(7), (Diagnosed("a@x"),))


def test_complaint_names_everyone_who_may_have_complained() -> None:
    said = {"at": AT, "user_agent": "Feedback/1", "feedback_type": "abuse", "arrived_at": AT - 5}
    [told] = read("complaint", {"address": "a@x", **said}, {"address": "b@x", **said})
    assert told == Complained(AT, feedback_id(7), ("a@x", "b@x"), None, "Feedback/1", "abuse", AT - 5)


def test_delay_is_transient_whatever_the_next_hop_called_it() -> None:
    said = {"status": None, "code": 450, "enhanced": "5.7.1", "text": "come again", "attempts": 3}
    [told] = read("delay", item(**said))
    assert told == Delayed(
        AT,
        "General",
        UNTIL,
        (Diagnosed("a@customer.example", "4.7.1", "smtp; 450 5.7.1 come again"),),
        BY,
    )
    [silent] = read("delay", item(**{**said, "code": None, "enhanced": None, "text": "refused"}))
    assert (silent.delay_type, silent.recipients[0].status) == ("TransientCommunicationFailure", "4.0.0")
