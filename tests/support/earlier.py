"""The program as it was at the revision of the schema before this one, out of the repository's history."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from relay.store.schema import REVISION
from tests.support.gateway import Gateway

_ROOT = Path(__file__).parents[2]
# One process for many commands: most of the time of each is its start.
_COMMANDS = """
import json, sys
from click.testing import CliRunner
from relay.cli import main
for line in sys.stdin:
    arguments, given = json.loads(line)
    result = CliRunner().invoke(main, arguments, input=given, catch_exceptions=False)
    print(json.dumps([result.exit_code, result.stdout, result.stderr]), flush=True)
"""


def unpack(directory: Path) -> str:
    """Put its source there; the revision that it knows."""
    came = _git(
        "log", "--reverse", "--format=%H", f'-SREVISION = "{REVISION}"', "--", "relay/store/schema.py"
    )
    before = f"{came.split()[0].decode()}^" if came else ""
    archive = _git("archive", before, "relay", "config") if before else b""
    if not archive:
        # Nothing that could be installed, so a named skip in CI too: a shallow clone is as good a checkout.
        pytest.skip(
            f"the history of this checkout does not reach back before revision {REVISION} of the schema"
        )
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(directory, filter="data")
    line = next(
        line
        for line in (directory / "relay/store/schema.py").read_text().splitlines()
        if "REVISION =" in line
    )
    return line.split('"')[1]


def _git(*arguments: str) -> bytes:
    """What it printed; nothing if there is no git, no repository or no such thing in it."""
    try:
        done = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True)
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""


class EarlierGateway(Gateway):
    """A gateway of the program unpacked in ``source``: its commands run in another process too."""

    def __init__(self, source: Path, directory: Path, recorder: Recorder, host: str, **settings: str) -> None:
        super().__init__(directory, recorder, host, **settings)
        self._source = source
        self._commands: subprocess.Popen[str] | None = None
        known = tomllib.loads((source / "config/relay.toml").read_text())
        names = {f"RELAY_{section}__{key}".upper() for section in known for key in known[section]}
        self.environment = {
            name: value
            for name, value in self.environment.items()
            if name in names or not (name.startswith("RELAY_") and "__" in name)
        }

    def invoke(self, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
        if self._commands is None:
            self._commands = subprocess.Popen(
                [sys.executable, "-c", _COMMANDS],
                cwd=self._source,  # is looked in before what is installed
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._commands.stdin is not None
        assert self._commands.stdout is not None
        self._commands.stdin.write(json.dumps([arguments, stdin]) + "\n")
        self._commands.stdin.flush()
        code, out, err = json.loads(self._commands.stdout.readline())
        return code, out, err

    def close(self) -> None:
        """No more commands."""
        if self._commands is not None:
            self._commands.communicate(timeout=20)

    def start(self, *under: str) -> None:
        super().start("env", "-C", str(self._source), *under)
