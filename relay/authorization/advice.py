"""What a policy's owner probably did not mean: warnings that refuse nothing.

Each comes from a trap of the language that has let mail through, or kept it, on real systems.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from relay.authorization.document import Document, Fault, Node
from relay.authorization.identities import covers, parse_identity_arn
from relay.authorization.operators import ALL_VALUES
from relay.authorization.policy import EVERYONE, OLD_VERSION, VERSION, Condition, Policy, Statement
from relay.submission.address import AddressError, parse_mailbox

_ADDRESS_KEYS = ("ses:fromaddress", "ses:feedbackaddress")
# What a request can have (relay.authorization.context), by the start of the key.
_KNOWN_KEYS = (
    "ses:recipients",
    "ses:fromaddress",
    "ses:fromdisplayname",
    "ses:feedbackaddress",
    "ses:apiversion",
    "aws:sourceip",
    "aws:currenttime",
    "aws:epochtime",
    "aws:securetransport",
    "aws:principalarn",
    "aws:principalaccount",
    "aws:principaltype",
    "aws:username",
    "aws:userid",
    "aws:principaltag/",
    "aws:resourceaccount",
    "aws:requestedregion",
    "aws:useragent",
    "aws:viaawsservice",
    "aws:principalisawsservice",
    "aws:sourcearn",
    "aws:sourceaccount",
)


def warnings(document: Document, root: Node, policy: Policy, identity_arn: str) -> Iterator[Fault]:
    """The warnings, each at the statement or the condition it is about."""
    nodes = {member.name: member.node for member in root.members}["Statement"]
    statements: Sequence[Node] = nodes.value if type(nodes.value) is list else [nodes]
    for node, statement in zip(statements, policy.statements, strict=True):
        places = {member.name: member.node for member in node.members}
        for place, message in _of_statement(statement, policy, identity_arn):
            where = places.get(place, node)
            yield document.fault(where.pointer, where.offset, message)


def _of_statement(statement: Statement, policy: Policy, identity_arn: str) -> Iterator[tuple[str, str]]:
    yield from _principal(statement)
    yield from _action(statement)
    for condition in statement.conditions:
        for message in _condition(condition, statement, policy, identity_arn):
            yield "Condition", message


def _principal(statement: Statement) -> Iterator[tuple[str, str]]:
    principals = statement.principals
    if principals is None:
        return
    if principals.negated:
        if statement.is_allow:
            yield "NotPrincipal", "Allow with NotPrincipal lets everyone in who is not listed"
        return
    if statement.is_allow and EVERYONE in principals.names and not statement.conditions:
        yield "Principal", "this lets everyone who has a credential here send as this identity"
    if all(kind in ("Federated", "CanonicalUser") or _is_nobody(value) for kind, value in principals.entries):
        yield "Principal", "this statement never matches: no sender is such a principal"


def _is_nobody(value: str) -> bool:
    return value.startswith(("AIDA", "AROA"))


def _action(statement: Statement) -> Iterator[tuple[str, str]]:
    def matches(action: str) -> bool:
        return statement.action.test(action, {})

    if matches("ses:sendemail") and not matches("ses:sendrawemail"):
        yield "Action", "SMTP is ses:SendRawEmail; ses:SendEmail alone does not touch it"


def _condition(
    condition: Condition, statement: Statement, policy: Policy, identity_arn: str
) -> Iterator[str]:
    operator, key = condition.operator, condition.key
    if operator.over == ALL_VALUES and statement.is_allow and not _has_guard(statement, key):
        yield (
            f"{operator.text} on {key} also holds for a message without {key};"
            f' add "Null": {{"{key}": "false"}}'
        )
    if policy.version == OLD_VERSION and any("${" in value for value in condition.values):
        yield f'variables such as ${{aws:username}} are plain text without "Version": "{VERSION}"'
    if not statement.is_allow and _is_exact(condition) and key.lower() in _ADDRESS_KEYS:
        yield (
            f"{operator.text} on {key} is slipped past by a +label, as in name+x@example.com;"
            " deny with StringLike, as in *name*@example.com"
        )
    if _never_holds(condition, identity_arn):
        yield f"this statement never matches: {key} never has such a value"


def _has_guard(statement: Statement, key: str) -> bool:
    return any(
        one.operator.base == "Null" and one.key.lower() == key.lower() and one.values == ("false",)
        for one in statement.conditions
    )


def _is_exact(condition: Condition) -> bool:
    operator = condition.operator
    return operator.base in ("StringEquals", "StringEqualsIgnoreCase") and not operator.negated


def _never_holds(condition: Condition, identity_arn: str) -> bool:
    """A plain operator on a key that no request has, or on an address that this identity does not cover."""
    operator, key = condition.operator, condition.key.lower()
    if operator.negated or operator.if_exists or operator.over == ALL_VALUES or operator.base == "Null":
        return False
    if not key.startswith(_KNOWN_KEYS):
        return True
    if key == "ses:fromaddress" and operator.base in ("StringEquals", "StringLike"):
        return all(_is_foreign_address(value, identity_arn) for value in condition.values)
    return False


def _is_foreign_address(value: str, identity_arn: str) -> bool:
    """A plain address that cannot be From here: addresses reach a policy with a lower-case domain."""
    if any(mark in value for mark in "*?$"):
        return False
    identity = parse_identity_arn(identity_arn)
    try:
        address = parse_mailbox(value)
    except AddressError:
        return True
    return str(address) != value or (identity is not None and not covers(identity.name, address))
