"""Whether the gateway kept its word, from the evidence of a run.  Pure.

    every recipient of an accepted message is delivered, bounced or still queued
    what was delivered was taken by the next hop, octet for octet, and signed
    what bounced was refused for good, and its Return-Path got one report about it
    what was delivered twice has one of three causes:
        a death of the program, or a stall past its lease, between the next hop's reply and our commit
        a connection lost after the final dot
        an outcome that the store did not take

A message that a client sent again because it was told nothing is another message to the gateway: it is
counted, and no fault of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.torture.values import Copy, Event, Evidence, Kind, Report, Row

LOST_REPLY = "a connection lost after the final dot"
WAITING = ("queued", "leased", "held")
# How long the outcome of a delivery may take to its commit while nothing is wrong.
_COMMIT_SECONDS = 5.0
# What a program had sent before it died, the next hop takes a moment later.
_IN_FLIGHT_SECONDS = 1.0


@dataclass(slots=True)
class Verdict:
    """The figures of a run, and each violation with the ids it is about."""

    figures: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def blame(self, what: str, *ids: str) -> None:
        self.violations.append(f"{what}: {' '.join(ids)}")


@dataclass(slots=True)
class _Case:
    """All that is known of one recipient of one message in the gateway."""

    relay_id: str
    address: str
    row: Row | None = None
    copies: list[Copy] = field(default_factory=list)
    reports: set[str] = field(default_factory=set)


def judge(evidence: Evidence) -> Verdict:
    """The verdict on one run."""
    verdict = Verdict()
    clients = _clients(evidence, verdict)
    _judge_octets(evidence, clients, verdict)
    cases = _cases(evidence, clients)
    for case in cases.values():
        _judge_case(case, evidence, verdict)
    _judge_reports(evidence, verdict)
    return verdict


# ---------------------------------------------------------------- clients


def _clients(evidence: Evidence, verdict: Verdict) -> dict[str, str]:
    """Which client's message each message in the gateway is."""
    figures = verdict.figures
    accepted = {one.relay_id: one.id for one in evidence.told if one.code == 250 and one.relay_id}
    figures["messages sent"] = len(evidence.sent)
    figures["accepted (250)"] = len(accepted)
    figures["refused for now (4yz)"] = sum(400 <= (one.code or 0) < 500 for one in evidence.told)
    figures["connection lost, client told nothing"] = sum(one.code is None for one in evidence.told)
    for one in evidence.told:
        if (one.code or 0) >= 500:
            verdict.blame(f"refused for good with {one.code}, which no fault may cause", one.id)
    figures["accepted twice, the client being told nothing"] = len(accepted) - len(set(accepted.values()))
    return accepted | _unannounced(evidence, accepted, verdict)


def _unannounced(evidence: Evidence, accepted: dict[str, str], verdict: Verdict) -> dict[str, str]:
    """Messages in the gateway of which no client knows: it must have been told nothing, or 4yz."""
    by_recipient = {address: one.id for one in evidence.sent.values() for address in one.recipients}
    unsure = {one.id for one in evidence.told if one.code is None or 400 <= one.code < 500}
    unsure |= evidence.sent.keys() - {one.id for one in evidence.told}
    found: dict[str, str] = {}
    for row in evidence.rows:
        if row.is_report or row.relay_id in accepted or row.relay_id in found:
            continue
        of = by_recipient.get(row.address)
        found[row.relay_id] = of or "?"
        if of not in unsure:
            verdict.blame("queued, though every try of the client was answered", row.relay_id, of or "?")
    verdict.figures["queued, the client being told nothing"] = len(found)
    return found


# ---------------------------------------------------------------- octets


def _judge_octets(evidence: Evidence, clients: dict[str, str], verdict: Verdict) -> None:
    digests: dict[str, str] = {}
    for copy in evidence.copies:
        of = evidence.sent.get(clients.get(copy.relay_id, ""))
        if of is None:
            verdict.blame("taken by the next hop, and sent by nobody", copy.relay_id)
        elif of.body != copy.body:
            verdict.blame("the body changed on its way", copy.relay_id, of.id)
        if digests.setdefault(copy.relay_id, copy.digest) != copy.digest:
            verdict.blame("two copies differ", copy.relay_id)
        if not copy.is_signed:
            verdict.blame("left unsigned", copy.relay_id)
    for relay_id in evidence.forged:
        verdict.blame("the signature does not verify", relay_id)
    verdict.figures["messages the next hop took"] = len(evidence.copies)
    verdict.figures["unsigned"] = sum(not copy.is_signed for copy in evidence.copies)
    verdict.figures["signatures verified independently"] = evidence.verified


