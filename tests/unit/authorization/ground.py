"""Accounts, identities, policies and submissions made by hand, each with what a test leaves open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from relay.authorization.decision import Account, ConfigurationSet, Decision, Ground, Rules, decide
from relay.authorization.identities import Identities, Identity, identity_arn
from relay.authorization.policy import Policy, compile_policy, compile_user_policy
from relay.authorization.send import Arns, Send
from relay.submission.address import parse_mailbox
from relay.submission.originator import NamedMailbox
from relay.submission.principal import Principal, PrincipalKind

OWNER, DELEGATE, STRANGER = "111111111111", "222222222222", "333333333333"
REGION = "us-east-1"
RAW = "ses:SendRawEmail"
RULES = Rules(region=REGION)
# 2024-06-15T12:00:00.5Z in microseconds.
AT = 1_718_452_800_500_000


def arn(name: str, account_id: str = OWNER) -> str:
    return identity_arn(REGION, account_id, name)


def user(name: str = "app", account_id: str = DELEGATE, **changed: Any) -> Principal:
    held = Principal(
        kind=PrincipalKind.USER,
        account_id=account_id,
        arn=f"arn:aws:iam::{account_id}:user/{name}",
        unique_id=f"AIDA{name.upper()}",
        access_key_id=f"AKIA{name.upper()}",
        user_name=name,
    )
    return replace(held, **changed)


def service(name: str = "cognito-idp.amazonaws.com", account_id: str = DELEGATE) -> Principal:
    return Principal(
        kind=PrincipalKind.SERVICE,
        account_id=account_id,
        arn=name,
        unique_id="AIDASERVICE",
        access_key_id="AKIASERVICE",
        source_arn=f"arn:aws:cognito-idp:{REGION}:{account_id}:userpool/pool",
    )


def named(text: str) -> NamedMailbox:
    """``Name <address>`` or the bare address."""
    name, bracket, address = text.rpartition("<")
    if not bracket:
        return NamedMailbox(None, parse_mailbox(text))
    return NamedMailbox(name.strip(), parse_mailbox(address.removesuffix(">")))


def send(
    from_: str = "ann@owner.example",
    *,
    mail_from: str = "bounces@owner.example",
    to: Iterable[str] = ("someone@recipient.example",),
    sender: str | None = None,
    return_path: str | None = None,
    arns: Arns | str | None = None,
    **changed: Any,
) -> Send:
    """A submission of the delegate's; a bare ARN is the source's."""
    made = Send(
        principal=user(),
        action=RAW,
        api_version="2",
        at=AT,
        source_ip="203.0.113.7",
        is_secure=True,
        user_agent=None,
        mail_from=parse_mailbox(mail_from),
        recipients=tuple(map(parse_mailbox, to)),
        from_=named(from_),
        sender=named(sender) if sender else None,
        return_path=parse_mailbox(return_path) if return_path else None,
        arns=arns if isinstance(arns, Arns) else Arns(source=arns),
        configuration_set=None,
    )
    return replace(made, **changed)


def statement(resource: str, effect: str = "Allow", **changed: Any) -> dict[str, Any]:
    """A statement about everybody, unless ``Principal`` says otherwise."""
    return {"Effect": effect, "Principal": "*", "Action": RAW, "Resource": resource, **changed}


def policy(*statements: Mapping[str, Any], name: str = "policy") -> Policy:
    return compile_policy(json.dumps({"Version": "2012-10-17", "Statement": statements}), name)


def user_policy(effect: str = "Allow", name: str = "own", **changed: Any) -> Policy:
    one = {"Effect": effect, "Action": "ses:Send*", "Resource": "*", **changed}
    return compile_user_policy(json.dumps({"Version": "2012-10-17", "Statement": one}), name)


MAY_SEND = user_policy(name="send")


def identity(name: str, *policies: Policy, account_id: str = OWNER, **changed: Any) -> Identity:
    """A verified identity."""
    made = Identity(0, arn(name, account_id), account_id, name, verified=True, policies=policies)
    return replace(made, **changed)


def identities(*found: Identity) -> Identities:
    by_name: dict[tuple[str, str], list[Identity]] = {}
    for one in found:
        by_name.setdefault((one.account_id, one.name.lower()), []).append(one)
    return Identities(by_name)


def ground(*found: Identity, **changed: Any) -> Ground:
    made = Ground(
        account=Account(DELEGATE, production=True),
        user_policies=(MAY_SEND,),
        identities=identities(*found),
        owners={OWNER: Account(OWNER, production=True)},
        configuration_sets={},
    )
    return replace(made, **changed)


def sets(*names: str, **paused: bool) -> dict[str, ConfigurationSet]:
    """Configuration sets; ``name=True`` for one that is paused."""
    made = [ConfigurationSet(name) for name in names]
    made += [ConfigurationSet(name, sending_enabled=not is_paused) for name, is_paused in paused.items()]
    return {one.name: one for one in made}


def lent(name: str = "owner.example", **changed: Any) -> Identity:
    """An identity of the owner's that anybody may send from."""
    return identity(name, policy(statement(arn(name)), name="lend"), **changed)


def decided(what: Send, on: Ground, rules: Rules = RULES) -> Decision:
    return decide(what, on, rules)
