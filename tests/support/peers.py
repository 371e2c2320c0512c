"""Software we must agree with: found, or its absence named."""

from __future__ import annotations

import os
import shutil

import pytest

_MORE_PLACES = ("/usr/sbin", "/sbin", "/usr/lib/postfix/sbin", "/usr/local/sbin")
# The Debian package, where it is not named as the program.
_PACKAGES = {"smtp-sink": "postfix", "named": "bind9", "systemd-analyze": "systemd"}
_PACKAGES |= dict.fromkeys(("setpriv", "unshare", "nsenter", "prlimit"), "util-linux")


def require(program: str) -> str:
    """The program's path; a missing one fails in CI and is a named skip elsewhere."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_MORE_PLACES])
    found = shutil.which(program, path=path)
    if found is None:
        absent(f"{program} is not installed (Debian: apt install {_PACKAGES.get(program, program)})")
    return str(found)


def absent(what: str) -> None:
    """A peer cannot be used here."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
