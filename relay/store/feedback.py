"""What the feedback on a message goes by, in one look: its identity, its set's destinations, their topics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from relay.outcome.events import BOUNCE, COMPLAINT
from relay.store import configuration_sets, identities, topics
from relay.store.changes import ControlWrite
from relay.store.configuration_sets import DestinationRow
from relay.store.engine import Store
from relay.store.identities import IdentityRow

_TOPIC_COLUMNS = {BOUNCE: "bounce_topic", COMPLAINT: "complaint_topic"}


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic that somebody named: by whom it is held, whether there is one, who of them listens.

    ``takes_identitys`` tells whether it takes the notifications of the identity that it was looked up for.
    """

    account_id: str
    exists: bool
    takes_identitys: bool
    subscriptions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FeedbackRows:
    """``topics`` has each topic that identity or destinations name, by its ARN."""

    identity: IdentityRow | None
    destinations: tuple[DestinationRow, ...]
    topics: dict[str, TopicState]


def look_up(store: Store, identity_arn: str, account_id: str, configuration_set: str | None) -> FeedbackRows:
    """The rows for mail that an account sends in the identity's name, with the set it carries."""
    with store.read() as connection:
        of = identities.find_by_arn(connection, identity_arn)
        found = None
        if configuration_set is not None:
            found = configuration_sets.find(connection, account_id, configuration_set)
        destinations = tuple(configuration_sets.destinations(connection, found.id)) if found else ()
        arns = {one.topic_arn for one in destinations}
        if of is not None:
            arns |= {arn for arn in (of.bounce_topic, of.complaint_topic, of.delivery_topic) if arn}
        return FeedbackRows(of, destinations, _topics(connection, arns, of))


def _topics(connection: Connection, arns: Iterable[str], of: IdentityRow | None) -> dict[str, TopicState]:
    found = {}
    for arn in arns:
        row = topics.find_topic(connection, arn)
        found[arn] = TopicState(
            row.account_id if row else "",
            exists=row is not None,
            takes_identitys=of is not None and topics.is_allowed(connection, arn, of.account_id),
            subscriptions=topics.confirmed(connection, arn),
        )
    return found


def take_back_topic(write: ControlWrite, identity_arn: str, event_type: str) -> bool:
    """Remove the identity's topic for bounces or complaints, which takes nothing from it any more, and switch
    forwarding on; False if that was mended meanwhile."""
    column = _TOPIC_COLUMNS[event_type]
    row = identities.find_by_arn(write.connection, identity_arn)
    arn = getattr(row, column, None)
    if row is None or arn is None or topics.is_allowed(write.connection, arn, row.account_id):
        return False
    values = {column: None, "feedback_forwarding": True}
    because = f"{arn} is gone, or takes nothing from account {row.account_id}"
    identities.change(write, row, "SetIdentityNotificationTopic", because, **values)
    return True
