"""Temporary or permanent: decided here and nowhere else, from phase, reply and enhanced code.

The policy, a line each, with its reason:

    any phase     no reply, garbage, broken or slow connection   temporary: it says nothing of the mail
    any phase     421                                            temporary: the host goes away
    ROUTE         5yz, said by us for what DNS said for sure     permanent: no such domain, null MX, a loop
    before MAIL   any refusal                                    temporary: the next hop's or our own
                                                                 configuration is at fault, not the mail
    RCPT, DOT     552 without 5.3.4 or 5.2.3, 452                temporary: "too many recipients" or a
                                                                 full mailbox in old clothes (RFC 5321
                                                                 section 4.5.3.1.10)
    MAIL ... DOT  5yz                                            permanent
    MAIL ... DOT  5yz with an enhanced code 4.x.x                temporary: the sender of both means the
                                                                 milder one
    MAIL ... DOT  4yz                                            temporary
    DOT           2yz                                            delivered
    elsewhere     2yz, 3yz where the dialogue ends               temporary: it makes no sense
    DATA          5.6.3 of our own                               permanent: no 8BITMIME at the next hop,
                                                                 and signed mail is never converted

A surprise defers: time bounces it, if nothing else does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from relay.outcome.outcome import Failure, Phase, Reply

_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}").fullmatch
# ROUTE has no other side: its replies are our own words for what DNS said.
_ABOUT_THE_MAIL = frozenset({Phase.ROUTE, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT})


class Kind(StrEnum):
    DELIVERED = "delivered"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one answer means; ``status`` is the RFC 3463 code to report."""

    kind: Kind
    status: str


def classify(answer: Reply | Failure, phase: Phase) -> Verdict:
    """What ``answer``, which ended the attempt in ``phase``, means for the recipient."""
    if isinstance(answer, Failure):
        return Verdict(Kind.TEMPORARY, "4.4.2" if phase is not Phase.ROUTE else "4.4.3")
    kind = _kind(answer, phase)
    return Verdict(kind, _status(answer, phase, kind))


def _kind(reply: Reply, phase: Phase) -> Kind:
    if 200 <= reply.code < 300 and phase is Phase.DOT:
        return Kind.DELIVERED
    if reply.code < 500 or phase not in _ABOUT_THE_MAIL:
        return Kind.TEMPORARY
    if reply.enhanced is not None and reply.enhanced.startswith("4."):
        return Kind.TEMPORARY
    if reply.code == 552 and phase in (Phase.RCPT, Phase.DOT) and reply.enhanced not in ("5.3.4", "5.2.3"):
        return Kind.TEMPORARY
    return Kind.PERMANENT


# Where the next hop gave no enhanced code: the class is ours, subject and detail are its plain meaning.
_BY_CODE = {
    (Phase.RCPT, 550): "1.1",
    (Phase.RCPT, 551): "1.6",
    (Phase.RCPT, 553): "1.3",
    (Phase.RCPT, 450): "2.1",
    (Phase.RCPT, 452): "2.2",
    (Phase.DOT, 552): "3.4",
    (Phase.MAIL, 552): "3.4",
    (Phase.DOT, 554): "6.0",
}


def _status(reply: Reply, phase: Phase, kind: Kind) -> str:
    first = {Kind.DELIVERED: "2", Kind.TEMPORARY: "4", Kind.PERMANENT: "5"}[kind]
    if reply.enhanced is not None and _ENHANCED(reply.enhanced):
        return first + reply.enhanced[1:]
    return f"{first}.{_BY_CODE.get((phase, reply.code), '0.0')}"
