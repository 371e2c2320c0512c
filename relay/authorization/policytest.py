"""Policies under test: one line, one request, one verdict.

Owners keep their documents and what they expect of them beside their code.  A line is a JSON object with
``policies`` (all the documents attached to the resource, whose account is the owner), ``request`` and
perhaps ``expected``; the sender's own side is taken as given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.authorization.document import Document, Members, Node, PolicyError, plain, read
from relay.authorization.evaluate import Effect, evaluate
from relay.authorization.policy import Policy, compile_node, compile_policy, unreadable
from relay.authorization.request import Request, caller


class CaseError(ValueError):
    """The line is no test case; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test case; ``faults`` are those of documents that cannot be read, which allow nothing."""

    id: Any
    policies: tuple[Policy, ...]
    request: Request
    expected: Effect | None
    faults: tuple[str, ...]

    def decision(self) -> Effect:
        return evaluate(self.policies, self.request).effect


def parse_case(line: str | bytes) -> Case:
    """The test case on a line; CaseError if it is none."""
    try:
        document, root = read(line)
    except PolicyError as error:
        raise CaseError(error.faults[0].message) from error
    members = _members(root, "a test case")
    policies = tuple(
        _policy(document, number, node) for number, node in enumerate(_list(members, "policies"))
    )
    faults = tuple(f"policy {policy.name}: {policy.fault}" for policy in policies if policy.fault)
    request = _request(_members(members.get("request"), "'request'"))
    return Case(_id(members.get("id")), policies, request, _expected(members.get("expected")), faults)


def _id(node: Node | None) -> Any:
    try:
        return None if node is None else plain(node)
    except ValueError as error:  # a number with more digits than Python reads
        raise CaseError("'id' is not a number that can be read") from error


def _members(node: Node | None, what: str) -> dict[str, Node]:
    if node is None or not isinstance(node.value, Members):
        raise CaseError(f"{what} must be an object")
    members = {member.name: member.node for member in node.value}
    if len(members) < len(node.value):
        raise CaseError(f"{what} has a name twice")
    return members


def _list(members: Mapping[str, Node], name: str) -> list[Node]:
    node = members.get(name)
    if node is None or type(node.value) is not list:
        raise CaseError(f"{name!r} must be a list")
    return node.value


def _policy(document: Document, number: int, node: Node) -> Policy:
    """A document may be given as an object, or as its text."""
    name = str(number)
    try:
        if type(node.value) is str:
            return compile_policy(node.value, name)
        return compile_node(document, node, name)
    except PolicyError as error:
        return unreadable(name, error)


def _request(members: Mapping[str, Node]) -> Request:
    context = _members(members["context"], "'context'") if "context" in members else {}
    account_id = _string(members, "principal_account") if "principal_account" in members else ""
    return Request(
        caller(_string(members, "principal_arn"), account_id),
        _string(members, "action"),
        _string(members, "resource"),
        {key.lower(): _context_value(key, node) for key, node in context.items()},
    )


def _string(members: Mapping[str, Node], name: str) -> str:
    node = members.get(name)
    if node is None or type(node.value) is not str:
        raise CaseError(f"{name!r} must be a string")
    return node.value


def _context_value(key: str, node: Node) -> str | tuple[str, ...]:
    if type(node.value) is str:
        return node.value
    if type(node.value) is list and all(type(one.value) is str for one in node.value):
        return tuple(one.value for one in node.value)
    raise CaseError(f"'context' key {key!r} must be a string or a list of strings")


def _expected(node: Node | None) -> Effect | None:
    if node is None or node.value is None:
        return None
    if node.value not in tuple(Effect):
        raise CaseError(f"'expected' is one of {', '.join(Effect)}")
    return Effect(node.value)
