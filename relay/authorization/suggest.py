"""The smallest grant that would let a refused message through, as documents ready to attach.

Found by asking: each gap that a decision names is filled on a copy of the ground, until nothing is denied
for want of a grant.  Where a statement denies explicitly, or an identity is missing, no grant helps and
none is suggested.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from relay.authorization.decision import OWNER, SENDER, Allowed, Decision, Denied, Gap, Ground, Rules, decide
from relay.authorization.identities import Identities
from relay.authorization.policy import compile_policy, compile_user_policy
from relay.authorization.send import Send
from relay.submission.answer import Reason
from relay.submission.principal import PrincipalKind

# From, Sender, Return-Path and MAIL FROM, on both sides.
_MOST_GRANTS = 8
_NAME = "suggested"


@dataclass(frozen=True, slots=True)
class Grant:
    """A document and where to attach it: ``side`` "sender" is the user's own, "owner" the identity's."""

    side: str
    resource: str
    document: str


@dataclass(frozen=True, slots=True)
class Suggestion:
    """``grants`` together let the message through; else ``obstacle`` says what no grant can cure."""

    grants: tuple[Grant, ...]
    obstacle: str | None = None


def suggest(send: Send, ground: Ground, rules: Rules) -> Suggestion:
    """What is missing for the message to be allowed; nothing for one that is allowed already."""
    grants: list[Grant] = []
    decision = decide(send, ground, rules)
    while isinstance(decision, Denied) and decision.reason is Reason.ACCESS_DENIED:
        gap = decision.gap
        obstacle = _obstacle(gap, decision)
        if gap is None or obstacle is not None or len(grants) == _MOST_GRANTS:
            return Suggestion((), obstacle)
        grant = Grant(gap.side, gap.resource, json.dumps(_document(send, gap), indent=2))
        grants.append(grant)
        ground = _with(ground, gap, grant)
        decision = decide(send, ground, rules)
    return Suggestion(tuple(grants), _remaining(decision))


def _obstacle(gap: Gap | None, decision: Denied) -> str | None:
    if gap is None or (gap.side == OWNER and gap.identity is None):
        return f"{gap.resource if gap else decision.text} names no identity here"
    if gap.is_explicit:
        verdict = gap.verdict
        assert verdict is not None
        statement = verdict.sid or f"number {verdict.statement}"
        return f"statement {statement} of policy {verdict.policy} denies it; no grant helps against a Deny"
    if gap.verdict is not None and gap.verdict.unreadable is not None:
        return f"policy {gap.verdict.unreadable} cannot be read; store it anew"
    return None


def _remaining(decision: Decision) -> str | None:
    if isinstance(decision, Allowed):
        return None
    return f"then still: {decision.explanation or decision.text}"


def _document(send: Send, gap: Gap) -> dict[str, object]:
    statement: dict[str, object] = {"Effect": "Allow"}
    if gap.side == OWNER:
        kind = "Service" if send.principal.kind is PrincipalKind.SERVICE else "AWS"
        statement["Principal"] = {kind: send.principal.arn}
    statement |= {"Action": send.action, "Resource": gap.resource, "Condition": _condition(send)}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _condition(send: Send) -> Mapping[str, object]:
    """As little as this message needs: its own addresses; of a service, its own source."""
    values = {
        "ses:FromAddress": str(send.from_.mailbox),
        "ses:FeedbackAddress": str(send.feedback_address),
    }
    if send.principal.kind is PrincipalKind.SERVICE:
        values["aws:SourceAccount"] = send.principal.account_id
        if send.principal.source_arn:
            values["aws:SourceArn"] = send.principal.source_arn
    return {"StringEquals": values}


def _with(ground: Ground, gap: Gap, grant: Grant) -> Ground:
    """The ground as if the grant were attached."""
    if gap.side == SENDER:
        policies = (*(ground.user_policies or ()), compile_user_policy(grant.document, _NAME))
        return replace(ground, user_policies=policies)
    identity = gap.identity
    assert identity is not None
    lent = replace(identity, policies=(*identity.policies, compile_policy(grant.document, _NAME)))
    return replace(ground, identities=Identities(ground.identities.replaced(lent)))
