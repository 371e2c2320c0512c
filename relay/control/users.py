"""IAM users and their own policies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from relay.authorization.policy import PolicyError, compile_user_policy
from relay.control import accounts
from relay.control.ground import ControlError, Ground, letters, now
from relay.store import credentials, identities, users
from relay.store.users import UserRow

_NAME = re.compile(r"[A-Za-z0-9+=,.@_-]{1,64}").fullmatch
_PATH = re.compile(r"/(?:[!-.0-~]+/)*").fullmatch
_POLICY_NAME = re.compile(r"[A-Za-z0-9+=,.@_-]{1,128}").fullmatch
_LONGEST_PATH = 512
_MOST_POLICY_CHARACTERS = 6_144
_TAG = re.compile(r"[A-Za-z0-9 _.:/=+@-]{1,128}").fullmatch

FIRST_POLICY_NAME = "AllowSending"
# Both sides must allow; a user that could not send at all would be of no use to anyone.
FIRST_POLICY = """{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": [
        "ses:SendEmail",
        "ses:SendRawEmail",
        "ses:SendTemplatedEmail",
        "ses:SendBulkTemplatedEmail"
      ],
      "Resource": "*"
    }
  ]
}
"""


def create(ground: Ground, name: str, account_id: str, path: str = "/", tags: Iterable[str] = ()) -> UserRow:
    """A new user that may send; ``tags`` are KEY=VALUE."""
    if not _NAME(name):
        raise ControlError(
            "invalid_name", f"{name!r}: a user's name has 1 to 64 of A-Z a-z 0-9 + = , . @ _ -"
        )
    if not _PATH(path) or len(path) > _LONGEST_PATH:
        raise ControlError("invalid_path", f"{path!r}: a path begins and ends with /, such as /apps/")
    accounts.get(ground, account_id)
    at = now()
    user = UserRow(ground.new_id(), account_id, name, path, "AIDA" + letters(17), _tags(tags), at)
    with ground.write() as write:
        if users.find(write.connection, account_id, name):
            raise ControlError("already_exists", f"account {account_id} has a user {name} already")
        users.add(write, user)
        users.put_policy(write, user, ground.new_id(), FIRST_POLICY_NAME, FIRST_POLICY, at)
    return user


def _tags(pairs: Iterable[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not _TAG(key) or len(value) > 256 or not value.isprintable():
            raise ControlError("invalid_tag", f"{pair!r} is not KEY=VALUE")
        if key.lower() in {known.lower() for known in tags}:
            raise ControlError("invalid_tag", f"tag {key!r} is given twice; letter case does not count")
        tags[key] = value
    return tags


def get(ground: Ground, name: str, account_id: str) -> UserRow:
    with ground.store.read() as connection:
        user = users.find(connection, account_id, name)
    if user is None:
        raise ControlError("not_found", f"account {account_id} has no user {name}; see `relay user list`")
    return user


def every(ground: Ground, account_id: str) -> list[tuple[UserRow, list[str]]]:
    """The account's users, each with the names of its policies."""
    accounts.get(ground, account_id)
    with ground.store.read() as connection:
        return [
            (user, list(users.policies(connection, user))) for user in users.every(connection, account_id)
        ]


def documents(ground: Ground, user: UserRow) -> dict[str, str]:
    """The user's own policies by their names."""
    with ground.store.read() as connection:
        return users.policies(connection, user)


def delete(ground: Ground, name: str, account_id: str, force: bool = False) -> UserRow:
    """Remove the user; ``force`` removes its credentials too."""
    user = get(ground, name, account_id)
    with ground.write() as write:
        held = credentials.of_user(write.connection, user.id)
        if held and not force:
            raise ControlError(
                "has_credentials",
                f"{name} has {len(held)} credentials ({', '.join(held)}); delete them first, or say --force",
            )
        for access_key_id in held:
            credentials.remove(write, access_key_id)
        identities.replace_in_policies(write, user.arn, user.unique_id)
        users.remove(write, user)
    return user


def put_policy(ground: Ground, name: str, account_id: str, policy_name: str, document: str) -> UserRow:
    """Attach one of the user's own policies."""
    user = get(ground, name, account_id)
    if not _POLICY_NAME(policy_name):
        raise ControlError("invalid_name", f"{policy_name!r} is not a policy name")
    if len(document) > _MOST_POLICY_CHARACTERS:
        raise ControlError("too_large", f"a user policy has at most {_MOST_POLICY_CHARACTERS} characters")
    try:
        compile_user_policy(document, name=policy_name)
    except PolicyError as error:
        raise ControlError("invalid_policy", _listed(error)) from error
    with ground.write() as write:
        users.put_policy(write, user, ground.new_id(), policy_name, document, now())
    return user


def delete_policy(ground: Ground, name: str, account_id: str, policy_name: str) -> UserRow:
    user = get(ground, name, account_id)
    with ground.write() as write:
        if not users.delete_policy(write, user, policy_name):
            raise ControlError("not_found", f"{name} has no policy {policy_name}")
    return user


def _listed(error: PolicyError) -> str:
    return "\n".join(_line(fault.line, fault.column, fault.pointer, fault.message) for fault in error.faults)


def _line(line: int, column: int, pointer: str, message: str) -> str:
    return f"line {line}, column {column}{f' ({pointer})' if pointer else ''}: {message}"


def lines_of(faults: Sequence[object]) -> list[str]:
    """Each fault as "line 3, column 5 (/Statement/0): what is wrong"."""
    return [_line(f.line, f.column, f.pointer, f.message) for f in faults]  # type: ignore[attr-defined]
