"""The judge sees each way in which a gateway can break its word, and lets pass what may be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.torture.judge import LOST_REPLY, judge
from tests.torture.values import Copy, Event, Evidence, Kind, Report, Row, Sent, Told

SENT = Sent("m1", "m1@owner.example", ("a@x.example", "gone@x.example"), "body")
COPY = Copy("R1", ("a@x.example",), "body", "digest", True, True, 10.0, 10.1)
REPORT = Report("B1", "R1", "m1@owner.example", ("gone@x.example",))
DELIVERED = Row("R1", "a@x.example", "delivered", is_report=False)
BOUNCED = Row("R1", "gone@x.example", "bounced", is_report=False)
TOLD = Row("B1", "m1@owner.example", "delivered", is_report=True)


def evidence(**changed: object) -> Evidence:
    """A message to two recipients: one is delivered, one bounces and is reported."""
    fair = Evidence(
        sent={"m1": SENT},
        told=[Told("m1", 250, "R1")],
        copies=[COPY],
        reports=[REPORT],
        refused={"gone@x.example"},
        rows=[DELIVERED, BOUNCED, TOLD],
    )
    return replace(fair, **changed)


def test_a_fair_run_has_no_violation_and_is_counted():
    verdict = judge(evidence())
    assert verdict.violations == []
    figures = verdict.figures
    assert (figures["recipients accepted"], figures["delivered"], figures["bounced"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("changed", "violation"),
    [
        ({"rows": [DELIVERED, TOLD]}, "lost: R1 gone@x.example"),
        ({"rows": [], "copies": [], "reports": []}, "lost: R1 a@x.example"),
        ({"copies": []}, "recorded as delivered, and no 2yz was said to it: R1 a@x.example"),
        (
            {"copies": [replace(COPY, was_told=False)]},
            "recorded as delivered, and no 2yz was said to it: R1 a@x.example",
        ),
        ({"copies": [replace(COPY, is_signed=False)]}, "left unsigned: R1"),
        ({"forged": ["R1"]}, "the signature does not verify: R1"),
        ({"copies": [replace(COPY, body="other")]}, "the body changed on its way: R1 m1"),
        ({"copies": [COPY, replace(COPY, digest="other", was_told=False)]}, "two copies differ: R1"),
        (
            {"copies": [COPY, replace(COPY, relay_id="R2")]},
            "taken by the next hop, and sent by nobody: R2",
        ),
        ({"refused": set()}, "bounced, and was never refused: R1 gone@x.example"),
        ({"reports": []}, "bounced, and nobody was told: R1 gone@x.example"),
        ({"reports": []}, "a report was recorded as delivered, and never came: B1 m1@owner.example"),
        (
            {"rows": [DELIVERED, BOUNCED, replace(TOLD, state="bounced")]},
            "a report bounced, though the next hop takes them all: B1 m1@owner.example",
        ),
        ({"reports": [REPORT, replace(REPORT, id="B2")]}, "bounced twice: R1 gone@x.example B1 B2"),
        (
            {"reports": [replace(REPORT, recipients=("gone@x.example", "a@x.example"))]},
            "reported as bounced, and is delivered: R1 a@x.example",
        ),
        (
            {"copies": [COPY, replace(COPY, began_at=11.0, ended_at=11.1)]},
            "delivered twice without a cause: R1 a@x.example",
        ),
        ({"told": [Told("m1", 554)]}, "refused for good with 554, which no fault may cause: m1"),
        ({"told": [Told("m1", 554)]}, "queued, though every try of the client was answered: R1 m1"),
        (
            {"rows": [replace(DELIVERED, state="dropped"), BOUNCED, TOLD]},
            "in a state that nothing led to, dropped: R1 a@x.example",
        ),
    ],
)
def test_violation_is_found(changed, violation):
    assert violation in judge(evidence(**changed)).violations


@pytest.mark.parametrize("code", [None, 451])
def test_a_message_may_be_queued_though_the_client_was_told_nothing(code):
    verdict = judge(evidence(told=[Told("m1", code)]))
    assert verdict.violations == []
    assert verdict.figures["queued, the client being told nothing"] == 1


def test_what_still_waits_is_not_lost():
    waiting = [replace(DELIVERED, state="leased"), replace(BOUNCED, state="queued")]
    verdict = judge(evidence(rows=waiting, copies=[], reports=[]))
    assert verdict.violations == []
    assert verdict.figures["still queued"] == 2


def test_a_report_that_is_still_to_be_written_is_not_missing():
    rows = [DELIVERED, BOUNCED]
    assert judge(evidence(rows=rows, reports=[], untold={"m1@owner.example"})).violations == []


AGAIN = replace(COPY, began_at=12.0, ended_at=12.1)


def test_a_lost_reply_excuses_a_duplicate():
    verdict = judge(evidence(copies=[replace(COPY, was_told=False), AGAIN]))
    assert verdict.violations == []
    assert verdict.causes == {LOST_REPLY: 1}


@pytest.mark.parametrize("kind", [Kind.DEATH, Kind.STORE])
def test_a_death_or_a_store_that_was_away_excuses_a_duplicate(kind):
    verdict = judge(evidence(copies=[COPY, AGAIN], events=[Event("x", kind, 10.2, 11.0)]))
    assert verdict.violations == []
    assert verdict.causes == {kind.value: 1}


@pytest.mark.parametrize(
    "event",
    [
        Event("clock", Kind.NOTHING, 10.2, 11.0),  # may not matter
        Event("kill-worker", Kind.DEATH, 30.0, 30.1),  # long after
        Event("kill-worker", Kind.DEATH, 8.0, 8.1),  # before the next hop took it
        Event("kill-worker", Kind.DEATH, 12.2, 12.3),  # after it was sent again
    ],
)
def test_what_does_not_fit_excuses_nothing(event):
    assert judge(evidence(copies=[COPY, AGAIN], events=[event])).violations
