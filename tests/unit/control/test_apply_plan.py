"""What a file says, and what is to be done about it: pure."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.control.ground import ControlError
from relay.control.plan import KINDS, Action, plan
from relay.control.wanted import Key, Table, read

FILE = """
[[account]]
id = "111122223333"
name = "owner"
production = true

[[account.identity]]
name = "owner.example"
verified = true
bounce_topic = "told"
policies.lend = { Version = "2012-10-17", Statement = [] }

[[account.topic]]
name = "told"
open_to = ["222222222222"]
[[account.topic.subscription]]
protocol = "email"
endpoint = "ops@owner.example"

[[account.configuration_set]]
name = "mail"
tls_policy = "require"
[[account.configuration_set.destination]]
name = "events"
topic = "told"
events = ["bounce", "delivery-delay"]

[[account.user]]
name = "app"
policies.More = "more.json"
"""
OWNER = "111122223333"


def table(text: str = FILE, files: dict[str, str] | None = None) -> Table:
    return read(
        tomllib.loads(text), "us-east-1", lambda name: (files or {"more.json": '{ "b":1, "a":2}'})[name]
    )


def faults(text: str) -> str:
    with pytest.raises(ControlError) as caught:
        table(text)
    return caught.value.text


def test_file_is_read_into_a_flat_table() -> None:
    arn = f"arn:aws:sns:us-east-1:{OWNER}:told"
    assert table() == {
        Key("account", OWNER, OWNER): {"name": "owner", "production": True},
        Key("identity", OWNER, "owner.example"): {"verified": True, "bounce_topic": arn},
        Key("identity policy", OWNER, "owner.example", "lend"): {
            "document": '{"Statement":[],"Version":"2012-10-17"}'
        },
        Key("topic", OWNER, "told"): {},
        Key("consent", OWNER, "told", "222222222222"): {},
        Key("subscription", OWNER, "told", "email ops@owner.example"): {"raw": False},
        Key("configuration set", OWNER, "mail"): {"tls_policy": "REQUIRE"},
        Key("destination", OWNER, "mail", "events"): {
            "topic": arn,
            "events": ["BOUNCE", "DELIVERY_DELAY"],
            "enabled": True,
        },
        Key("user", OWNER, "app"): {},
        Key("user policy", OWNER, "app", "More"): {"document": '{"a":2,"b":1}'},
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("acount = 1", "acount: not known here"),
        ("[account]\nid = 'x'", "account: a list of tables is expected"),
        ("[[account]]\nname = 'x'", "account[0]: id is missing"),
        ("[[account]]\nid = 1", "account[0].id: text is expected"),
        ("[[account]]\nid = 'x'\nproduction = 'yes'", "account[0].production: true or false is expected"),
        ("[[account]]\nid = 'x'\n[[account.user]]\nnam = 'x'", "account[0].user[0].nam: not known here"),
        ("[[account]]\nid = 'x'\n[[account]]\nid = 'x'", "account x (x) stands twice"),
        (
            "[[account]]\nid='x'\n[[account.configuration_set]]\nname='s'\ntls_policy='maybe'",
            "account[0].configuration_set[0].tls_policy: MAYBE is none of OPTIONAL, REQUIRE",
        ),
    ],
)
def test_fault_is_told_with_its_place(text: str, fault: str) -> None:
    assert fault in faults(text)


def test_all_faults_are_told_at_once() -> None:
    assert len(faults("[[account]]\nx = 1\ny = 2").splitlines()) == 4


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["account", "id", "name", "user", "topic", "policies", "identity", "events"]),
            inner,
        )
    ),
    max_leaves=20,
)


@given(_VALUES)
def test_anything_is_read_or_refused(document: Any) -> None:
    try:
        assert isinstance(read(document, "us-east-1", lambda name: name), dict)
    except ControlError:
        pass


def test_what_is_there_already_needs_no_step() -> None:
    assert plan(table(), table()) == []
    assert plan(table(), table(), prune=True) == []


def test_steps_come_in_the_order_in_which_they_can_be_done() -> None:
    kinds = [KINDS.index(step.key.kind) for step in plan(table(), {})]
    assert kinds == sorted(kinds)
    assert len(kinds) == len(table())


def test_only_what_differs_is_changed_and_shown() -> None:
    wanted: Table = {Key("configuration set", OWNER, "mail"): {"tls_policy": "REQUIRE", "sending": True}}
    held: Table = {Key("configuration set", OWNER, "mail"): {"tls_policy": "OPTIONAL", "sending": True}}
    [step] = plan(wanted, held)
    assert (step.action, dict(step.values)) == (Action.CHANGE, {"tls_policy": "REQUIRE"})
    assert str(step) == f"~ configuration set mail ({OWNER})\n    tls_policy: OPTIONAL -> REQUIRE"


def test_nothing_is_taken_away_without_prune_and_accounts_never() -> None:
    wanted: Table = {Key("account", OWNER, OWNER): {"name": "owner"}}
    held = table() | {Key("account", OWNER, OWNER): {"name": "owner"}}
    assert plan(wanted, held) == []
    gone = plan(wanted, held, prune=True)
    assert {step.action for step in gone} == {Action.DELETE}
    # Parts go with what they are of.
    assert [step.key.kind for step in gone] == ["identity", "configuration set", "topic", "user"]


def test_part_is_taken_away_alone() -> None:
    held = table()
    wanted = {key: values for key, values in held.items() if key.kind != "identity policy"}
    assert [str(step) for step in plan(wanted, held, prune=True)] == [
        f"- identity policy lend of owner.example ({OWNER})"
    ]
