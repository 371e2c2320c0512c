"""The machine that figures are of, and the two costs that bound them: an RSA signature and a sync to disk."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from relay.signer import multibuffer

_SYNCS = 100


def processor() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    model = found[1] if found else "unknown processor"
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def rsa_ms() -> float:
    """One RSA-2048 signature, by ``openssl speed rsa2048``."""
    command = ["openssl", "speed", "-seconds", "1", "rsa2048"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise SystemExit("openssl not found: apt-get install openssl") from None
    found = re.search(r"rsa 2048 bits +([0-9.]+)s", told)
    if found is None:
        raise SystemExit(f"openssl speed tells no time of a signature:\n{told}")
    return float(found[1]) * 1000


def together() -> str:
    """Whether the relay has the library that signs eight at a time."""
    return "with libcrypto_mb" if multibuffer.load() else "without libcrypto_mb"


def sync_ms() -> float:
    """4 KB appended and synced, where temporary directories are."""
    with tempfile.TemporaryFile(buffering=0) as file:
        started = time.perf_counter()
        for _ in range(_SYNCS):
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
        return (time.perf_counter() - started) / _SYNCS * 1000
