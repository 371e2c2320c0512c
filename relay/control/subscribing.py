"""What the operator lets subscriptions do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Subscribing:
    """``file_directory`` is where files are written, None for nowhere; a token serves ``confirm_seconds``."""

    file_directory: Path | None = None
    confirm_seconds: int = 259_200  # SNS: three days


SNS_SUBSCRIBING = Subscribing()
