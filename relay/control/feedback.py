"""How an identity's owner is told of what happens to its mail, and which set mail carries by default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from relay.authorization.outsiders import lends_outside
from relay.authorization.policy import Policy, PolicyError, compile_policy
from relay.control.ground import ControlError, Ground
from relay.control.identities import IdentityView, normalised, show
from relay.control.topics import announce
from relay.store import configuration_sets, identities, topics
from relay.store.changes import ControlWrite
from relay.store.identities import IdentityRow

# What takes a setting away, where the name of something is expected.
NONE = "none"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What to change; None leaves it as it is, and ``NONE`` for a topic or the set takes it away.

    ``topics`` are ARNs, by bounce, complaint and delivery; ``headers_in`` says for which of these the
    notifications quote the header.
    """

    forwarding: bool | None = None
    default_set: str | None = None
    topics: Mapping[str, str] = field(default_factory=dict)
    headers_in: Mapping[str, bool] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        return self.forwarding is None and self.default_set is None and not (self.topics or self.headers_in)


def choose(ground: Ground, name: str, account_id: str, chosen: Chosen) -> IdentityView:
    """Change what is named, at once and together; what cannot be leaves everything as it was."""
    if chosen.is_nothing:
        raise ControlError("nothing_to_do", "name what to change, such as --feedback-forwarding off")
    name = normalised(name)
    with ground.write() as write:
        row = identities.lock(write, account_id, name)
        if row is None:
            raise ControlError(
                "not_found", f"account {account_id} has no identity {name}; see `relay identity list`"
            )
        for action, values in _changes(write, row, chosen):
            identities.change(write, row, action, **values)
        for kind, arn in chosen.topics.items():
            _greet(ground, write, row, kind, arn)
    return show(ground, name, account_id)


def _greet(ground: Ground, write: ControlWrite, row: IdentityRow, kind: str, arn: str) -> None:
    """The first message to a topic that an identity was given, as SES has it."""
    topic = None if arn == NONE else topics.find_topic(write.connection, arn)
    if topic is None:
        return
    text = (
        f"You have successfully subscribed your Amazon SNS topic '{arn}' to receive '{kind.title()}'"
        f" notifications from Amazon SES for identity '{row.name}'."
    )
    message = {"notificationType": "AmazonSnsSubscriptionSucceeded", "message": text}
    announce(ground, write, topic, orjson.dumps(message).decode())


def _changes(write: ControlWrite, row: IdentityRow, chosen: Chosen) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each change by the name of SES's operation; ControlError at the first that cannot be."""
    for kind, arn in chosen.topics.items():
        topic = None if arn == NONE else _usable_topic(write, row, arn)
        yield "SetIdentityNotificationTopic", {f"{kind}_topic": topic}
    for kind, is_on in chosen.headers_in.items():
        has_topic = chosen.topics.get(kind, getattr(row, f"{kind}_topic") or NONE) != NONE
        if is_on and not has_topic:
            raise ControlError(
                "no_topic", f"{row.name} has no topic for {kind}; set one with --{kind}-topic first"
            )
        yield "SetIdentityHeadersInNotificationsEnabled", {f"headers_in_{kind}": is_on}
    if chosen.forwarding is not None:
        yield "PutEmailIdentityFeedbackAttributes", {"feedback_forwarding": chosen.forwarding}
    if chosen.default_set is not None:
        usable = None if chosen.default_set == NONE else _usable_set(write, row, chosen.default_set)
        yield "PutEmailIdentityConfigurationSetAttributes", {"configuration_set": usable}


def _usable_topic(write: ControlWrite, row: IdentityRow, arn: str) -> str:
    topic = topics.find_topic(write.connection, arn)
    if topic is None:
        raise ControlError("not_found", f"there is no topic {arn}; see `relay topic list`")
    if not topics.is_allowed(write.connection, arn, row.account_id):
        raise ControlError(
            "not_allowed",
            f"{arn} belongs to account {topic.account_id}, which lets your notifications in by"
            f" `relay topic allow {arn} --account {row.account_id}`",
        )
    return arn


def _usable_set(write: ControlWrite, row: IdentityRow, name: str) -> str:
    """R3: a default set is for identities that no other account may send from."""
    if configuration_sets.find(write.connection, row.account_id, name) is None:
        raise ControlError(
            "not_found",
            f"account {row.account_id} has no configuration set {name}; see `relay configuration-set list`",
        )
    for policy in _policies(write, row):
        if lends_outside(policy, row.account_id):
            raise ControlError(
                "lent",
                f"policy {policy.name} lends {row.name} to another account, and what is lent has no default"
                " configuration set; its own mail can name the set in X-SES-CONFIGURATION-SET",
            )
    return name


def _policies(write: ControlWrite, row: IdentityRow) -> Iterator[Policy]:
    for name, document in identities.policies(write.connection, row.id).items():
        try:
            yield compile_policy(document, name)
        except PolicyError:
            continue  # what cannot be read grants nothing
