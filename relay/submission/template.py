"""Templates of the API: a Handlebars text and the JSON that fills its gaps.  Pure.

As in SES nothing is escaped, a gap without a value is an error and ``{{#if}}`` of what is missing is not
(SES Developer Guide, "Advanced email personalization").  What strangers' templates may cost is bounded:
each step of a loop and each value costs a part of one budget, and inline partials are defined before they
are used and use none themselves, so that none can multiply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson
from dotpromptz_handlebars import Handlebars, StrictModeError, TemplateRecursionError

# In characters of output, as far as they can be told beforehand; a message has 40 MB at the most.
_BUDGET = 64 * 1024 * 1024
_STEP = 64
_DEEPEST = 50
_MOST_PARTIALS = 20

_find_uses = re.compile(r"\{\{[{~\s]*(?:#\s*)?>").finditer
_find_ends = re.compile(r"\{\{[{~\s]*/\s*inline").finditer
# SES's own examples have the blank, which Handlebars takes and the library does not.
_close_up = re.compile(r"(\{\{~?#\*)\s+(?=inline)").sub

Render = Callable[[Mapping[str, Any]], str]


class TemplateError(Exception):
    """The template, or the data, or the two together; the text says what is wrong."""


class MissingAttribute(TemplateError):
    """The data has no value for a gap."""


# What the engine raises for a template that is none; LookupError for "{{#*inline}}", which lacks its name.
_FAULTS = (ValueError, TypeError, LookupError, TemplateRecursionError, RecursionError)


@lru_cache(64)
def compiled(source: str) -> Render:
    """What renders the template with data; TemplateError if it is none."""
    uses = _check_partials(source)
    engine = Handlebars(escape_html=False, strict=True, max_depth=_DEEPEST)
    engine.unregister_helper("log")
    try:
        render = engine.compile(_close_up(r"\1", source))
    except _FAULTS as error:
        raise TemplateError(str(error) or "nested too deeply") from error

    def rendered(data: Mapping[str, Any]) -> str:
        budget = _Budget(_STEP + len(source) * (1 + uses))
        try:
            return str(render(_counted(data, budget, 0)))
        except StrictModeError as error:
            raise MissingAttribute(
                f"Attribute '{error.path}' is not present in the rendering data."
            ) from error
        except _FAULTS as error:
            raise TemplateError(str(error) or "nested too deeply") from error

    return rendered


def parse_data(text: str) -> dict[str, Any]:
    """Template data as the API has it: a JSON object."""
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise TemplateError("The template data is not JSON.") from None
    if not isinstance(data, dict):
        raise TemplateError("The template data is not a JSON object.")
    return data


def _check_partials(source: str) -> int:
    """The number of partials that are used."""
    uses = [found.start() for found in _find_uses(source)]
    ends = [found.start() for found in _find_ends(source)]
    if len(uses) + len(ends) > _MOST_PARTIALS:
        raise TemplateError(f"more than {_MOST_PARTIALS} inline partials are defined and used")
    if uses and ends and min(uses) < max(ends):
        raise TemplateError("inline partials are defined before any is used, and use none themselves")
    return len(uses)


# ---------------------------------------------------------------- data that counts what is taken of it


class _Budget:
    """What may still be rendered; ``step`` is what once around a loop costs."""

    def __init__(self, step: int) -> None:
        self._left = _BUDGET
        self._step = step

    def value(self, value: Any) -> Any:
        self._charge(len(value) if isinstance(value, str) else _STEP)
        return value

    def step(self) -> None:
        self._charge(self._step)

    def _charge(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise TemplateError("with these data the template becomes too long")


class _List(list[Any]):
    """A list that is not gone through for nothing."""

    budget: _Budget

    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            self.budget.step()
            yield self.budget.value(one)

    def __getitem__(self, index: Any) -> Any:
        return self.budget.value(super().__getitem__(index))


class _Object(dict[str, Any]):
    """The same of an object."""

    budget: _Budget

    def items(self) -> Any:
        for _ in self:
            self.budget.step()
        return super().items()

    def __getitem__(self, name: str) -> Any:
        return self.budget.value(super().__getitem__(name))


def _counted(value: Any, budget: _Budget, depth: int) -> Any:
    if depth > _DEEPEST:
        raise TemplateError("the template data are nested too deeply")
    if isinstance(value, Mapping):
        counted = _Object({name: _counted(one, budget, depth + 1) for name, one in value.items()})
        counted.budget = budget
        return counted
    if isinstance(value, list):
        items = _List(_counted(one, budget, depth + 1) for one in value)
        items.budget = budget
        return items
    return value
