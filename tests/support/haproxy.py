"""A real HAProxy with a configuration of the test's own."""

from __future__ import annotations

import csv
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from tests.support.peers import require


class HAProxy:
    """Runs from construction until ``close``; the configuration has its statistics at ``directory/stats``."""

    def __init__(self, directory: Path, configuration: str, binds: Iterable[tuple[str, int]]) -> None:
        self._stats = directory / "stats"
        (directory / "haproxy.cfg").write_text(configuration)
        self._log = directory / "haproxy.log"
        with self._log.open("wb") as log:
            command = [require("haproxy"), "-db", "-f", str(directory / "haproxy.cfg")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self._await(binds)
        except BaseException:
            self.close()
            raise

    def _await(self, binds: Iterable[tuple[str, int]]) -> None:
        give_up_at = time.monotonic() + 20
        for bind in binds:
            while True:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < give_up_at, self.log()
                try:
                    socket.create_connection(bind, 5).close()
                    break
                except OSError:
                    time.sleep(0.05)
        while not self._stats.exists():  # it gets its name a moment after the ports listen
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < give_up_at, self.log()
            time.sleep(0.01)

    def servers(self) -> list[dict[str, str]]:
        """What HAProxy says of each server: a row of its statistics."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self._stats))
            sock.sendall(b"show stat\n")
            table = b"".join(iter(lambda: sock.recv(65536), b"")).decode().removeprefix("# ")
        sides = ("FRONTEND", "BACKEND")
        return [row for row in csv.DictReader(table.splitlines()) if row["svname"] not in sides]

    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
