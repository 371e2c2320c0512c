"""Every operation of the control plane leaves an entry with its actor; none can be changed or removed."""

from __future__ import annotations

import getpass
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from relay.app.recorder import Recorder
from relay.cli import main
from tests.support.gateway import DELEGATE, OWNER, Gateway, arn, grant

IAM = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ses:*", "Resource": "*"}]}
DOMAIN = ("--account", OWNER)
LENT = ("--identity", arn("owner.example"))
MINE = ("--account", DELEGATE)
TOPIC = f"arn:aws:sns:us-east-1:{DELEGATE}:events"

# In an order in which each finds what it needs; {key} and {subscription} are those made before.
OPERATIONS: list[tuple[list[str], str]] = [
    (["account", "create", "owner", "--id", OWNER], "CreateAccount"),
    (["account", "create", "delegate", "--id", DELEGATE], "CreateAccount"),
    (["account", "update", OWNER, "--production"], "UpdateAccount"),
    (["account", "pause", OWNER, "--reason", "unpaid"], "PauseAccount"),
    (["account", "resume", OWNER], "ResumeAccount"),
    (["user", "create", "app", *MINE], "CreateUser"),
    (["user", "put-policy", "app", *MINE, "--policy-name", "p", "-"], "PutUserPolicy"),
    (["user", "delete-policy", "app", *MINE, "--policy-name", "p"], "DeleteUserPolicy"),
    (["credential", "create", *MINE, "--user", "app"], "CreateAccessKey"),
    (["credential", "deactivate", "{key}"], "UpdateAccessKey"),
    (["credential", "activate", "{key}"], "UpdateAccessKey"),
    (["credential", "update", "{key}", "--network", "192.0.2.0/24"], "UpdateAccessKey"),
    (["identity", "create", "owner.example", *DOMAIN, "--verified"], "CreateEmailIdentity"),
    (["identity", "dkim", "owner.example", *DOMAIN, "--disable"], "PutEmailIdentityDkimAttributes"),
    (["identity", "dkim", "owner.example", *DOMAIN, "--rotate"], "PutEmailIdentityDkimSigningAttributes"),
    (["identity", "create", "ann@person.example", *DOMAIN], "VerifyEmailIdentity"),
    (
        ["identity", "set", "owner.example", *DOMAIN, "--feedback-forwarding", "off"],
        "PutEmailIdentityFeedbackAttributes",
    ),
    (["identity", "mail-from", "owner.example", *DOMAIN, "--remove"], "PutEmailIdentityMailFromAttributes"),
    (["policy", "put", "lend", *LENT, "-"], "PutIdentityPolicy"),
    (["policy", "delete", "lend", *LENT], "DeleteIdentityPolicy"),
    (["configuration-set", "create", "news", *MINE], "CreateConfigurationSet"),
    (
        ["configuration-set", "update", "news", *MINE, "--tls-policy", "require"],
        "PutConfigurationSetDeliveryOptions",
    ),
    (["configuration-set", "suppress", "news", "none", *MINE], "PutConfigurationSetSuppressionOptions"),
    (["configuration-set", "pause", "news", *MINE], "PutConfigurationSetSendingOptions"),
    (["configuration-set", "resume", "news", *MINE], "PutConfigurationSetSendingOptions"),
    (["topic", "create", "events", *MINE], "CreateTopic"),
    (
        ["configuration-set", "destination", "news", "all", *MINE, "--topic", TOPIC, "--events", "bounce"],
        "PutConfigurationSetEventDestination",
    ),
    (["configuration-set", "delete", "news", *MINE], "DeleteConfigurationSet"),
    (["topic", "update", TOPIC, "--signature-version", "1"], "SetTopicAttributes"),
    (["topic", "allow", TOPIC, *DOMAIN], "AddPermission"),
    (["topic", "disallow", TOPIC, *DOMAIN], "RemovePermission"),
    (["topic", "subscribe", TOPIC, "events.jsonl", "--protocol", "file"], "Subscribe"),
    (["topic", "unsubscribe", "{subscription}"], "Unsubscribe"),
    (["topic", "delete", TOPIC], "DeleteTopic"),
    (["event", "replay", "--dead"], "ReplayNotifications"),
    (["suppression", "add", "a@x.example", *DOMAIN], "PutSuppressedDestination"),
    (["suppression", "import", *DOMAIN, "-"], "ImportSuppressedDestinations"),
    (["suppression", "remove", "a@x.example", *DOMAIN], "DeleteSuppressedDestination"),
    (["queue", "hold", "--all"], "HoldQueue"),
    (["queue", "retry", "--all"], "RetryQueue"),
    (["queue", "release", "--all"], "ReleaseQueue"),
    (["queue", "drop", "--all"], "DropQueue"),
    (["key", "add"], "AddKey"),
    (["key", "rotate"], "RotateKey"),
    (["key", "remove", "1", "--now"], "RemoveKey"),
    (["credential", "delete", "{key}"], "DeleteAccessKey"),
    (["user", "delete", "app", *MINE], "DeleteUser"),
    (["identity", "delete", "owner.example", *DOMAIN], "DeleteEmailIdentity"),
]
# These only look, or are told apart by what DNS or a code says (tests/e2e/test_verification.py).
READS = {"list", "show", "get", "who", "grants", "check", "test", "verify", "confirm", "export"}
# Only what failed for hours can be revived (tests/integration/feedback/test_poster.py).
ELSEWHERE = {("topic", "revive")}


