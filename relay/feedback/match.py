"""Whom to tell of what happened to a message: the owner, the delegate, and the Return-Path if nobody else.

    feedback    identity's topic    a destination of the set    told
    forwarding  for this type       that this message carries
    on          any                 any                         mail, and whoever asked
    off         has one             none                        the topic
    off         has one             has one                     the topic and the destination
    off         none                has one                     the destination
    off         none                none                        mail, although forwarding is off (R13)

The owner's settings are those of the identity, the delegate's those of its configuration set; neither
changes what the other is told.  A topic counts while it has a subscription that is confirmed and not dead.
Deliveries and sends are never mailed; a delay is mailed only when nobody has a destination for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.outcome.events import BOUNCE, COMPLAINT, DELIVERY_DELAY


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it was found.

    ``is_reachable`` is False if it is gone, or does not take what is sent to it; ``subscriptions`` are those
    that are told things.
    """

    arn: str
    account_id: str
    is_reachable: bool = True
    subscriptions: tuple[int, ...] = ()

    @property
    def is_handler(self) -> bool:
        return self.is_reachable and bool(self.subscriptions)


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """What the owner chose: topics by event type, and for which types they quote the header."""

    forwarding: bool = True
    topics: Mapping[str, Topic] = field(default_factory=dict)
    headers_in: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Destination:
    """An event destination of the delegate's."""

    name: str
    enabled: bool
    event_types: frozenset[str]
    topic: Topic


@dataclass(frozen=True, slots=True)
class Settings:
    """Both sides for one message: its identity's, and the destinations of the set that it carries."""

    identity: IdentitySettings = field(default_factory=IdentitySettings)
    destinations: tuple[Destination, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told.

    ``is_broken``: the identity's topic is gone, and its setting is to be taken back.  ``quotes_header`` is
    for the identity's topic.
    """

    identity_topic: Topic | None
    destinations: tuple[Destination, ...]
    mail: bool
    is_broken: bool = False
    quotes_header: bool = False


def decide(event_type: str, settings: Settings) -> Told:
    """Who is told of an event of this type."""
    identity = settings.identity
    topic = identity.topics.get(event_type)
    is_mailed = event_type in (BOUNCE, COMPLAINT)
    # SES takes the setting back and switches forwarding on again; a topic for deliveries stays.
    is_broken = is_mailed and topic is not None and not topic.is_reachable
    handler = topic if topic is not None and topic.is_handler else None
    destinations = tuple(
        one
        for one in settings.destinations
        if one.enabled and event_type in one.event_types and one.topic.is_handler
    )
    if is_mailed:
        mail = identity.forwarding or is_broken or not (handler or destinations)
    else:
        mail = event_type == DELIVERY_DELAY and not destinations
    return Told(handler, destinations, mail, is_broken, event_type in identity.headers_in)
