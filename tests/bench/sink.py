"""smtp-sink, Postfix's own, as the next hop of what is measured: it takes everything and keeps nothing."""

from __future__ import annotations

import shutil
import subprocess

from tests.support.gateway import free_ports

_DIRECTORIES = ("/usr/sbin", "/usr/lib/postfix/sbin", "/usr/local/sbin")


class Sink:
    """Runs from construction until ``close``; ``address`` as the settings want it."""

    def __init__(self) -> None:
        program = shutil.which("smtp-sink", path=":".join(_DIRECTORIES))
        if program is None:
            raise SystemExit("smtp-sink not found: apt-get install postfix")
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        self.refused: frozenset[str] = frozenset()
        self.process = subprocess.Popen(
            [program, "-u", "nobody", "-h", "sink.example", f"inet:{self.address}", "1000"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
