"""Does a policy lend its identity to another account?  R3 asks it before anything is stored.

In doubt it does: a principal that only a condition keeps inside counts as inside only if that condition names
the owner's account and nothing else, in a form that no request can slip past.
"""

from __future__ import annotations

import re

from relay.authorization.policy import EVERYONE, Condition, Policy, Statement

_is_account = re.compile(r"[0-9]{12}").fullmatch
_account_of = re.compile(r"arn:[a-z-]+:(?:iam|sts)::([0-9]{12}):.*", re.DOTALL).fullmatch
# What the caller's account is called in a request: of users, and of services.
_ACCOUNT_KEYS = ("aws:principalaccount", "aws:sourceaccount")
_EXACT = ("StringEquals", "StringEqualsIgnoreCase", "StringLike")


def lends_outside(policy: Policy, account_id: str) -> Statement | None:
    """The first Allow that could match a principal outside the account, or None."""
    return next((one for one in policy.statements if _lends_outside(one, account_id)), None)


def _lends_outside(statement: Statement, account_id: str) -> bool:
    principals = statement.principals
    if not statement.is_allow or principals is None:
        return False
    if any(_keeps_inside(condition, account_id) for condition in statement.conditions):
        return False
    if principals.negated:  # everyone who is not listed
        return EVERYONE not in principals.names
    return any(_is_outside(kind, value, account_id) for kind, value in principals.entries)


def _is_outside(kind: str, value: str, account_id: str) -> bool:
    if kind == "Service":
        return True  # it acts for whichever account has its credential
    if kind != "AWS":
        return False  # no sender is such a principal
    if value == EVERYONE:
        return True
    found = _account_of(value)
    account = found[1] if found else value
    # What is no account was a user that was deleted: it is nobody.
    return bool(_is_account(account)) and account != account_id


def _keeps_inside(condition: Condition, account_id: str) -> bool:
    """A plain comparison does not hold where the key is absent, unless it is negated or IfExists."""
    operator = condition.operator
    is_plain = operator.over is None and not operator.negated and not operator.if_exists
    return (
        is_plain
        and operator.base in _EXACT
        and condition.key.lower() in _ACCOUNT_KEYS
        and set(condition.values) == {account_id}
    )