# ---------------------------------------------------------------- recipients


def _cases(evidence: Evidence, clients: dict[str, str]) -> dict[tuple[str, str], _Case]:
    cases: dict[tuple[str, str], _Case] = {}

    def case(relay_id: str, address: str) -> _Case:
        return cases.setdefault((relay_id, address), _Case(relay_id, address))

    for relay_id, of in clients.items():
        for address in evidence.sent[of].recipients if of in evidence.sent else ():
            case(relay_id, address)
    for row in evidence.rows:
        if not row.is_report:
            case(row.relay_id, row.address).row = row
    for copy in evidence.copies:
        for address in copy.recipients:
            case(copy.relay_id, address).copies.append(copy)
    for report in evidence.reports:
        for address in report.recipients:
            case(report.original_id, address).reports.add(report.id)
    return cases


def _judge_case(case: _Case, evidence: Evidence, verdict: Verdict) -> None:
    verdict.figures["recipients accepted"] += 1
    if case.row is None:
        verdict.blame("lost", case.relay_id, case.address)
        return
    _judge_state(case, case.row.state, evidence, verdict)
    if len(case.reports) > 1:
        verdict.figures["bounced twice"] += 1
        verdict.blame("bounced twice", case.relay_id, case.address, *sorted(case.reports))
    copies = sorted(case.copies, key=lambda copy: copy.began_at)
    for copy, following in zip(copies, copies[1:], strict=False):
        _judge_duplicate(case, copy, following, evidence.events, verdict)


def _judge_state(case: _Case, state: str, evidence: Evidence, verdict: Verdict) -> None:
    if state in WAITING:
        verdict.figures["still queued"] += 1
    elif state == "delivered":
        verdict.figures["delivered"] += 1
        if not any(copy.was_told for copy in case.copies):
            verdict.blame("recorded as delivered, and no 2yz was said to it", case.relay_id, case.address)
    elif state == "bounced":
        verdict.figures["bounced"] += 1
        if case.address not in evidence.refused:
            verdict.blame("bounced, and was never refused", case.relay_id, case.address)
        if not case.reports and evidence.sent[_client_of(case, evidence)].reverse_path not in evidence.untold:
            verdict.blame("bounced, and nobody was told", case.relay_id, case.address)
    else:
        verdict.blame(f"in a state that nothing led to, {state}", case.relay_id, case.address)
    if case.reports and state != "bounced":
        verdict.blame(f"reported as bounced, and is {state}", case.relay_id, case.address)


def _client_of(case: _Case, evidence: Evidence) -> str:
    return next(one.id for one in evidence.sent.values() if case.address in one.recipients)


def _judge_duplicate(case: _Case, copy: Copy, following: Copy, events: list[Event], verdict: Verdict) -> None:
    verdict.figures["recipients delivered once more"] += 1
    cause = cause_of(copy, following, events)
    if cause is None:
        verdict.blame("delivered twice without a cause", case.relay_id, case.address)
    else:
        verdict.causes[cause] += 1


def cause_of(copy: Copy, following: Copy, events: list[Event]) -> str | None:
    """Why it was sent again after ``copy``; None if there was no reason to."""
    if not copy.was_told:
        return LOST_REPLY
    for kind in (Kind.DEATH, Kind.STORE):
        for event in events:
            # The outcome was on its way to the store when it happened, and it was sent again after that.
            until = event.until + _IN_FLIGHT_SECONDS
            is_under_way = event.at - _COMMIT_SECONDS <= copy.ended_at <= until
            if event.kind is kind and is_under_way and following.began_at >= event.at:
                return kind.value
    return None


# ---------------------------------------------------------------- reports


def _judge_reports(evidence: Evidence, verdict: Verdict) -> None:
    """A report is lost by no fault either; one that came twice is a duplicate like any other."""
    arrived: dict[str, list[Report]] = defaultdict(list)
    for report in evidence.reports:
        arrived[report.id].append(report)
    verdict.figures["bounce reports"] = len(arrived)
    for row in _reports_of(evidence.rows):
        if row.state == "delivered" and row.relay_id not in arrived:
            verdict.blame("a report was recorded as delivered, and never came", row.relay_id, row.address)
        elif row.state == "bounced":
            verdict.blame("a report bounced, though the next hop takes them all", row.relay_id, row.address)


def _reports_of(rows: list[Row]) -> Iterator[Row]:
    return (row for row in rows if row.is_report)
