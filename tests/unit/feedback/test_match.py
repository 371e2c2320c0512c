"""Every line of the table, for the owner and for the delegate."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from relay.feedback.match import Destination, IdentitySettings, Settings, Told, Topic, decide

OWNER, DELEGATE = "111122223333", "222222222222"
OWNERS = Topic(f"arn:aws:sns:us-east-1:{OWNER}:bounces", OWNER, subscriptions=(1, 2))
DELEGATES = Topic(f"arn:aws:sns:us-east-1:{DELEGATE}:events", DELEGATE, subscriptions=(3,))
EVERYTHING = frozenset({"Send", "Reject", "Bounce", "Complaint", "Delivery", "DeliveryDelay"})
MAILED = ("Bounce", "Complaint")


def destination(topic: Topic = DELEGATES, types: frozenset[str] = EVERYTHING, **changed) -> Destination:
    return replace(Destination("all", True, types, topic), **changed)


def settings(
    forwarding: bool, topic: Topic | None, *destinations: Destination, of: str = "Bounce"
) -> Settings:
    return Settings(IdentitySettings(forwarding, {of: topic} if topic else {}), destinations)


# forwarding, identity's topic, destination of the message's set: (topic told, destination told, mail)
TABLE = [
    pytest.param(True, None, False, (False, False, True), id="on-none-none: mail"),
    pytest.param(True, OWNERS, False, (True, False, True), id="on-topic-none: mail and topic"),
    pytest.param(True, None, True, (False, True, True), id="on-none-destination: mail and event"),
    pytest.param(True, OWNERS, True, (True, True, True), id="on-topic-destination: all three"),
    pytest.param(False, OWNERS, False, (True, False, False), id="off-topic-none: topic only"),
    pytest.param(False, OWNERS, True, (True, True, False), id="off-topic-destination: topic and event"),
    pytest.param(False, None, True, (False, True, False), id="off-none-destination: event only"),
    pytest.param(False, None, False, (False, False, True), id="off-none-none: fallback mail"),
]


@pytest.mark.parametrize("event_type", MAILED)
@pytest.mark.parametrize(("forwarding", "topic", "has_destination", "expected"), TABLE)
def test_r13_table(event_type, forwarding, topic, has_destination, expected) -> None:
    destinations = (destination(),) if has_destination else ()
    told = decide(event_type, settings(forwarding, topic, *destinations, of=event_type))
    assert (told.identity_topic is not None, bool(told.destinations), told.mail) == expected
    assert told.identity_topic == topic
    assert told.destinations == destinations


@pytest.mark.parametrize("event_type", MAILED)
def test_r12_topic_may_be_the_delegates_which_then_alone_is_told(event_type: str) -> None:
    told = decide(event_type, settings(False, DELEGATES, of=event_type))
    assert told == Told(DELEGATES, (), mail=False)


# ---------------------------------------------------------------- what counts as a handler


@pytest.mark.parametrize(
    "unusable",
    [
        pytest.param(destination(enabled=False), id="switched off"),
        pytest.param(destination(types=EVERYTHING - {"Bounce"}), id="of other types"),
        pytest.param(destination(replace(DELEGATES, subscriptions=())), id="nobody confirmed, or all dead"),
        pytest.param(destination(replace(DELEGATES, is_reachable=False)), id="its topic is gone"),
    ],
)
def test_r13_destination_that_cannot_tell_leaves_it_to_mail(unusable: Destination) -> None:
    assert decide("Bounce", settings(False, None, unusable)) == Told(None, (), mail=True)
    other = destination(name="other")
    assert decide("Bounce", settings(False, None, unusable, other)) == Told(None, (other,), mail=False)


def test_r13_topic_without_a_confirmed_subscription_leaves_it_to_mail() -> None:
    silent = replace(OWNERS, subscriptions=())
    assert decide("Bounce", settings(False, silent)) == Told(None, (), mail=True)
    assert decide("Bounce", settings(False, silent, destination())) == Told(
        None, (destination(),), mail=False
    )


def test_each_type_is_decided_by_itself() -> None:
    """A topic for bounces is no handler for complaints."""
    both = settings(False, OWNERS, of="Bounce")
    assert not decide("Bounce", both).mail
    assert decide("Complaint", both) == Told(None, (), mail=True)


# ---------------------------------------------------------------- neither overrides the other


@pytest.mark.parametrize(("forwarding", "topic"), list(product([True, False], [None, OWNERS])))
def test_r12_owners_settings_change_nothing_of_what_the_delegate_is_told(forwarding, topic) -> None:
    for event_type in EVERYTHING:
        told = decide(event_type, settings(forwarding, topic, destination(), of=event_type))
        assert told.destinations == (destination(),)


@pytest.mark.parametrize("destinations", [(), (destination(),), (destination(enabled=False),)])
def test_r12_delegates_settings_change_nothing_of_what_the_owner_is_told(destinations) -> None:
    for event_type in (*MAILED, "Delivery"):
        told = decide(event_type, settings(False, OWNERS, *destinations, of=event_type))
        assert told.identity_topic == OWNERS
    assert decide("Bounce", settings(True, OWNERS, *destinations)).mail


# ---------------------------------------------------------------- other types


@pytest.mark.parametrize("event_type", ["Send", "Delivery", "Reject"])
@pytest.mark.parametrize("forwarding", [True, False])
def test_deliveries_and_sends_are_never_mailed(event_type: str, forwarding: bool) -> None:
    assert decide(event_type, settings(forwarding, None)) == Told(None, (), mail=False)


@pytest.mark.parametrize("forwarding", [True, False])
def test_delay_is_mailed_when_nobody_has_a_destination_for_it(forwarding: bool) -> None:
    assert decide("DeliveryDelay", settings(forwarding, OWNERS)).mail
    assert not decide("DeliveryDelay", settings(forwarding, None, destination())).mail


def test_headers_are_quoted_for_the_types_that_the_owner_chose() -> None:
    identity = IdentitySettings(False, {"Bounce": OWNERS, "Complaint": OWNERS}, frozenset({"Bounce"}))
    assert decide("Bounce", Settings(identity)).quotes_header
    assert not decide("Complaint", Settings(identity)).quotes_header


# ---------------------------------------------------------------- a topic that is gone


@pytest.mark.parametrize("event_type", MAILED)
def test_broken_topic_is_taken_back_and_mail_goes_again(event_type: str) -> None:
    gone = replace(OWNERS, is_reachable=False)
    told = decide(event_type, settings(False, gone, destination(), of=event_type))
    assert told == Told(None, (destination(),), mail=True, is_broken=True)


def test_broken_topic_for_deliveries_stays() -> None:
    gone = replace(OWNERS, is_reachable=False)
    assert decide("Delivery", settings(False, gone, of="Delivery")) == Told(None, (), mail=False)
