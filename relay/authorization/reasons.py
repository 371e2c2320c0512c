"""The last line of a refusal: what failed, in the client's own values, and nothing of the policy's.

A sender whom no Allow of the identity names learns no more than a stranger may: the address it used.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.authorization.evaluate import Effect, Verdict
from relay.authorization.policy import Policy
from relay.authorization.request import Request
from relay.authorization.send import Claim
from relay.authorization.trace import ConditionTrace, StatementTrace, trace

_KEY_OF_ROLE = {
    "From": "ses:FromAddress",
    "Sender": "the Sender field's address",
    "Return-Path": "ses:FeedbackAddress",
    "MAIL FROM": "the MAIL FROM address",
}
# A reply line has 512 octets (RFC 5321 section 4.5.3.1.5), and the reference comes after the value.
_MOST_CHARACTERS = 200


def explain_own_side(action: str, verdict: Verdict) -> str:
    """The sender's own policies do not let it: the cure is on the sender's side."""
    if verdict.unreadable is not None:
        return f"The user's policy {verdict.unreadable} cannot be read"
    if verdict.effect is Effect.EXPLICIT_DENY:
        return f"A statement of the user's own policies denies {action}"
    return f"No statement of the user's own policies allows {action} on this identity"


def explain_denial(policies: Sequence[Policy], request: Request | None, claim: Claim) -> str:
    """What the owner's policies did not grant for this address."""
    unspecific = _shown(_KEY_OF_ROLE[claim.role], str(claim.address))
    if request is None:
        return f"No statement allows {unspecific}"
    looked_at = [one for one in trace(policies, request) if one.concerns]
    if not any(one.statement.is_allow for one in looked_at):
        return f"No statement allows {unspecific}"
    denies = [one for one in looked_at if one.applies and not one.statement.is_allow]
    if denies:
        return f"A statement denies {_deciding(denies[0].conditions, request) or unspecific}"
    nearest = min((one for one in looked_at if one.statement.is_allow), key=_distance)
    return f"No statement allows {_deciding(nearest.failed, request) or unspecific}"


def _distance(one: StatementTrace) -> int:
    return len(one.failed)


def _deciding(conditions: Sequence[ConditionTrace], request: Request) -> str:
    """The key whose value decided, with the value; addresses before circumstances."""
    ranked = sorted(conditions, key=lambda one: not one.condition.key.lower().startswith("ses:"))
    if not ranked:
        return ""
    one = ranked[0]
    if one.have is None:
        return f"a message without {one.condition.key}"
    return _shown(one.condition.key, _value(one, request))


def _value(one: ConditionTrace, request: Request) -> str:
    if not isinstance(one.have, tuple):
        return one.have or ""
    key = one.condition.key.lower()
    for value in one.have:
        if one.condition.test({**request.context, key: (value,)}) == one.holds:
            return value
    return ", ".join(one.have)


def _shown(key: str, value: str) -> str:
    text = f"{key} {value}" if value else key
    text = "".join(character if " " <= character <= "~" else "?" for character in text)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
