"""A policy document, compiled: its statements as tests of a request.

What a document says is decided here; whether SES would store it is another question (``storable``).
Everything that is wrong with a document is found at once, each with its place.  Unknown elements and
duplicate keys are errors: ignoring one would drop a restriction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from relay.authorization.document import Document, Fault, Member, Members, Node, Number, PolicyError, read
from relay.authorization.matching import (
    Context,
    Template,
    any_arn_like,
    any_like,
    parse_template,
    variables_of,
)
from relay.authorization.operators import Operator, Test, compile_test, cost, parse_operator
from relay.authorization.request import Caller, Request, role_name, service_name

__all__ = ["Policy", "PolicyError", "Statement", "compile_policy", "compile_user_policy", "unreadable"]

OLD_VERSION, VERSION = "2008-10-17", "2012-10-17"
EVERYONE = "*"
_PRINCIPAL_KINDS = ("AWS", "Service", "Federated", "CanonicalUser")
_TOP_LEVEL = ("Version", "Id", "Statement")
_STATEMENT = (
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
)
# Past this a policy's memory of who it concerns is forgotten; one entry for each caller and identity.
_MOST_CONCERNS = 256


@dataclass(frozen=True, slots=True)
class Principals:
    """``Principal`` or ``NotPrincipal``: the entries as written, by kind, and the names they stand for."""

    entries: tuple[tuple[str, str], ...]
    negated: bool
    is_allow: bool
    names: frozenset[str]

    def match(self, caller: Caller) -> bool:
        if EVERYONE in self.names:
            return not self.negated
        if not self.negated:
            return not self.names.isdisjoint(caller.names)
        if self.is_allow:  # excepted by any name: the reading that sends no mail
            return self.names.isdisjoint(caller.names)
        # A Deny excepts only whom it lists at every level, the user and the account.
        return any(self.names.isdisjoint(level) for level in caller.own_names)


@dataclass(frozen=True, slots=True)
class Part:
    """``Action`` or ``Resource``, or the negated one: the values as written, and the test of them."""

    name: str
    values: tuple[str, ...]
    test: Callable[[str, Context], bool]
    uses_context: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """One key under one operator; ``test`` is all of it."""

    operator: Operator
    key: str
    values: tuple[str, ...]
    test: Test


@dataclass(frozen=True, slots=True)
class Selector:
    """The statement can apply only where ``key`` has one of these values: what it is looked up by."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One statement.  ``number`` counts from 0; ``context_keys``, in lower case, are all that it looks at."""

    number: int
    sid: str | None
    is_allow: bool
    principals: Principals | None
    action: Part
    resource: Part
    conditions: tuple[Condition, ...]
    tests: tuple[Test, ...] = ()
    selector: Selector | None = None
    context_keys: frozenset[str] = frozenset()

    def concerns(self, request: Request) -> bool:
        """Whether principal, action and resource match; conditions are not looked at."""
        return (
            (self.principals is None or self.principals.match(request.caller))
            and self.action.test(request.question[1], request.context)
            and self.resource.test(request.resource, request.context)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A compiled document.  ``fault`` says why it could not be read: then nothing is allowed by anyone."""

    name: str
    version: str
    statements: tuple[Statement, ...]
    fault: str | None = None
    context_keys: frozenset[str] = frozenset()  # of all statements
    _concerns: dict[tuple[frozenset[str], str, str], _Concerning] = field(default_factory=dict)

    def candidates(self, request: Request) -> Sequence[Statement]:
        """The statements that can apply: principal, action and resource match, and the selector if any.

        What concerns a caller and an identity is remembered for the next message.  A resource with
        variables depends on the context, so ``evaluate`` tests that one each time.
        """
        found = self._concerns.get(request.question)
        if found is None:
            found = _concerning([one for one in self.statements if _may_concern(one, request)])
            if len(self._concerns) >= _MOST_CONCERNS:
                self._concerns.clear()
            self._concerns[request.question] = found
        always, selected = found
        if not selected:
            return always
        context = request.context
        return [*always, *(one for key, by in selected for one in by.get(context.get(key), ()))]


# Statements to look at in any case, and for each key those that are looked up by its value.
_Concerning = tuple[tuple[Statement, ...], tuple[tuple[str, dict[Any, list[Statement]]], ...]]


def _concerning(statements: Sequence[Statement]) -> _Concerning:
    always = tuple(one for one in statements if one.selector is None)
    by_key: dict[str, dict[Any, list[Statement]]] = {}
    for one in statements:
        for value in set(one.selector.values) if one.selector else ():
            by_key.setdefault(one.selector.key, {}).setdefault(value, []).append(one)  # type: ignore[union-attr]
    return always, tuple(by_key.items())


def _may_concern(statement: Statement, request: Request) -> bool:
    if not statement.resource.uses_context:
        return statement.concerns(request)
    principals = statement.principals
    return (principals is None or principals.match(request.caller)) and statement.action.test(
        request.question[1], request.context
    )


def unreadable(name: str, error: PolicyError) -> Policy:
    """What stands for a document that cannot be read: it may have held a Deny."""
    return Policy(name, VERSION, (), fault=str(error))


def compile_policy(text: str | bytes, name: str = "") -> Policy:
    """A policy attached to an identity; PolicyError with every fault."""
    return compile_node(*read(text), name)


def compile_node(document: Document, node: Node, name: str = "") -> Policy:
    """The same of a policy that stands inside another document, such as a line of test cases."""
    return _Compiler(document, node, name, has_principal=True).policy()


def compile_user_policy(text: str | bytes, name: str = "") -> Policy:
    """A user's own policy, whose principal is the user; PolicyError with every fault."""
    return _Compiler(*read(text), name, has_principal=False).policy()


# ---------------------------------------------------------------- compiling


_T = TypeVar("_T")


class _Skip(Exception):
    """A fault was noted; what depends on the value is left out."""


class _Compiler:
    """Reads one document and notes everything that is wrong with it."""

    def __init__(self, document: Document, root: Node, name: str, *, has_principal: bool) -> None:
        self._document, self._root = document, root
        self._name = name
        self._has_principal = has_principal
        self._faults: list[Fault] = []
        self._version = OLD_VERSION

    def policy(self) -> Policy:
        elements = self._tried(lambda: self._elements(self._root, _TOP_LEVEL, "a policy"))
        if elements is None:
            raise PolicyError(tuple(self._faults))
        self._version = self._tried(lambda: self._read_version(elements.get("Version"))) or VERSION
        if "Id" in elements:
            self._tried(lambda: self._string(elements["Id"]))
        statements = self._tried(
            lambda: tuple(self._statements(self._required(self._root, elements, "Statement")))
        )
        if self._faults or statements is None:
            raise PolicyError(tuple(sorted(self._faults, key=lambda fault: (fault.line, fault.column))))
        context_keys = frozenset[str]().union(*(one.context_keys for one in statements))
        return Policy(self._name, self._version, statements, context_keys=context_keys)

    # ------------------------------------------------------------ pieces of any document

    def _note(self, node: Node, message: str, offset: int | None = None) -> None:
        at = node.offset if offset is None else offset
        self._faults.append(self._document.fault(node.pointer, at, message))

    def _elements(self, node: Node, known: Sequence[str], what: str) -> dict[str, Node]:
        """The members of an object whose names are fixed."""
        members = self._object(node, what)
        for member in members:
            if member.name not in known:
                self._note(member.node, f"unknown element {member.name!r} in {what}", member.offset)
        return {member.name: member.node for member in members}

    def _object(self, node: Node, what: str) -> Members:
        if not isinstance(node.value, Members):
            self._note(node, f"{what} is an object")
            raise _Skip
        seen: set[str] = set()
        for member in node.value:
            if member.name in seen:
                self._note(member.node, f"{member.name!r} stands twice in one object", member.offset)
            seen.add(member.name)
        return node.value

    def _required(self, node: Node, elements: Mapping[str, Node], *names: str) -> Node:
        """The one of ``names`` that is there; exactly one must be."""
        found = [name for name in names if name in elements]
        if not found:
            self._note(node, f"{' or '.join(names)} is missing")
            raise _Skip
        if len(found) > 1:
            self._note(elements[found[1]], f"{' and '.join(found)} exclude each other")
        return elements[found[0]]

    def _string(self, node: Node) -> str:
        if isinstance(node.value, Number) or not isinstance(node.value, str):
            self._note(node, "a string is expected")
            raise _Skip
        return node.value

    def _strings(self, node: Node) -> tuple[str, ...]:
        nodes = node.value if type(node.value) is list else [node]
        return tuple(self._each(self._string, nodes))

    def _tried(self, read_one: Callable[[], _T]) -> _T | None:
        """What is read, or None if a fault was noted: the rest is read all the same."""
        try:
            return read_one()
        except _Skip:
            return None

    def _each(self, read_one: Callable[[Any], Any], nodes: Sequence[Any]) -> Iterator[Any]:
        """What can be read of several, so that a fault in one hides no other."""
        for node in nodes:
            try:
                yield read_one(node)
            except _Skip:
                continue

    # ------------------------------------------------------------ elements

    def _read_version(self, node: Node | None) -> str:
        if node is None:
            return OLD_VERSION
        if self._string(node) not in (OLD_VERSION, VERSION):
            self._note(node, f'Version is "{VERSION}" or "{OLD_VERSION}"')
        return str(node.value)

    def _statements(self, node: Node) -> Iterator[Statement]:
        nodes = node.value if type(node.value) is list else [node]
        yield from self._each(self._statement, list(enumerate(nodes)))

    def _statement(self, numbered: tuple[int, Node]) -> Statement:
        number, node = numbered
        elements = self._elements(node, _STATEMENT, "a statement")
        is_allow = bool(self._tried(lambda: self._effect(self._required(node, elements, "Effect"))))
        principals = self._tried(lambda: self._read_principals(node, elements, is_allow))
        action = self._tried(
            lambda: self._action(self._required(node, elements, "Action", "NotAction"), elements)
        )
        resource = self._tried(
            lambda: self._resource(
                self._required(node, elements, "Resource", "NotResource"), elements, is_allow
            )
        )
        conditions = self._tried(lambda: tuple(self._conditions(elements.get("Condition"), is_allow))) or ()
        sid = self._tried(lambda: self._string(elements["Sid"])) if "Sid" in elements else None
        if action is None or resource is None:
            raise _Skip
        ranked = sorted(conditions, key=lambda one: cost(one.operator, one.values))
        tests = tuple(condition.test for condition in ranked)
        selector = next(filter(None, map(self._selector, conditions)), None)
        context_keys = _context_keys(resource, conditions)
        return Statement(
            number, sid, is_allow, principals, action, resource, conditions, tests, selector, context_keys
        )

    def _selector(self, condition: Condition) -> Selector | None:
        """A plain comparison of one value with fixed texts; what has values or is absent never holds."""
        operator, values = condition.operator, condition.values
        if operator.base not in ("StringEquals", "StringLike") or operator != parse_operator(operator.base):
            return None
        special = "*?$" if operator.base == "StringLike" else "$"
        if any(mark in value for value in values for mark in special):
            return None
        return Selector(condition.key.lower(), values)

    def _effect(self, node: Node) -> bool:
        effect = self._string(node)
        if effect not in ("Allow", "Deny"):
            self._note(node, 'Effect is "Allow" or "Deny"')
        return effect == "Allow"

    def _read_principals(self, node: Node, elements: dict[str, Node], is_allow: bool) -> Principals | None:
        if not self._has_principal:
            for name in ("Principal", "NotPrincipal"):
                if name in elements:
                    self._note(elements[name], "a user's policy has no principal: it is the user's own")
            return None
        element = self._required(node, elements, "Principal", "NotPrincipal")
        entries = tuple(self._principal_entries(element))
        names = frozenset(_principal_name(kind, value) for kind, value in entries)
        return Principals(entries, "NotPrincipal" in elements, is_allow, names)

    def _principal_entries(self, node: Node) -> Iterator[tuple[str, str]]:
        if node.value == EVERYONE:
            yield "AWS", EVERYONE
            return
        members = self._object(node, 'a principal other than "*"')
        for member in members:
            if member.name not in _PRINCIPAL_KINDS:
                kinds = ", ".join(_PRINCIPAL_KINDS)
                self._note(member.node, f"unknown kind of principal {member.name!r}: {kinds}", member.offset)
            for value in self._strings(member.node):
                yield member.name, value

    def _action(self, node: Node, elements: dict[str, Node]) -> Part:
        negated = "NotAction" in elements
        values = self._strings(node)
        templates = [parse_template(value.lower(), variables=False, wildcards=True) for value in values]
        match = any_like(templates)
        name = "NotAction" if negated else "Action"
        return Part(name, values, lambda action, context: (match(action, context) is True) is not negated)

    def _resource(self, node: Node, elements: dict[str, Node], is_allow: bool) -> Part:
        negated = "NotResource" in elements
        values = self._strings(node)
        has_variables = self._version == VERSION
        templates = [parse_template(value, variables=has_variables, wildcards=True) for value in values]
        uses_context = has_variables and any("${" in value for value in values)
        name = "NotResource" if negated else "Resource"
        return Part(name, values, _resource_test(values, templates, negated, is_allow), uses_context)

    # ------------------------------------------------------------ conditions

    def _conditions(self, node: Node | None, is_allow: bool) -> Iterator[Condition]:
        if node is None:
            return
        for member in self._object(node, "Condition"):
            operator = parse_operator(member.name)
            if operator is None:
                self._note(member.node, f"unknown condition operator {member.name!r}", member.offset)
                continue
            for keys in self._each(self._keys, [member]):
                for key in keys:
                    yield self._condition(operator, key, is_allow)

    def _keys(self, member: Member) -> Members:
        return self._object(member.node, f"the value of {member.name}")

    def _condition(self, operator: Operator, key: Member, is_allow: bool) -> Condition:
        nodes = key.node.value if type(key.node.value) is list else [key.node]
        values = tuple(self._each(self._condition_value, nodes))
        test = compile_test(
            operator, key.name.lower(), values, is_allow=is_allow, variables=self._version == VERSION
        )
        return Condition(operator, key.name, values, test)

    def _condition_value(self, node: Node) -> str:
        if isinstance(node.value, bool):
            return "true" if node.value else "false"
        if not isinstance(node.value, str):
            self._note(node, "a string, number or boolean is expected")
            raise _Skip
        return str(node.value)


def _context_keys(resource: Part, conditions: Sequence[Condition]) -> frozenset[str]:
    """Keys of conditions and of variables; in a document of the old version these are only text."""
    texts = chain(resource.values, *(one.values for one in conditions))
    variables = (variables_of(text) for text in texts if "${" in text)
    return frozenset(one.key.lower() for one in conditions).union(*variables)


def _principal_name(kind: str, value: str) -> str:
    """The name under which an entry and its callers meet; one that nobody has for what matches nobody."""
    if kind == "Service":
        return service_name(value)
    if kind != "AWS":
        return f"{kind}:{value}"
    if ":assumed-role/" in value:
        return value  # that session only, not its role's others
    if not value.startswith("arn:") and value != EVERYONE and not value.isdigit():
        return f"AWS:{value}"  # nobody, even if it is spelt like one of our own names
    return role_name(value) or value


def _resource_test(
    values: Sequence[str], templates: Sequence[Template], negated: bool, is_allow: bool
) -> Callable[[str, Context], bool]:
    if EVERYONE in values:
        return lambda resource, context: not negated
    match = any_arn_like(templates)

    def test(resource: str, context: Context) -> bool:
        found = match(resource, context)
        if not negated:
            return found is True
        # NotResource without a meaning: a Deny applies, an Allow does not.
        return not is_allow if found is None else not found

    return test
