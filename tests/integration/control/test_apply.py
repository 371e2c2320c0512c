"""A file becomes accounts, identities, policies, sets and topics; applied again it changes nothing."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from relay.control import apply, audit, identities, policies, topics, users, wanted
from relay.control.ground import Ground
from relay.control.plan import plan
from relay.control.subscribing import Subscribing
from relay.control.wanted import Table
from relay.store import installation
from relay.store.engine import Store
from relay.store.secrets import Secrets
from tests.support.gateway import DELEGATE, OWNER, arn, grant, user_arn

FILE = f"""
[[account]]
id = "{OWNER}"
name = "owner"
production = true
[[account.identity]]
name = "owner.example"
verified = true
feedback_forwarding = false
bounce_topic = "arn:aws:sns:us-east-1:{DELEGATE}:told"
policies.lend = "lend.json"
[[account.identity]]
name = "own.example"
verified = true
configuration_set = "mail"
[[account.configuration_set]]
name = "mail"

[[account]]
id = "{DELEGATE}"
name = "delegate"
max_24h_send = 1000
[[account.user]]
name = "app"
tags = {{ team = "mail" }}
policies.More = "more.json"
[[account.topic]]
name = "told"
open_to = ["{OWNER}"]
[[account.topic.subscription]]
protocol = "file"
endpoint = "events.jsonl"
[[account.configuration_set]]
name = "mail"
tls_policy = "require"
max_delivery_seconds = 3600
[[account.configuration_set.destination]]
name = "told"
topic = "told"
events = ["bounce", "complaint"]
"""
MORE = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ses:Get*", "Resource": "*"}]}
)
LEND = json.dumps(grant({"AWS": user_arn("app")}, arn("owner.example")), indent=2)


@pytest.fixture
def ground(store: Store, secrets: Secrets, tmp_path: Path) -> Ground:
    installation.initialise(store, "us-east-1", secrets)
    subscribing = Subscribing(file_directory=tmp_path)
    return Ground(store, secrets, "us-east-1", "test", subscribing=subscribing)


def read(text: str) -> Table:
    return wanted.read(
        tomllib.loads(text), "us-east-1", lambda name: {"lend.json": LEND, "more.json": MORE}[name]
    )


def applied(ground: Ground, text: str, prune: bool = False) -> list[str]:
    """The steps, each done, with why it could not be."""
    table = read(text)
    steps = plan(table, apply.existing(ground, table), prune)
    return [f"{step}: {apply.attempt(ground, step)}" for step in steps]


def test_file_is_applied_and_again_changes_nothing(ground: Ground) -> None:
    first = applied(ground, FILE)
    assert first
    assert all(line.endswith(": None") for line in first), first
    view = identities.show(ground, "owner.example", OWNER)
    assert view.row.bounce_topic == f"arn:aws:sns:us-east-1:{DELEGATE}:told"
    assert view.row.verification_status == "SUCCESS"
    assert json.loads(policies.get(ground, arn("owner.example"), "lend")) == json.loads(LEND)
    assert identities.show(ground, "own.example", OWNER).row.configuration_set == "mail"
    assert set(users.documents(ground, users.get(ground, "app", DELEGATE))) == {"AllowSending", "More"}
    changes = len(audit.entries(ground, None))
    assert applied(ground, FILE) == []
    assert applied(ground, FILE, prune=True) == []
    assert len(audit.entries(ground, None)) == changes


def test_what_was_changed_by_hand_is_changed_back(ground: Ground) -> None:
    applied(ground, FILE)
    policies.put(
        ground, arn("owner.example"), "lend", json.dumps(grant({"AWS": OWNER}, arn("owner.example")))
    )
    [line] = applied(ground, FILE)
    assert line.startswith("~ identity policy lend of owner.example")
    assert json.loads(policies.get(ground, arn("owner.example"), "lend")) == json.loads(LEND)


def test_what_the_file_does_not_say_goes_only_with_prune(ground: Ground) -> None:
    applied(ground, FILE)
    identities.create(ground, "more.example", OWNER, verified=True)
    users.create(ground, "more", DELEGATE)
    told = f"arn:aws:sns:us-east-1:{DELEGATE}:told"
    topics.subscribe(ground, told, "file", "more.jsonl")
    assert applied(ground, FILE) == []
    gone = applied(ground, FILE, prune=True)
    assert [line.split(" (")[0] for line in gone] == [
        "- identity more.example",
        "- subscription file more.jsonl of told",
        "- user more",
    ]
    assert applied(ground, FILE, prune=True) == []


def test_step_that_cannot_be_done_says_why_and_keeps_no_other(ground: Ground) -> None:
    """An identity that is pending is not lent yet; the file is applied again when it is verified."""
    text = FILE.replace("verified = true\nfeedback", "feedback")
    lines = applied(ground, text)
    failed = [line for line in lines if not line.endswith(": None")]
    assert len(failed) == 1
    assert "owner.example is not verified" in failed[0]
    assert [line.split(" (")[0] for line in applied(ground, text)] == [
        "+ identity policy lend of owner.example"
    ]
