"""The lines operators grep: one an event, as text or JSON, with one id through all of a message's lines.

    2026-11-23T10:00:00.123Z info accepted id=0100018f… account=222222222222 from=a@owner.example
    2026-11-23T10:00:00.145Z info delivered id=0100018f… to=b@customer.example reply="250 2.0.0 Ok"

Everything a client or a peer said is escaped and cut, so that no input can forge a line.  Bodies and
secrets are never handed in here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import MutableMapping
from typing import Any, BinaryIO, Literal, Protocol

import orjson
import structlog

_LONGEST_VALUE = 400
_is_plain = re.compile(r"[A-Za-z0-9@.\-_+:/,;<>\[\]{}()!#$%&*?^|~]+").fullmatch
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log(Protocol):
    """How every part logs: ``log("delivered", id=…, to=…)``; ``level`` defaults to info."""

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None: ...


def open_log(form: Literal["text", "json"], level: str, stream: BinaryIO | None = None, **bound: Any) -> Log:
    """A log on ``stream`` (standard error if None); ``bound`` fields stand in every line."""
    out = structlog.BytesLogger(stream or sys.stderr.buffer)
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    render, least = _RENDERERS[form], _LEVELS[level]

    # Without structlog's bound loggers, which take a quarter of a line's time, twice a message.
    def log(event: str, *, level: str = "info", **fields: Any) -> None:
        if _LEVELS[level] >= least:
            line = {**bound, **fields, "level": level, "event": event}
            out.msg(render(_cut(stamp(None, level, line))))

    return log


def _cut(fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in fields.items():
        if isinstance(value, str) and len(value) > _LONGEST_VALUE and name != "traceback":
            fields[name] = value[:_LONGEST_VALUE] + "…"
    return fields


def _as_json(fields: MutableMapping[str, Any]) -> bytes:
    order = {"timestamp": fields.pop("timestamp"), "level": fields.pop("level"), "event": fields.pop("event")}
    return orjson.dumps({**order, **fields}, default=str)


def _as_text(fields: MutableMapping[str, Any]) -> bytes:
    head = f"{fields.pop('timestamp')} {fields.pop('level')} {fields.pop('event')}"
    pairs = [f"{name}={_quoted(value)}" for name, value in fields.items() if value is not None]
    return " ".join([head, *pairs]).encode("utf-8", "backslashreplace")


def _quoted(value: Any) -> str:
    """The value as it is if it is plain, else as a JSON string: no space, quote or line end escapes it."""
    text = value if isinstance(value, str) else str(value)
    if _is_plain(text):
        return text
    return orjson.dumps(text.encode("utf-8", "replace").decode()).decode()


_RENDERERS = {"json": _as_json, "text": _as_text}
