"""What owner and delegate chose, read from the store and kept until something changes there.

One entry for each identity and configuration set that mail came with.  All are forgotten when the change
feed has gone on: changes are rare, and an entry is a handful of look-ups.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from relay.feedback.match import Destination, IdentitySettings, Settings, Topic
from relay.outcome.events import BOUNCE, COMPLAINT, DELIVERY
from relay.store.changes import control_write
from relay.store.engine import Store
from relay.store.feedback import FeedbackRows, look_up, take_back_topic
from relay.store.identities import IdentityRow

_MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Parties:
    """What the settings of a message are found by: its identity's ARN, its sender, the set it carries."""

    identity_arn: str
    account_id: str
    configuration_set: str | None


class Choices:
    """The settings of one worker process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[Parties, Settings] = {}
        self._change = -1

    async def settings(self, parties: Parties, change: int) -> Settings:
        """The settings of the parties, no older than the change number."""
        if change != self._change or len(self._kept) >= _MOST_ENTRIES:
            self._kept, self._change = {}, change
        if parties not in self._kept:
            self._kept[parties] = await asyncio.to_thread(self._read, parties)
        return self._kept[parties]

    def _read(self, parties: Parties) -> Settings:
        found = look_up(self._store, parties.identity_arn, parties.account_id, parties.configuration_set)
        return settings_of(found)

    async def take_back(self, parties: Parties, event_type: str) -> bool:
        """Remove the identity's topic for the type, which is gone, and switch forwarding on (SES's rule)."""
        self._kept.clear()
        return await asyncio.to_thread(self._take_back, parties.identity_arn, event_type)

    def _take_back(self, identity_arn: str, event_type: str) -> bool:
        with control_write(self._store, "relay:feedback") as write:
            return take_back_topic(write, identity_arn, event_type)


def settings_of(found: FeedbackRows) -> Settings:
    """The rows as the decision sees them."""
    destinations = tuple(
        Destination(one.name, one.enabled, one.event_types, _topic(one.topic_arn, found, is_identitys=False))
        for one in found.destinations
    )
    # Whoever deleted the identity asks for nothing any more; the Return-Path is told all the same.
    return Settings(_identity(found.identity, found) if found.identity else IdentitySettings(), destinations)


def _identity(row: IdentityRow, found: FeedbackRows) -> IdentitySettings:
    chosen = {
        BOUNCE: (row.bounce_topic, row.headers_in_bounce),
        COMPLAINT: (row.complaint_topic, row.headers_in_complaint),
        DELIVERY: (row.delivery_topic, row.headers_in_delivery),
    }
    return IdentitySettings(
        row.feedback_forwarding,
        {name: _topic(arn, found, is_identitys=True) for name, (arn, _) in chosen.items() if arn},
        frozenset(name for name, (_, quotes_header) in chosen.items() if quotes_header),
    )


def _topic(arn: str, found: FeedbackRows, *, is_identitys: bool) -> Topic:
    state = found.topics[arn]
    is_reachable = state.takes_identitys if is_identitys else state.exists
    return Topic(arn, state.account_id, is_reachable, state.subscriptions)
