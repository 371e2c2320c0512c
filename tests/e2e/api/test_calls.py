"""Every operation that is offered, called by boto3; every documented error of it, provoked."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from relay.api import errors, models
from relay.api.operations import OPERATIONS
from relay.api.values import APIError
from tests.e2e.api.calls import CASES, NEVER, NEVER_OF, Args, Case
from tests.support.aws import EVERYTHING, Key, key_of
from tests.support.gateway import STRANGER, Gateway

_PAUSED, _SLOW, _REJECTING = "555555555555", "666666666666", "777777777777"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def clients(gateway: Gateway, admin: Key) -> dict[str, Any]:
    """By who calls and what: ``admin.sesv2``."""
    gateway.account(STRANGER)
    gateway.account(_PAUSED)
    gateway.account(_REJECTING)
    gateway.account(_SLOW, rate=1)
    keys = {
        "admin": admin,
        "nobody": key_of(gateway, "nobody", STRANGER, EVERYTHING),
        "paused": key_of(gateway, "paused", _PAUSED, EVERYTHING),
        "throttled": key_of(gateway, "slow", _SLOW, EVERYTHING),
        "rejecting": key_of(gateway, "rejecting", _REJECTING, EVERYTHING),
    }
    for account in (_PAUSED, _SLOW, _REJECTING):
        gateway.identity("owner.example", account)
    gateway.run("account", "pause", _PAUSED, "--reason", "a test")
    # Nobody sees an MX of that domain here.
    keys["rejecting"].client("sesv2").put_email_identity_mail_from_attributes(
        EmailIdentity="owner.example",
        MailFromDomain="mail.owner.example",
        BehaviorOnMxFailure="REJECT_MESSAGE",
    )
    services = ("ses", "sesv2", "sns", "sts")
    return {f"{who}.{service}": key.client(service) for who, key in keys.items() for service in services}


def filled(value: Any, name: str) -> Any:
    """Arguments with the case's own name in them."""
    if isinstance(value, str):
        return value.replace("$", name)
    if isinstance(value, bytes):
        return value.replace(b"$", name.encode())
    if isinstance(value, dict):
        return {key: filled(one, name) for key, one in value.items()}
    return [filled(one, name) for one in value] if isinstance(value, list) else value


def call(clients: dict[str, Any], who: str, named: str, args: Args) -> dict[str, Any]:
    service, operation = named.split(".")
    return getattr(clients[f"{who}.{service}"], xform_name(operation))(**args)


def member(output: Any, path: str) -> Any:
    for part in path.split("."):
        output = output[int(part)] if part.isdigit() else output[part]
    return output


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.id)
def test_call_is_answered_as_documented(clients: dict[str, Any], one: Case) -> None:
    name = f"n{next(_numbers)}"
    for named, args in one.before:
        # What an account has is its own: whoever sends makes the template it names.
        call(clients, one.as_, named, filled(args, name))
    args = filled(one.args, name)
    if one.as_ == "throttled":
        throttle(clients, one, args)
        return
    if one.error is None:
        output = call(clients, one.as_, one.call, args)
        assert output["ResponseMetadata"]["RequestId"]
        assert {path: member(output, path) for path in one.expect} == filled(one.expect, name)
        return
    with pytest.raises(ClientError) as caught:
        call(clients, one.as_, one.call, args)
    assert caught.value.response["Error"]["Code"] == one.error, caught.value
    assert caught.value.response["Error"]["Message"]


def throttle(clients: dict[str, Any], one: Case, args: Args) -> None:
    """One recipient a second: of several calls at once one is too many."""
    answers = []
    for _ in range(20):
        try:
            output = call(clients, one.as_, one.call, args)
            answers += [member(output, path) for path in one.expect]
        except ClientError as error:
            answers.append(error.response["Error"]["Code"])
        if answers and answers[-1] == (one.error or next(iter(one.expect.values()))):
            return
    pytest.fail(str(answers))


def test_every_offered_operation_is_in_the_table() -> None:
    called = {one.call for one in CASES if one.error is None}
    # These need a message, a receiver: see test_sending.py.
    called |= {"sesv2.GetMessageInsights", "sns.ConfirmSubscription", "sns.Unsubscribe"}
    assert called == {f"{service}.{name}" for service, name in OPERATIONS}


def test_every_documented_error_is_in_the_table() -> None:
    provoked = {(one.call, one.error) for one in CASES if one.error}
    missing = []
    for service, name in OPERATIONS:
        operation = models.operation(service, name)
        assert operation is not None
        for shape in operation.error_shapes:
            code = errors.on_the_wire(APIError(shape.name, ""), service).code
            documented = (f"{service}.{name}", code)
            is_throttling = code == "TooManyRequestsException" and not name.startswith("Send")
            # Throttling has a test of its own.
            if not is_throttling and code not in NEVER and documented not in NEVER_OF:
                missing.append(documented)
    assert [one for one in missing if one not in provoked] == []


def test_what_is_never_met_is_documented() -> None:
    names = {f"{service}.{name}" for service, name in OPERATIONS}
    assert {call for call, _ in NEVER_OF} <= names
