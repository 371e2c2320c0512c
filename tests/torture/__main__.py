"""Tortures a gateway of its own, and judges what became of every message.

    python -m tests.torture --engine sqlite --seconds 600 --seed 7
    python -m tests.torture --engine postgresql --seconds 60 --fault kill-worker --fault next-hop
    python -m tests.torture --engine postgresql --seconds 300 --nodes 2 --fault kill-node --fault kill-server

Clients send while the program, its store, its disk, its clock, its name server and its next hop fail in an
order that the seed fixes.  Then everything is let out, and each recipient must be delivered, bounced or
queued, signed, told of, and delivered twice only for one of the three reasons there may be.  Ends with 1 and
the ids if anything is not so.  Cutting the power and filling the disk need root, ext4 and a loop device;
jumps of the clock need a C compiler; what this machine cannot do is named.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.support.stores import ENGINES
from tests.torture.faults import FAULTS
from tests.torture.ground import Ground
from tests.torture.run import table, torture


def main() -> int:
    options = _options()
    directory = Path(tempfile.mkdtemp(prefix="relay-torture-"))
    directory.chmod(0o755)  # a database server is another user
    ground = Ground(directory, options.engine, options.seed, options.nodes)
    try:
        faults = options.fault or list(FAULTS)
        verdict = torture(
            ground, faults, options.seconds, options.clients, options.rate, options.drain_seconds
        )
        print(table(ground, verdict))
    finally:
        ground.close()
        if options.keep:
            print(f"log and ledger are in {directory}")
        else:
            shutil.rmtree(directory)
    return 1 if verdict.violations else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--engine", choices=ENGINES, default="sqlite")
    parser.add_argument("--seconds", type=float, default=60, help="how long clients send (60)")
    parser.add_argument("--seed", default="1", help="the same seed is the same order of faults (1)")
    parser.add_argument(
        "--fault", action="append", choices=FAULTS, help="only this one; may be repeated; default is all"
    )
    parser.add_argument("--nodes", type=int, default=1, help="on one PostgreSQL, behind HAProxy (1)")
    parser.add_argument("--clients", type=int, default=10, help="connections that send (10)")
    parser.add_argument("--rate", type=float, default=50, help="messages a second of all together (50)")
    parser.add_argument("--drain-seconds", type=float, default=120, help="patience at the end (120)")
    parser.add_argument("--keep", action="store_true", help="keep the directory with log and ledger")
    options = parser.parse_args()
    if options.nodes > 1 and options.engine != "postgresql":
        parser.error("several nodes share no SQLite file; add --engine postgresql")
    return options


if __name__ == "__main__":
    sys.exit(main())
