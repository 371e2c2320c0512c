"""From what is wanted and what there is to what is to be done.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relay.control.wanted import Key, Table

# What is made first; what is taken away goes the other way round.
KINDS = (
    "account",
    "user",
    "user policy",
    "topic",
    "consent",
    "subscription",
    "configuration set",
    "destination",
    "identity",
    "identity policy",
)
# What is fixed when a thing is made, and not looked at afterwards.
_ONCE = {"identity": ("verified",), "subscription": ("raw",), "user": ("path", "tags")}


class Action(StrEnum):
    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.  ``values`` are those it is to get; ``before`` what it has in their place."""

    action: Action
    key: Key
    values: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        mark = {"create": "+", "change": "~", "delete": "-"}[self.action]
        return f"{mark} {self.key}{''.join(f'{chr(10)}    {line}' for line in self._differences())}"

    def _differences(self) -> list[str]:
        if self.action is not Action.CHANGE:
            return []
        return [f"{name}: {self.before.get(name)} -> {value}" for name, value in self.values.items()]


def plan(wanted: Table, existing: Table, prune: bool = False) -> list[Step]:
    """The steps in the order in which they can be done; without ``prune`` nothing is taken away."""
    made = [_step(key, values, existing) for key, values in wanted.items()]
    steps = sorted((one for one in made if one is not None), key=lambda one: KINDS.index(one.key.kind))
    if not prune:
        return steps
    gone = [Step(Action.DELETE, key, before=existing[key]) for key in existing.keys() - wanted.keys()]
    gone = [one for one in gone if one.key.kind != "account"]
    gone.sort(key=lambda one: (-KINDS.index(one.key.kind), one.key))
    # What goes with something that goes is not taken away by itself.
    whole = {(one.key.kind, one.key.account_id, one.key.name) for one in gone if not one.key.part}
    return [*_without_parts(gone, whole), *steps]


_WHOLES = {
    "user policy": "user",
    "consent": "topic",
    "subscription": "topic",
    "destination": "configuration set",
    "identity policy": "identity",
}


def _without_parts(gone: list[Step], whole: set[tuple[str, str, str]]) -> list[Step]:
    return [
        one for one in gone if (_WHOLES.get(one.key.kind, ""), one.key.account_id, one.key.name) not in whole
    ]


def _step(key: Key, values: Mapping[str, Any], existing: Table) -> Step | None:
    if key not in existing:
        return Step(Action.CREATE, key, values)
    held = existing[key]
    once = _ONCE.get(key.kind, ())
    differing = {
        name: value for name, value in values.items() if name not in once and held.get(name) != value
    }
    if not differing:
        return None
    return Step(Action.CHANGE, key, differing, {name: held.get(name) for name in differing})
