"""May this document be attached to that identity?  A separate question from what it means.

The rules are SES's (Developer Guide, policy anatomy; PutIdentityPolicy) and, where nobody outside AWS
knows what a construct does, a refusal with its place: an owner should not have to find out on mail.
``advice`` adds what is allowed but probably not meant.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from relay.authorization import advice
from relay.authorization.document import Document, Fault, Member, Node, PolicyError, read
from relay.authorization.matching import any_like, arn_segments, parse_template
from relay.authorization.operators import (
    Operator,
    parse_operator,
    read_instant,
    read_network,
    read_number,
)
from relay.authorization.policy import EVERYONE, VERSION, compile_policy
from relay.authorization.request import role_name

_MOST_BYTES = 4096
# The sending family, and the management actions that the newer pages allow in such a policy.
ACTIONS = tuple(
    f"ses:{name}"
    for name in (
        "SendEmail",
        "SendRawEmail",
        "SendTemplatedEmail",
        "SendBulkTemplatedEmail",
        "SendBulkEmail",
        "SendBounce",
        "SendCustomVerificationEmail",
        "GetEmailIdentity",
        "DeleteEmailIdentity",
        "PutEmailIdentityDkimSigningAttributes",
        "CreateEmailIdentityPolicy",
        "UpdateEmailIdentityPolicy",
        "DeleteEmailIdentityPolicy",
        "GetEmailIdentityPolicies",
        "ListRecommendations",
        "BatchGetMetricData",
    )
)
MULTI_VALUED = frozenset({"ses:recipients", "aws:calledvia"})

_is_account = re.compile(r"[0-9]{12}").fullmatch
_is_principal_arn = re.compile(
    r"arn:aws:(?:iam::[0-9]{12}:(?:root|(?:user|role)/[!-~]+)"
    r"|sts::[0-9]{12}:(?:assumed-role/[!-~]+/[!-~]+|federated-user/[!-~]+))"
).fullmatch
_is_service = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.amazonaws\.com").fullmatch
# What stands for a user that was deleted; it matches nobody and may be stored again as it is.
_is_unique_id = re.compile(r"A(?:IDA|ROA)[A-Z0-9]{12,28}").fullmatch
_account_of = re.compile(r"arn:aws:(?:iam|sts)::([0-9]{12}):.*").fullmatch


@dataclass(frozen=True, slots=True)
class Findings:
    """``errors`` keep the document out; ``warnings`` do not.  Both in the order of the text."""

    errors: tuple[Fault, ...]
    warnings: tuple[Fault, ...] = ()


def check_storable(text: str | bytes, identity_arn: str) -> Findings:
    """Everything against attaching the document to the identity, and what its owner should look at."""
    try:
        policy = compile_policy(text)
    except PolicyError as error:
        return Findings(error.faults)
    document, root = read(text)
    check = _Check(document, identity_arn, has_variables=policy.version == VERSION)
    errors = _in_order(check.document_faults(root))
    warnings = _in_order(advice.warnings(document, root, policy, identity_arn)) if not errors else ()
    return Findings(errors, warnings)


def _in_order(faults: Iterator[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: (fault.line, fault.column)))


def listed(node: Node) -> list[Node]:
    """A list's values, or the one bare value."""
    return node.value if type(node.value) is list else [node]


