"""The clients' own book: a line before a message is sent, a line after its answer.

What the gateway says it accepted is judged against this file and nothing that the gateway wrote.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from tests.torture.values import Sent, Told


class Ledger:
    """Written by many threads, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self.accepted = 0

    def sending(self, sent: Sent) -> None:
        self._write(id=sent.id, reverse_path=sent.reverse_path, recipients=sent.recipients, body=sent.body)

    def told(self, told: Told, text: str) -> None:
        self.accepted += told.code == 250
        self._write(id=told.id, code=told.code, relay_id=told.relay_id, text=text)

    def _write(self, **entry: Any) -> None:
        with self._lock:
            self._file.write(json.dumps({"at": round(time.time(), 3), **entry}) + "\n")

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> tuple[dict[str, Sent], list[Told]]:
    """What was sent, by id, and every answer."""
    sent: dict[str, Sent] = {}
    told: list[Told] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if "recipients" in entry:
                sent[entry["id"]] = Sent(
                    entry["id"], entry["reverse_path"], tuple(entry["recipients"]), entry["body"]
                )
            else:
                told.append(Told(entry["id"], entry["code"], entry["relay_id"]))
    return sent, told
