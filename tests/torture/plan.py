"""What the next hop does wrong, by chance that a seed fixes.  Pure.

Each command has its own misdeeds; most commands are answered as they should be.  Mail from the null sender
is never refused for good: reports have nowhere to come back to, and must all arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.support.scripted_peer import CLOSE, ENDLESS

# Besides what a scripted peer can say: break TLS in its handshake, answer late.
BREAK_TLS, LATE = "break-tls", "late"
GARBAGE = "HTTP/1.1 400 Bad Request"
_GOES_AWAY = "421 4.3.2 going away"

_MISDEEDS = {
    "BANNER": ("554 no", _GOES_AWAY, GARBAGE, ENDLESS, CLOSE, LATE),
    "EHLO": ("451 4.3.0 no", "550 no", _GOES_AWAY, GARBAGE, CLOSE),
    "STARTTLS": ("454 4.7.0 no", BREAK_TLS, CLOSE),
    "MAIL": ("451 4.3.0 no", "550 5.7.1 no", _GOES_AWAY, GARBAGE, ENDLESS, CLOSE, LATE),
    "RCPT": ("450 4.2.1 no", "452 4.5.3 no", "550 5.1.1 no", "553 no", _GOES_AWAY, GARBAGE, CLOSE),
    "DATA": ("451 4.3.0 no", "554 5.7.0 no", _GOES_AWAY, GARBAGE, CLOSE, LATE),
    "DOT": ("451 4.3.0 no", "554 5.6.0 no", _GOES_AWAY, GARBAGE, ENDLESS, CLOSE, LATE),
}
# An address that begins so never takes mail, whatever the odds.
GONE = "gone"


@dataclass(frozen=True, slots=True)
class Plan:
    """How often things go wrong: ``odds`` of each command; 0 is a next hop without fault.  ``late`` are the
    odds that the answer to the final dot takes long, so that a worker has mail in its hands when it dies."""

    odds: float = 0.0
    late: float = 0.0

    def misdeed(self, verb: str, chance: Random, *, is_report: bool) -> str | None:
        """What is done instead of the right thing; None is the right thing."""
        # A session that cannot even begin stops a whole line for a while, so that happens less often.
        odds = self.odds / 3 if verb in ("BANNER", "EHLO") else self.odds
        if verb not in _MISDEEDS or chance.random() >= odds:
            return LATE if verb == "DOT" and chance.random() < self.late else None
        misdeed = chance.choice(_MISDEEDS[verb])
        if is_report and misdeed.startswith("5"):
            return None
        return misdeed


def is_permanent(reply: str) -> bool:
    return reply.startswith("5")
