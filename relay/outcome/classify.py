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

What an answer says of the next hop itself, and so for how many connections it gets:

    ROUTE         anything                                       nothing: it was not asked
    any phase     no reply, 421                                  it is overloaded, or broken
    before MAIL   any refusal                                    the same: it lets us in no further
    MAIL, DATA    4yz, but for the sender's address (4.1.x)      the same: it had seen no more of the mail
    RCPT, DOT     4yz with 4.3.x (its system) or 4.4.5           the same
                  (congestion); 452 to the dot without a code
    RCPT, DOT     other refusals                                 nothing: they are about a mailbox or the
                                                                 message; 450 for greylisting is one
    DOT           2yz                                            it takes mail
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


class Sign(StrEnum):
    """What an answer says of the next hop itself."""

    TAKES = "takes"
    OVERLOADED = "overloaded"
    NOTHING = "nothing"


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


def sign_of(answer: Reply | Failure, phase: Phase) -> Sign:
    """What ``answer`` says of the next hop, whatever it means for the mail."""
    if isinstance(answer, Reply) and answer.code < 300 and phase is Phase.DOT:
        return Sign.TAKES
    return Sign.OVERLOADED if _is_about_the_host(answer, phase) else Sign.NOTHING


def _is_about_the_host(answer: Reply | Failure, phase: Phase) -> bool:
    if phase is Phase.ROUTE:
        return False
    if isinstance(answer, Failure) or answer.code == 421 or phase not in _ABOUT_THE_MAIL:
        return True
    if not 400 <= answer.code < 500:
        return False
    enhanced = answer.enhanced or ""
    if phase in (Phase.MAIL, Phase.DATA):
        return not enhanced.startswith("4.1.")
    return (
        enhanced.startswith("4.3.")
        or enhanced == "4.4.5"
        or (phase is Phase.DOT and answer.code == 452 and not enhanced)
    )
