"""Sisimai, which reads bounces for people who send much, reads ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from relay.outcome import bounce_mail
from tests.support.peers import absent, require
from tests.unit.outcome.test_bounce_mail import REPORT


def test_sisimai_reads_who_failed_and_why(tmp_path: Path) -> None:
    path = tmp_path / "bounce.eml"
    path.write_bytes(bounce_mail.compose(REPORT).replace(b"\r\n", b"\n"))
    command = [require("perl"), "-MSisimai", "-e", "print Sisimai->dump($ARGV[0]);", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Can't locate Sisimai" in done.stderr:
        absent("Sisimai is not installed (Debian: apt install libsisimai-perl)")
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    assert found["recipient"] == "nobody@customer.example"
    assert (found["deliverystatus"], found["replycode"]) == ("5.1.1", "550")
    assert found["reason"] == "userunknown"
