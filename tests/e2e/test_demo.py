"""``relay demo`` on a machine where nothing is set up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float, Path]:
    """What it printed, how long it took, and its temporary directory."""
    directory = tmp_path_factory.mktemp("demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "relay", "demo"],
        cwd=directory,
        env={**environment, "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, time.monotonic() - began, directory


@pytest.mark.parametrize(
    "shown",
    [
        "  S: 235 Authentication successful",
        "  S: 250 Ok 0100",
        "  | DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=owner.example;",
        "DKIM check by dkimpy, d=owner.example: pass",
        "  | 554-Access denied: User `arn:aws:iam::222222222222:user/app' is not authorized to perform",
        "  | 554 No statement allows ses:FromAddress ceo@owner.example; reference ",
        "The bounce, from <> to bounces@owner.example:",
        "  | Diagnostic-Code: smtp; 550 5.1.1 <nobody@customer.example>: no such user here",
        '  |     "bounceType": "Permanent",',
        '  |         "diagnosticCode": "smtp; 550 5.1.1 <gone@customer.example>: no such user here"',
        "  swaks --server 127.0.0.1:",
    ],
)
def test_demo_shows(demo, shown):
    assert shown in demo[0]


def test_demo_takes_less_than_twenty_seconds(demo):
    assert demo[1] < 20


def test_demo_leaves_nothing_behind(demo):
    assert list(demo[2].iterdir()) == []