class _Check:
    """The rules, each a generator of faults over one part of the document."""

    def __init__(self, document: Document, identity_arn: str, *, has_variables: bool) -> None:
        self._document = document
        self._identity_arn = identity_arn
        self._has_variables = has_variables

    def _fault(self, node: Node, message: str) -> Fault:
        return self._document.fault(node.pointer, node.offset, message)

    def document_faults(self, root: Node) -> Iterator[Fault]:
        size = len(self._document.text.encode())
        if size > _MOST_BYTES:
            yield self._fault(root, f"the document has {size} octets; a policy has at most {_MOST_BYTES}")
        statements = next(listed(member.node) for member in root.members if member.name == "Statement")
        if not statements:
            yield self._fault(root, "a policy has at least one statement")
        for statement in statements:
            for member in statement.members:
                yield from self._element(statement, member)

    def _element(self, statement: Node, member: Member) -> Iterator[Fault]:
        rules: dict[str, Callable[[Node], Iterator[Fault]]] = {
            "Principal": self._principal,
            "NotPrincipal": lambda node: self._not_principal(statement, node),
            "Action": self._action,
            "NotAction": lambda node: self._never(node, "NotAction", "name the ses: actions in Action"),
            "Resource": self._resource,
            "NotResource": lambda node: self._never(
                node, "NotResource", f'Resource is "{self._identity_arn}", the identity itself'
            ),
            "Condition": self._condition,
        }
        if member.name in rules:
            yield from rules[member.name](member.node)

    def _never(self, node: Node, name: str, instead: str) -> Iterator[Fault]:
        yield self._fault(node, f"{name} cannot be stored; {instead}")

    # ------------------------------------------------------------ principal, action, resource

    def _principal(self, node: Node) -> Iterator[Fault]:
        if node.value == EVERYONE:
            return
        if not any(listed(member.node) for member in node.members):
            yield self._fault(node, "a statement names at least one principal")
        for member in node.members:
            for value in listed(member.node):
                fault = _principal_fault(member.name, value.value)
                if fault:
                    yield self._fault(value, fault)

    def _not_principal(self, statement: Node, node: Node) -> Iterator[Fault]:
        yield from self._principal(node)
        if any(member.name == "Effect" and member.node.value == "Allow" for member in statement.members):
            return
        values = {value.value for member in node.members for value in listed(member.node)}
        accounts = {value for value in values if _is_account(value)}
        accounts |= {
            found[1] for value in values if value.endswith(":root") and (found := _account_of(value))
        }
        users = {
            found[1] for value in values if not value.endswith(":root") and (found := _account_of(value))
        }
        roles = {role_name(value) for value in values if ":assumed-role/" not in value}
        sessions = {role_name(value) for value in values if ":assumed-role/" in value}
        if users != accounts or not sessions <= roles:
            yield self._fault(
                node,
                "NotPrincipal with Deny lists each user together with its account, and a session with its"
                ' role; better deny "*" with ArnNotEquals on aws:PrincipalArn',
            )

    def _action(self, node: Node) -> Iterator[Fault]:
        values = listed(node)
        if not values:
            yield self._fault(node, "a statement names at least one action")
        for value in values:
            match = any_like([parse_template(value.value.lower(), variables=False, wildcards=True)])
            is_ours = value.value.lower().startswith("ses:")
            if not is_ours or not any(match(action.lower(), {}) for action in ACTIONS):
                yield self._fault(
                    value,
                    f"{value.value!r} is no sending action of SES, such as ses:SendRawEmail or ses:Send*",
                )

    def _resource(self, node: Node) -> Iterator[Fault]:
        values = listed(node)
        if [value.value for value in values] != [self._identity_arn]:
            yield self._fault(node, f'Resource is "{self._identity_arn}", the identity itself')

    # ------------------------------------------------------------ condition

    def _condition(self, node: Node) -> Iterator[Fault]:
        for operator_member in node.members:
            operator = parse_operator(operator_member.name)
            assert operator is not None  # the document compiled
            for key in operator_member.node.members:
                yield from self._key(operator, key)

    def _key(self, operator: Operator, key: Member) -> Iterator[Fault]:
        values = listed(key.node)
        if not values:
            yield self._fault(key.node, f"{key.name} needs at least one value")
        is_plain = operator.over is None and operator.base != "Null"
        if is_plain and key.name.lower() in MULTI_VALUED:
            yield self._fault(
                key.node,
                f"{key.name} has several values: write ForAllValues:{operator.text}"
                f" or ForAnyValue:{operator.text}",
            )
        for value in values:
            text = {True: "true", False: "false"}.get(value.value, value.value)
            fault = self._value_fault(operator, str(text))
            if fault:
                yield self._fault(value, fault)

    def _value_fault(self, operator: Operator, text: str) -> str | None:
        if operator.takes_variables and self._has_variables and _has_bad_variable(text):
            return f"{text!r}: a default is written ${{key, 'text'}}, with comma and space, and is not empty"
        if operator.family == "Arn":
            template = parse_template(text, variables=self._has_variables, wildcards=True)
            is_pattern = arn_segments(template) is not None
            return None if is_pattern else f"{text!r}: an ARN has six parts, variables only in the last"
        is_good, kind = _VALUES.get(operator.family, (_anything, ""))
        return None if is_good(text) else f"{text!r} is not {kind}"


def _principal_fault(kind: str, value: str) -> str | None:
    if kind == "AWS":
        is_good = (
            value == EVERYONE or _is_account(value) or _is_principal_arn(value) or _is_unique_id(value)
        ) and ("*" not in value[1:] and "?" not in value)
        return None if is_good else f"invalid principal {value!r}: an account id, a user's ARN, or *"
    if kind == "Service" and not _is_service(value):
        return f"invalid principal {value!r}: a service, such as cognito-idp.amazonaws.com"
    return None


def _has_bad_variable(text: str) -> bool:
    return any(
        "," in inside and not re.fullmatch(r"[^,']+, '[^']+'", inside)
        # Behind the last brace nothing is closed; not to look there keeps many ${ linear.
        for inside in re.findall(r"\$\{([^}]*)\}", text[: text.rfind("}") + 1])
    )


def _anything(_text: str) -> bool:
    return True


def _is_boolean(text: str) -> bool:
    return text in ("true", "false")


def _is_storable_instant(text: str) -> bool:
    """With a zone, or seconds.  Four digits could be either; a day begins at another instant elsewhere."""
    is_day = re.fullmatch(r"[0-9]{4}(-[0-9]{2}){0,2}", text)
    return read_instant(text) is not None and not is_day


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:  # not base64, or not ASCII
        return False
    return True


_VALUES: dict[str, tuple[Callable[[str], bool], str]] = {
    "Bool": (_is_boolean, "true or false"),
    "Null": (_is_boolean, "true or false"),
    "Numeric": (lambda text: read_number(text) is not None, "a number, such as 10 or -0.5"),
    "Date": (
        _is_storable_instant,
        "an instant, such as 2026-01-31T12:00:00Z or seconds since 1970",
    ),
    "Ip": (lambda text: read_network(text) is not None, "an address or a block, such as 203.0.113.0/24"),
    "Binary": (_is_base64, "base64"),
}
