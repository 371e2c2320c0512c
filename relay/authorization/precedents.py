"""The same question on the same ground has the same answer, which need not be found again.

The mail of one application differs in recipients and time; where nothing looks at these, what was allowed
once is allowed again.  A refusal is decided each time: it is rare, and must say what there is to say.
"""

from __future__ import annotations

from itertools import chain

from relay.authorization.context import OF_EACH_MESSAGE
from relay.authorization.decision import Allowed, Decision, Ground, Rules, decide
from relay.authorization.send import Send
from relay.submission.principal import Principal

# Each address of From has a ground of its own already: here differ display names and the hosts of an
# application.  There may be a thousand grounds, and a precedent takes about two kilobytes.
_MOST = 16
_LONGEST_CHARACTERS = 1024


class Precedents:
    """Decisions for one principal on one ground; the answers are those of ``decide``."""

    def __init__(self, principal: Principal, ground: Ground, rules: Rules) -> None:
        self._principal = principal
        self._ground = ground
        self._rules = rules
        self._counts = not _looks_at_each_message(ground, rules)
        self._allowed: dict[object, Allowed] = {}

    def decide(self, send: Send) -> Decision:
        if not self._counts or send.principal != self._principal:
            return decide(send, self._ground, self._rules)
        question = _question(send)
        held = self._allowed.get(question)
        if held is not None:
            return held
        decision = decide(send, self._ground, self._rules)
        if isinstance(decision, Allowed) and _characters(send) <= _LONGEST_CHARACTERS:
            if len(self._allowed) >= _MOST:
                self._allowed.clear()
            self._allowed[question] = decision
        return decision


def _question(send: Send) -> object:
    """All of it but recipients and time; who asks is the same anyway."""
    return (
        send.claims,
        send.from_.display_name,
        send.action,
        send.api_version,
        send.source_ip,
        send.is_secure,
        send.user_agent,
        send.configuration_set,
    )


def _characters(send: Send) -> int:
    """Of the texts that a sender may make as long as a header field."""
    return sum(len(claim.shown) for claim in send.claims) + len(send.user_agent or "")


def _looks_at_each_message(ground: Ground, rules: Rules) -> bool:
    """Whether recipients or time can make a difference: in a sandbox (R15), or to a policy."""
    if not ground.account.production or rules.owner_out_of_sandbox_too:
        return True
    of_identities = (policy for identity in ground.identities.all() for policy in identity.policies)
    policies = chain(ground.user_policies or (), of_identities)
    return any(policy.context_keys & OF_EACH_MESSAGE for policy in policies)
