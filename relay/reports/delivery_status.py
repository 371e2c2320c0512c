"""Delivery status notifications (RFC 3464): which recipients failed or are late, and why."""

from __future__ import annotations

import re
from email.message import Message

from relay.reports.mime import blocks
from relay.reports.report import About, Kind, address_of, clean

CONTENT_TYPE = "message/delivery-status"

# Some servers append a comment to the action; OpenSMTPD writes "error".
_KINDS = (("fail", Kind.BOUNCE), ("error", Kind.BOUNCE), ("delayed", Kind.DELAY))
_ENHANCED = r"[245]\.[0-9]{1,3}\.[0-9]{1,3}"
_find_status = re.compile(rf"(?<![0-9.]){_ENHANCED}(?![0-9.])").search
_match_reply = re.compile(rf"([245][0-9]{{2}})(?:[ -]+|$)(?:#?({_ENHANCED})\b)?[ :-]*(.*)").match


def read(part: Message) -> tuple[About, ...]:
    """What the part says of each recipient that failed or is late; success needs no telling."""
    groups = blocks(part)
    reporter = next((_name(one["Reporting-MTA"]) for one in groups if one["Reporting-MTA"]), "")
    found = (_about(one, reporter) for one in groups)
    return tuple(one for one in found if one is not None)


def _about(block: Message, reporter: str) -> About | None:
    action = clean(block.get("Action", "")).lower()
    kind = next((kind for word, kind in _KINDS if action.startswith(word)), None)
    # The address that we sent to stands in Original-Recipient, if somebody forwarded the mail.
    named = (address_of(block.get(name, "")) for name in ("Original-Recipient", "Final-Recipient"))
    addresses = tuple(one for one in named if one)
    if kind is None or not addresses:
        return None
    diagnostic = clean(block.get("Diagnostic-Code", ""))
    code, enhanced, text = _reply(diagnostic)
    status = _find_status(clean(block.get("Status", "")))
    return About(
        kind=kind,
        addresses=addresses,
        status=_failed(status[0] if status else None, code, enhanced),
        code=code,
        enhanced=enhanced,
        text=text,
        host=_name(block["Remote-MTA"]) or reporter,
        diagnostic=diagnostic or None,
    )


def _failed(status: str | None, code: int | None, enhanced: str | None) -> str | None:
    """The status that counts: a failure of class 2 is none, the reply then knows better."""
    for one in (status, enhanced):
        if one is not None and not one.startswith("2."):
            return one
    return f"{code // 100}.0.0" if code is not None and code >= 400 else None


def _reply(diagnostic: str) -> tuple[int | None, str | None, str]:
    """``smtp; 550 5.1.1 no such user`` to code, enhanced code and text."""
    kind, semicolon, rest = diagnostic.partition(";")
    said = rest.strip() if semicolon and " " not in kind.strip() else diagnostic
    found = _match_reply(said)
    if found is None:
        return None, None, said
    return int(found[1]), found[2], found[3]


def _name(field: object) -> str:
    """``dns; mx.customer.example`` to the name."""
    if field is None:
        return ""
    text = clean(field)
    words = (text.partition(";")[2] or text).split()
    return words[0].rstrip(".") if words else ""
