"""One run: clients send while faults come one after another; then everything goes out, and is judged."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tests.torture.faults import Impossible, inflict
from tests.torture.ground import Ground
from tests.torture.judge import WAITING, Verdict, judge

# Quiet between two faults, so that each has its own consequences.
_HOP_ODDS = 0.01
_QUIET_SECONDS = (0.5, 3.0)


def torture(
    ground: Ground, faults: Sequence[str], seconds: float, clients: int, rate: float, drain_seconds: float
) -> Verdict:
    """Send for ``seconds`` under ``faults`` in an order of chance; the verdict on all that went before."""
    chance = random.Random(ground.seed)
    possible = list(faults)
    if "next-hop" in faults:
        # All the time, so that it meets every other fault.
        ground.usual = replace(ground.usual, odds=_HOP_ODDS)
    end_at = time.monotonic() + seconds
    load = ground.load(clients, rate)
    try:
        while time.monotonic() < end_at:
            time.sleep(min(chance.uniform(*_QUIET_SECONDS), max(end_at - time.monotonic(), 0)))
            if possible:
                _one(ground, possible, chance)
    finally:
        load.stop()
    is_drained = ground.drain(drain_seconds)
    evidence = ground.evidence()
    verdict = judge(evidence)
    if not is_drained:
        stuck = [f"{row.relay_id} {row.address}" for row in evidence.rows if row.state in WAITING]
        verdict.blame(f"not done {drain_seconds:.0f} s after the last fault", *stuck, *evidence.untold)
    return verdict


def _one(ground: Ground, possible: list[str], chance: random.Random) -> None:
    name = chance.choice(possible)
    try:
        inflict(name, ground, chance)
    except Impossible as error:
        print(f"without {name}: {error}")
        possible.remove(name)


def table(ground: Ground, verdict: Verdict) -> str:
    """The figures, for people."""
    lines = [f"{count:>8,}  {what}" for what, count in verdict.figures.items()]
    lines += [f"{count:>8,}  of these after {cause}" for cause, count in verdict.causes.items()]
    lines += [f"{count:>8,}  x {name}" for name, count in Counter(e.name for e in ground.events).items()]
    lines.append(f"{ground.hop.misdeeds:>8,}  misdeeds of the next hop")
    lines += ["", *(f"VIOLATION  {one}" for one in verdict.violations)]
    lines.append(f"{len(verdict.violations)} violations")
    return "\n".join(lines)
