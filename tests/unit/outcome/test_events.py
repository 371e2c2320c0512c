"""SES's documents: whole, in both shapes, against files; then the traps one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.outcome import bounce_types
from relay.outcome.events import (
    Bounced,
    Complained,
    Connected,
    Delayed,
    Delivered,
    Diagnosed,
    Happened,
    Mail,
    Rejected,
    Sent,
    event,
    feedback_id,
    notification,
)
from relay.submission.identifiers import compose_id, parse_ses_message_id

DATA = Path(__file__).parents[2] / "data" / "events"
OWNER_ARN = "arn:aws:ses:us-east-1:111122223333:identity/owner.example"
RECEIVED = 1_795_428_000_240_000  # 2026-11-23T10:00:00.240Z
SECOND = 1_000_000
BY = Connected("192.0.2.7", "198.51.100.25", "TLSv1.3")
MAIL = Mail(
    id=compose_id(RECEIVED // 1000, 1, 0),
    received_at=RECEIVED,
    source="bounces@owner.example",
    source_arn=OWNER_ARN,
    source_ip="203.0.113.9",
    caller_identity="app",
    account_id="222222222222",
    destination=("Jane@customer.example", "mary@other.example"),
    headers=(
        ("X-SES-CONFIGURATION-SET", "alerts"),
        ("From", "Alerts <alerts@owner.example>"),
        ("To", '"Doe, Jane" <jane@customer.example>, mary@other.example'),
        ("Bcc", "hidden@owner.example"),
        ("Message-ID", "<1@app.example>"),
        ("Date", "Mon, 23 Nov 2026 10:00:00 +0000"),
        ("Subject", "Hello"),
    ),
    from_domain="owner.example",
    operation="SendRawEmail",
    configuration_set="alerts",
    source_tls="TLSv1.3",
    tags=(("campaign", "spring"),),
)
AT = RECEIVED + 2 * SECOND
FEEDBACK = feedback_id(compose_id(RECEIVED // 1000 + 2000, 1, 7))
NOBODY = Diagnosed("Jane@customer.example", "5.1.1", "smtp; 550 5.1.1 user unknown")
CASES: dict[str, Happened] = {
    "send": Sent(),
    "delivery": Delivered(AT, ("Jane@customer.example",), "250 2.0.0 Ok: queued", BY),
    "delay": Delayed(
        AT,
        "MailboxFull",
        RECEIVED + 50_400 * SECOND,
        (Diagnosed("Jane@customer.example", "4.2.2", "smtp; 452 4.2.2 full"),),
        BY,
    ),
    "bounce": Bounced(AT, bounce_types.GENERAL, FEEDBACK, (NOBODY,), BY),
    "bounce-without-report": Bounced(AT, bounce_types.SOFT, FEEDBACK, (Diagnosed("Jane@customer.example"),)),
    "complaint": Complained(
        AT, FEEDBACK, ("Jane@customer.example",), None, "Amazon SES Mailbox Simulator", "abuse", RECEIVED
    ),
    "complaint-without-report": Complained(
        AT, FEEDBACK, ("Jane@customer.example",), "OnAccountSuppressionList"
    ),
    "reject": Rejected(),
}


def parsed(document: str) -> Any:
    return json.loads(document)


def as_event(what: Happened, mail: Mail = MAIL) -> Any:
    return parsed(event(mail, what, "relay.example"))


def as_notification(what: Happened, mail: Mail = MAIL, with_headers: bool = True) -> Any:
    return parsed(notification(mail, what, "relay.example", with_headers=with_headers))


SHAPES: dict[str, Callable[[Happened], Any]] = {
    "event": as_event,
    "notification": as_notification,
    "notification-without-headers": lambda what: as_notification(what, with_headers=False),
}
WHOLE = [("event", name) for name in CASES] + [
    (shape, name)
    for shape in ("notification", "notification-without-headers")
    for name in ("delivery", "bounce", "bounce-without-report", "complaint", "complaint-without-report")
]


@pytest.mark.parametrize(("shape", "name"), WHOLE, ids=[f"{shape}-{name}" for shape, name in WHOLE])
def test_document_is_the_one_in_the_file(shape: str, name: str) -> None:
    written = json.loads((DATA / f"{shape}-{name}.json").read_text())
    assert SHAPES[shape](CASES[name]) == written


def test_every_file_is_of_a_case() -> None:
    assert {path.stem for path in DATA.iterdir()} == {f"{shape}-{name}" for shape, name in WHOLE}


# ---------------------------------------------------------------- traps


def test_source_arn_is_the_owners_and_the_account_the_delegates() -> None:
    mail = as_event(Sent())["mail"]
    assert mail["sourceArn"] == OWNER_ARN
    assert mail["sendingAccountId"] == "222222222222"


def test_type_field_differs_and_so_does_who_sent() -> None:
    told, published = as_notification(CASES["bounce"]), as_event(CASES["bounce"])
    assert told["notificationType"] == published["eventType"] == "Bounce"
    assert "eventType" not in told
    assert "notificationType" not in published
    assert (told["mail"]["sourceIp"], told["mail"]["callerIdentity"]) == ("203.0.113.9", "app")
    assert not {"sourceIp", "callerIdentity"} & published["mail"].keys()


def test_delay_has_no_space_in_its_name_and_quotes_no_header() -> None:
    document = as_event(CASES["delay"])
    assert document["eventType"] == "DeliveryDelay"
    assert not {"headers", "commonHeaders"} & document["mail"].keys()


def test_tags_are_in_events_only_and_each_value_is_a_list() -> None:
    assert "tags" not in as_notification(CASES["delivery"])["mail"]
    tags = as_event(CASES["delivery"])["mail"]["tags"]
    assert tags["campaign"] == ["spring"]
    assert tags["ses:outgoing-ip"] == ["198.51.100.25"]
    assert "ses:outgoing-ip" not in as_event(Sent())["mail"]["tags"]
    assert all(isinstance(value, list) and len(value) == 1 for value in tags.values())


def test_no_tag_for_what_there_is_not() -> None:
    mail = replace(MAIL, configuration_set=None, source_tls=None)
    tags = as_event(Sent(), mail)["mail"]["tags"]
    assert not {"ses:configuration-set", "ses:source-tls-version"} & tags.keys()


@pytest.mark.parametrize(
    ("octets", "truncated"), [(10 * 1024 - 200, False), (10 * 1024, True), (30_000, True)]
)
def test_headers_are_cut_at_ten_kilobytes(octets: int, truncated: bool) -> None:
    mail = as_event(Sent(), replace(MAIL, headers=(("Subject", "Hi"), ("X-Long", "x" * octets))))["mail"]
    assert mail["headersTruncated"] is truncated
    assert [one["name"] for one in mail["headers"]] == ["Subject"] + ["X-Long"] * (not truncated)


def test_common_headers_of_a_notification_have_the_addresses_in_one_text_and_the_authors_id() -> None:
    told = as_notification(CASES["bounce"])["mail"]["commonHeaders"]
    assert told["to"] == ['"Doe, Jane" <jane@customer.example>, mary@other.example']
    assert told["messageId"] == "<1@app.example>"


def test_common_headers_of_an_event_have_them_apart_and_our_id() -> None:
    document = as_event(CASES["bounce"])
    published = document["mail"]["commonHeaders"]
    assert published["to"] == ['"Doe, Jane" <jane@customer.example>', "mary@other.example"]
    assert published["messageId"] == document["mail"]["messageId"]


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("a@x.example", ["a@x.example"]),
        ("a@x.example,b@x.example", ["a@x.example", "b@x.example"]),
        (" a@x.example , ,", ["a@x.example"]),
        ('"a, b" <a@x.example>, (c, d) e@x.example', ['"a, b" <a@x.example>', "(c, d) e@x.example"]),
        (r'"q\", r" <a@x.example>, b@x.example', [r'"q\", r" <a@x.example>', "b@x.example"]),
        ("<a@x.example,b@x.example>", ["<a@x.example,b@x.example>"]),
        ('"never closed, a@x.example', ['"never closed, a@x.example']),
        ("group: a@x.example, b@x.example;", ["group: a@x.example", "b@x.example;"]),
        ("", []),
    ],
)
def test_addresses_of_a_field_are_told_apart(value: str, addresses: list[str]) -> None:
    mail = replace(MAIL, headers=(("Cc", value),))
    assert as_event(Sent(), mail)["mail"]["commonHeaders"]["cc"] == addresses


def test_many_quotes_take_no_time() -> None:
    mail = replace(MAIL, headers=(("To", '"' * 100_000 + "(" * 100_000 + "<" * 100_000),))
    assert as_event(Sent(), mail)


def test_field_of_a_repeat_is_the_first() -> None:
    mail = replace(
        MAIL, headers=(("Received", "one"), ("received", "two"), ("subject", "Low"), ("To", "a@b.c"))
    )
    document = as_event(Sent(), mail)["mail"]
    assert [one["value"] for one in document["headers"]] == ["one", "two", "Low", "a@b.c"]
    assert document["commonHeaders"]["subject"] == "Low"


def test_feedback_ids_of_one_row_differ_and_have_the_shape_of_ses() -> None:
    row = compose_id(RECEIVED // 1000, 1, 7)
    ids = [feedback_id(row, part) for part in range(3)]
    assert len(set(ids)) == 3
    assert parse_ses_message_id(ids[0]) == row
    assert [one[-7:] for one in ids] == ["-000000", "-000001", "-000002"]
    assert {tuple(map(len, one.split("-"))) for one in ids} == {(16, 8, 4, 4, 4, 12, 6)}


def test_clock_that_went_back_gives_no_negative_time() -> None:
    early = replace(CASES["delivery"], at=RECEIVED - SECOND)
    assert as_event(early)["delivery"]["processingTimeMillis"] == 0
