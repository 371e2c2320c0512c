"""Configuration sets, their destinations, and what an identity's owner chooses; on both engines."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from relay.control import accounts, configuration_sets, feedback, identities, policies
from relay.control.configuration_sets import DestinationChange, Options
from relay.control.feedback import NONE, Chosen
from relay.control.ground import ControlError, Ground, new_id
from relay.store import audit, installation, topics
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.store.topics import TopicRow, topic_arn
from tests.support.gateway import DELEGATE, OWNER, arn, grant, user_arn

MINE = arn("owner.example")


@pytest.fixture
def ground(store: Store, secrets: Secrets) -> Ground:
    installation.initialise(store, "us-east-1", secrets)
    one = Ground(store, secrets, "us-east-1", "test")
    for account in (OWNER, DELEGATE):
        accounts.create(one, account, account)
    identities.create(one, "owner.example", OWNER, verified=True)
    configuration_sets.create(one, OWNER, "usual")
    return one


def topic(ground: Ground, account: str = OWNER, name: str = "events") -> str:
    with ground.write() as write:
        topics.add(write, TopicRow(new_id(), account, name, 2, 0))
    return topic_arn("us-east-1", account, name)


def refused(code: str):
    return pytest.raises(ControlError, check=lambda error: error.code == code)


def choose(ground: Ground, **values: Any) -> identities.IdentityView:
    return feedback.choose(ground, "owner.example", OWNER, Chosen(**values))


class TestDestinations:
    def put(self, ground: Ground, name: str = "all", account: str = OWNER, **values: Any):
        return configuration_sets.put_destination(
            ground, account, "usual", name, DestinationChange(**values)
        ).destinations

    def test_one_is_made_changed_and_removed(self, ground):
        where = topic(ground)
        [one] = self.put(ground, topic_arn=where, event_types=("bounce", "deliveryDelay", "SEND"))
        assert (one.enabled, one.event_types, one.topic_arn) == (
            True,
            {"Bounce", "DeliveryDelay", "Send"},
            where,
        )
        [off] = self.put(ground, enabled=False)
        assert (off.id, off.enabled, off.event_types) == (one.id, False, one.event_types)
        [other] = self.put(ground, event_types=("delivery-delay", " Complaint"))
        assert (other.enabled, other.event_types) == (False, {"DeliveryDelay", "Complaint"})
        assert configuration_sets.remove_destination(ground, OWNER, "usual", "all").destinations == ()
        with refused("not_found"):
            configuration_sets.remove_destination(ground, OWNER, "usual", "all")

    def test_what_cannot_be_is_refused(self, ground):
        where, theirs = topic(ground), topic(ground, DELEGATE)
        with refused("incomplete"):
            self.put(ground, topic_arn=where)
        with refused("invalid_value"):
            self.put(ground, topic_arn=where, event_types=("open",))
        with refused("not_found"):
            self.put(ground, topic_arn=where + "x", event_types=("bounce",))
        with refused("not_allowed"):
            self.put(ground, topic_arn=theirs, event_types=("bounce",))
        with refused("invalid_name"):
            self.put(ground, name="a b", topic_arn=where, event_types=("bounce",))
        with refused("not_found"):
            self.put(ground, account=DELEGATE, topic_arn=theirs, event_types=("bounce",))

    def test_set_goes_with_its_destinations(self, ground):
        self.put(ground, topic_arn=topic(ground), event_types=("bounce",))
        configuration_sets.delete(ground, OWNER, "usual")
        with ground.store.read() as connection:
            actions = [entry.action for entry in audit.entries(connection, subject="configuration-set")]
        assert actions == [
            "DeleteConfigurationSet",
            "PutConfigurationSetEventDestination",
            "CreateConfigurationSet",
        ]


class TestOptions:
    @pytest.mark.parametrize("seconds", [300, 50_400])
    def test_time_of_delivery_is_bounded_as_in_ses(self, ground, seconds):
        view = configuration_sets.update(ground, OWNER, "usual", Options(max_delivery_seconds=seconds))
        assert view.row.max_delivery_seconds == seconds
        for wrong in (299, 50_401):
            with refused("invalid_value"):
                configuration_sets.update(ground, OWNER, "usual", Options(max_delivery_seconds=wrong))


class TestIdentity:
    def test_topics_forwarding_and_headers_are_chosen_together(self, ground):
        where = topic(ground)
        chosen = choose(
            ground, topics={"bounce": where, "delivery": where}, forwarding=False, headers_in={"bounce": True}
        )
        record = chosen.as_record()
        assert (record["bounce_topic"], record["complaint_topic"], record["delivery_topic"]) == (
            where,
            None,
            where,
        )
        assert (record["feedback_forwarding"], record["headers_in"]) == (False, ["bounce"])
        assert choose(ground, topics={"bounce": NONE}).row.bounce_topic is None

    def test_what_cannot_be_leaves_everything_as_it_was(self, ground):
        theirs = topic(ground, DELEGATE)
        with refused("not_allowed"):
            choose(ground, forwarding=False, topics={"bounce": theirs})
        with refused("not_found"):
            choose(ground, forwarding=False, topics={"bounce": theirs + "x"})
        with refused("no_topic"):
            choose(ground, forwarding=False, headers_in={"complaint": True})
        with refused("not_found"):
            choose(ground, forwarding=False, default_set="other")
        with refused("nothing_to_do"):
            choose(ground)
        assert identities.show(ground, "owner.example", OWNER).row.feedback_forwarding

    def test_topic_of_another_account_needs_its_consent(self, ground):
        theirs = topic(ground, DELEGATE)
        with ground.write() as write:
            row = topics.find_topic(write.connection, theirs)
            assert row is not None
            topics.allow(write, row, OWNER, 0)
        assert choose(ground, topics={"complaint": theirs}).row.complaint_topic == theirs


# ---------------------------------------------------------------- R3


def lend(ground: Ground, principal: Any = None) -> None:
    document = grant({"AWS": user_arn("app")} if principal is None else principal, MINE)
    policies.put(ground, MINE, "lend", json.dumps(document))


def test_r03_default_set_keeps_a_grant_to_another_account_out(ground):
    choose(ground, default_set="usual")
    with pytest.raises(ControlError, match="has the default configuration set usual; remove that first"):
        lend(ground)
    lend(ground, {"AWS": user_arn("own", OWNER)})  # its own account is no other
    choose(ground, default_set=NONE)
    lend(ground)


def test_r03_grant_to_another_account_keeps_a_default_set_out(ground):
    lend(ground)
    with pytest.raises(ControlError, match="policy lend lends owner.example to another account"):
        choose(ground, default_set="usual")
    policies.delete(ground, MINE, "lend")
    assert choose(ground, default_set="usual").row.configuration_set == "usual"


def test_r03_of_two_at_the_same_moment_one_is_refused(ground):
    """Whichever transaction comes second sees what the first has stored."""
    for _ in range(5):
        together = threading.Barrier(2)

        def tried(work, at=together):
            at.wait()
            try:
                work()
            except ControlError as error:
                return error.code
            return "stored"

        with ThreadPoolExecutor(2) as pool:
            done = [
                pool.submit(tried, lambda: lend(ground)),
                pool.submit(tried, lambda: choose(ground, default_set="usual")),
            ]
            answers = sorted(one.result() for one in done)
        assert answers in (["lent", "stored"], ["default_configuration_set", "stored"])
        view = identities.show(ground, "owner.example", OWNER)
        assert bool(view.policies) is not bool(view.row.configuration_set)
        if view.policies:
            policies.delete(ground, MINE, "lend")
        choose(ground, default_set=NONE)
