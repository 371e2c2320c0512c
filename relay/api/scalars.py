"""Single values between the wire and Python, by their shape; instants are aware datetimes, blobs bytes."""

from __future__ import annotations

import base64
import binascii
import math
from datetime import UTC, datetime
from typing import Any

from botocore.model import Shape

from relay.api.large import Decoded
from relay.api.values import APIError

_INTEGERS = {"integer", "long"}
_FLOATS = {"float", "double"}


def from_text(text: str, shape: Shape, name: str) -> Any:
    """The value that a form parameter or a part of a URI stands for."""
    kind = shape.type_name
    if isinstance(text, Decoded):
        if kind != "blob":
            raise _unfit(name, "", f"a {kind}")
        return text.octets
    if kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise _unfit(name, text, "a boolean")
        return text.lower() == "true"
    try:
        if kind in _INTEGERS:
            return int(text) if text.isascii() else _raise()
        if kind in _FLOATS:
            return _finite(float(text))
        if kind == "blob":
            return base64.b64decode(text, validate=True)
        if kind == "timestamp":
            return _instant(text)
    except (ValueError, OverflowError, binascii.Error):
        raise _unfit(name, text, f"a {kind}") from None
    return _text(text, name)


def from_json(value: Any, shape: Shape, name: str) -> Any:
    """The value that a JSON value stands for; what has another type is refused, not converted."""
    kind = shape.type_name
    fits = (
        isinstance(value, bool)
        if kind == "boolean"
        else isinstance(value, int | float) and not isinstance(value, bool)
        if kind in _INTEGERS | _FLOATS
        else isinstance(value, str | int | float) and not isinstance(value, bool)
        if kind == "timestamp"
        else isinstance(value, str)
    )
    if not fits or (kind in _INTEGERS and value != int(value)):
        raise _unfit(name, str(value), f"a {kind}")
    if kind in _INTEGERS:
        return int(value)
    if isinstance(value, Decoded):
        return from_text(value, shape, name)
    if kind in ("blob", "timestamp"):
        return from_text(str(value), shape, name)
    return _text(value, name) if isinstance(value, str) else value


def _text(value: str, name: str) -> str:
    """No mail and no database holds a NUL."""
    if "\0" in value:
        raise _unfit(name, value, "text without NUL")
    return value


def _raise() -> Any:
    raise ValueError


def _finite(value: float) -> float:
    return value if math.isfinite(value) else _raise()


def _instant(text: str) -> datetime:
    """Seconds since 1970 or ISO 8601; without a zone it is UTC."""
    try:
        return datetime.fromtimestamp(_finite(float(text)), UTC)
    except ValueError:
        found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _unfit(name: str, text: str, wanted: str) -> APIError:
    return APIError("MalformedInput", f"{name}: {text[:80]!r} is not {wanted}")


def to_text(value: Any, shape: Shape) -> str:
    """As XML has it."""
    if shape.type_name == "boolean":
        return "true" if value else "false"
    if shape.type_name == "timestamp":
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"
    return base64.b64encode(value).decode() if shape.type_name == "blob" else str(value)


def to_json(value: Any, shape: Shape) -> Any:
    """As rest-json has it: instants in seconds since 1970."""
    if shape.type_name == "timestamp":
        return round(value.timestamp(), 3)
    return base64.b64encode(value).decode() if shape.type_name == "blob" else value