@dataclass(frozen=True)
class Done:
    """An operation, and the entries that it left."""

    arguments: list[str]
    expected: str
    entries: list[dict]
    output: str


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("relay")
    recorder = Recorder(refused=frozenset())
    one = Gateway(directory, recorder)
    one.run("init", str(directory))
    yield one
    recorder.close()


@pytest.fixture(scope="module")
def done(relay: Gateway) -> list[Done]:
    """Every operation, once."""
    documents = {
        "policy": grant({"AWS": DELEGATE}, arn("owner.example")),
        "user": IAM,
        "suppression": {"address": "b@x.example", "reason": "BOUNCE"},
    }
    made, results = {"{key}": "", "{subscription}": ""}, []
    for arguments, action in OPERATIONS:
        before = len(entries(relay))
        given = [made.get(one, one) for one in arguments]
        stdin = json.dumps(documents.get(arguments[0])) if arguments[-1] == "-" else None
        # Only the mailed code is in the queue: an order that finds nothing is refused, and noted too.
        _, out, err = relay.invoke(*given, "--json", stdin=stdin)
        after = entries(relay)
        results.append(Done(given, action, after[: len(after) - before], out + err))
        if action == "CreateAccessKey":
            made["{key}"] = json.loads(out)["access_key_id"]
        if action == "Subscribe":
            made["{subscription}"] = json.loads(out)["subscription_arn"]
    return results


def entries(relay: Gateway, *options: str) -> list[dict]:
    return relay.run("audit", "--limit", "100000", *options)


def test_each_operation_leaves_its_entry(done):
    for one in done:
        assert one.expected in [entry["action"] for entry in one.entries], one
        assert {entry["actor"] for entry in one.entries} == {f"cli:{getpass.getuser()}"}


def test_no_secret_is_in_an_entry(relay, done):
    everything = json.dumps(entries(relay))
    [made] = [json.loads(one.output) for one in done if one.expected == "CreateAccessKey"]
    assert made["secret_access_key"] not in everything
    assert made["smtp_password"] not in everything
    assert "PRIVATE KEY" not in everything
    assert "confirmation" not in everything


def test_no_operation_is_missing_from_the_table():
    context = click.Context(main)
    groups = {name: main.get_command(context, name) for name in main.list_commands(context)}
    there = {
        (name, verb)
        for name, group in groups.items()
        if isinstance(group, click.Group)
        for verb in group.list_commands(context)
        if verb not in READS
    }
    assert there - ELSEWHERE == {(arguments[0], arguments[1]) for arguments, _ in OPERATIONS}


def test_filters(relay, done):
    paused = entries(relay, "--action", "PauseAccount")
    assert [(one["subject"], one["detail"]) for one in paused] == [
        (f"account:{OWNER}", {"paused": True, "pause_reason": "unpaid"})
    ]
    assert {one["subject"] for one in entries(relay, "--subject", "person.example")} == {
        f"identity:{OWNER}:ann@person.example"
    }
    assert entries(relay, "--actor", "cli:nobody-else") == []
    assert entries(relay, "--subject", "100%") == []
    assert len(entries(relay, "--days", "1")) == len(entries(relay))
    _, out, _ = relay.invoke("audit", "--action", "PauseAccount")
    assert out.splitlines()[1].split()[4:6] == ["PauseAccount", f"account:{OWNER}"]


def test_person_behind_sudo_is_named(relay, done, monkeypatch):
    monkeypatch.setitem(relay.environment, "SUDO_USER", "ann")
    relay.run("account", "update", OWNER, "--name", "renamed")
    assert entries(relay)[0]["actor"] == f"cli:ann as {getpass.getuser()}"


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_database_refuses_to_change_an_entry(relay, done, statement):
    connection = sqlite3.connect(relay.directory / "relay.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()
