"""Whether an input keeps to its shape: required members, lengths, ranges and enumerations of the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from relay.api.values import APIError

_MOST_NAMED = 10


def validate(given: dict[str, Any], shape: StructureShape | None) -> None:
    """APIError that names every member that does not fit, in AWS's words."""
    faults = list(_structure(given, shape, "")) if shape is not None else []
    if not faults:
        return
    count = f"{len(faults)} validation error{'s' * (len(faults) > 1)} detected"
    raise APIError("ValidationError", f"{count}: {'; '.join(faults[:_MOST_NAMED])}")


def _structure(given: dict[str, Any], shape: StructureShape, path: str) -> Iterator[str]:
    for name in shape.required_members:
        if name not in given:
            yield _fault("null", f"{path}{_lower(name)}", "Member must not be null")
    for name, value in given.items():
        yield from _value(value, shape.members[name], f"{path}{_lower(name)}")


def _value(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        yield from _structure(value, shape, f"{path}.")
    elif isinstance(shape, ListShape):
        yield from _size(value, shape, path, "length")
        for number, one in enumerate(value, 1):
            yield from _value(one, shape.member, f"{path}.{number}.member")
    elif isinstance(shape, MapShape):
        for key, one in value.items():
            yield from _value(one, shape.value, f"{path}.{key}")
    elif isinstance(value, str):
        yield from _text(value, shape, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _range(value, shape, path)


def _text(value: str, shape: Shape, path: str) -> Iterator[str]:
    if shape.metadata.get("enum") and value not in shape.metadata["enum"]:
        allowed = ", ".join(shape.metadata["enum"])
        yield _fault(value, path, f"Member must satisfy enum value set: [{allowed}]")
    yield from _size(value, shape, path, "length")


def _size(value: Any, shape: Shape, path: str, what: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and len(value) < least:
        yield _fault(value, path, f"Member must have {what} greater than or equal to {least}")
    if most is not None and len(value) > most:
        yield _fault(value, path, f"Member must have {what} less than or equal to {most}")


def _range(value: float, shape: Shape, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        yield _fault(value, path, f"Member must have value greater than or equal to {least}")
    if most is not None and value > most:
        yield _fault(value, path, f"Member must have value less than or equal to {most}")


def _fault(value: Any, path: str, constraint: str) -> str:
    return f"Value '{str(value)[:80]}' at '{path}' failed to satisfy constraint: {constraint}"


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]
