"""Values of botocore's shapes, by chance that can be had again."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from random import Random
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

_LETTERS = string.ascii_letters + string.digits + "-_.@"


def sample(shape: Shape, random: Random, depth: int = 0) -> Any:
    """A value of a shape; lists and maps have members, since an empty one is nothing on some wires."""
    if isinstance(shape, StructureShape):
        return _structure(shape, random, depth)
    if isinstance(shape, ListShape):
        return [sample(shape.member, random, depth + 1) for _ in range(random.randint(1, 2))]
    if isinstance(shape, MapShape):
        return {word(random): sample(shape.value, random, depth + 1) for _ in range(random.randint(1, 2))}
    if shape.type_name == "string":
        return random.choice(shape.enum) if shape.enum else word(random, shape.metadata.get("min", 1))
    return {
        "boolean": lambda: random.random() < 0.5,
        "integer": lambda: max(shape.metadata.get("min", -(2**31)), random.randint(-(2**31), 2**31 - 1)),
        "long": lambda: random.randint(-(2**63), 2**63 - 1),
        "double": lambda: random.uniform(-1e9, 1e9),
        "float": lambda: random.uniform(-1e9, 1e9),
        "timestamp": lambda: datetime.fromtimestamp(random.randint(1, 2_000_000_000), UTC),
        "blob": lambda: random.randbytes(12),
    }[shape.type_name]()


def _structure(shape: StructureShape, random: Random, depth: int) -> dict[str, Any]:
    if depth > 4:
        return {}
    if shape.is_tagged_union:
        name = random.choice(list(shape.members))
        return {name: sample(shape.members[name], random, depth + 1)}
    required = set(shape.required_members)
    return {
        name: sample(member, random, depth + 1)
        for name, member in shape.members.items()
        if name in required or random.random() < 0.8
    }


def word(random: Random, least: int = 1) -> str:
    return "".join(random.choices(_LETTERS, k=max(least, random.randint(1, 12))))
