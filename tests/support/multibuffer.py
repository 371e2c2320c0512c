"""The library that signs eight at a time, where this machine has what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.signer import multibuffer
from relay.signer.multibuffer import MultiBuffer


def library() -> MultiBuffer:
    """A processor that it is not for, and its absence, are named skips: mail is signed without it too."""
    if "avx512ifma" not in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"):
        pytest.skip("this processor has no AVX-512 IFMA")
    found = multibuffer.load()
    if found is None:
        pytest.skip("libcrypto_mb is not installed (docs/scale.md)")
    return found
