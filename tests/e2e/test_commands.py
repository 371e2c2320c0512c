"""The command line: names and fields that scripts depend on, tables for people, exit codes, refusals."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.app.recorder import Recorder
from relay.store import schema
from tests.support.gateway import DELEGATE, OWNER, Gateway, arn, grant, user_arn

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Gateway]:
    """A store with an owner and a delegate; nothing is served."""
    recorder = Recorder(refused=frozenset())
    gateway = Gateway(tmp_path / "relay", recorder)
    gateway.run("init", str(tmp_path / "relay"))
    gateway.account(OWNER)
    gateway.account(DELEGATE)
    yield gateway
    recorder.close()


class TestInit:
    def test_makes_everything_readable_by_its_owner_only(self, relay):
        assert stat.S_IMODE(relay.directory.stat().st_mode) == 0o700
        made = {file.name: stat.S_IMODE(file.stat().st_mode) for file in relay.directory.iterdir()}
        assert {"relay.toml", "relay.key", "relay.crt", "relay.pem", "relay.db"} <= made.keys()
        assert {mode & 0o077 for mode in made.values()} == {0}

    def test_overwrites_nothing(self, relay):
        before = {
            name: (relay.directory / name).read_bytes() for name in ("relay.toml", "relay.key", "relay.crt")
        }
        done = relay.run("init", str(relay.directory))
        assert all(line.endswith("kept") for line in done.values()), done
        assert before == {name: (relay.directory / name).read_bytes() for name in before}

    def test_certificate_is_for_our_name(self, relay):
        certificate = x509.load_pem_x509_certificate((relay.directory / "relay.crt").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["relay.example"]

    def test_writes_what_it_is_told(self, relay, tmp_path):
        where = tmp_path / "other"
        relay.environment = {"RELAY_CONFIG": str(where / "relay.toml")}
        options = [
            "--region",
            "eu-west-1",
            "--hostname",
            "mx.example.com",
            "--smarthost",
            "hop.example.com:25",
        ]
        relay.run("init", str(where), *options)
        text = (where / "relay.toml").read_text()
        for line in (
            'region = "eu-west-1"',
            'hostname = "mx.example.com"',
            'smarthost = "hop.example.com:25"',
        ):
            assert line in text
        assert relay.run("account", "create", "x")["account_id"].isdigit()

    def test_example_in_the_repository_is_what_the_schema_says(self):
        from relay.settings import example

        assert (REPOSITORY / "config" / "relay.toml").read_text() == example()


class TestSettings:
    def test_all_problems_are_listed_at_once(self, relay):
        file = relay.directory / "relay.toml"
        file.write_text(file.read_text().replace("workers = 0", 'workers = "many"') + "\n[nonsense]\nx = 1\n")
        relay.environment = {"RELAY_CONFIG": str(file), "RELAY_SMTP__LISTEN": "nowhere"}
        code, _, err = relay.invoke("account", "list")
        assert code == 1
        assert "[relay] workers" in err
        assert "[nonsense]" in err
        assert "RELAY_SMTP__LISTEN" in err

    def test_serve_says_what_is_missing(self, relay):
        relay.environment["RELAY_DELIVERY__CA_FILE"] = "no-such.pem"
        relay.environment["RELAY_WEBHOOKS__CA_FILE"] = "no-such.pem"
        (relay.directory / "relay.crt").unlink()
        code, _, err = relay.invoke("serve")
        assert code == 1
        assert "[delivery] ca_file" in err
        assert "[webhooks] ca_file" in err
        assert "[smtp] certificate" in err

    def test_missing_settings_file_names_the_cure(self, relay, tmp_path):
        code, _, err = relay.invoke("account", "list", "--config", str(tmp_path / "none" / "relay.toml"))
        assert code == 1
        assert "relay init" in err

    @pytest.mark.parametrize(
        ("harm", "cure"),
        [
            (lambda d: (d / "relay.key").unlink(), "no such key file"),
            (lambda d: (d / "relay.key").chmod(0o644), "chmod 600"),
            (lambda d: (d / "relay.key").write_text("{}"), "not a key file"),
            (lambda d: (d / "relay.db").unlink(), "relay init"),
        ],
        ids=["missing key", "open key", "broken key", "missing store"],
    )
    def test_store_that_cannot_be_used_says_why(self, relay, harm, cure):
        harm(relay.directory)
        code, _, err = relay.invoke("account", "list")
        assert code == 1
        assert cure in err


class TestAccounts:
    def test_fields(self, relay):
        made = relay.run("account", "create", "third", "--max-24h-send", "10", "--max-send-rate", "2")
        shown = relay.run("account", "show", made["account_id"])
        assert (shown["max_24h_send"], shown["max_send_rate"], shown["production"]) == (10, 2, False)
        relay.run("account", "update", made["account_id"], "--production", "--name", "renamed")
        shown = relay.run("account", "pause", made["account_id"], "--reason", "unpaid")
        assert (shown["name"], shown["production"], shown["paused"], shown["pause_reason"]) == (
            "renamed",
            True,
            True,
            "unpaid",
        )
        assert relay.run("account", "resume", made["account_id"])["paused"] is False
        assert made["account_id"] in [row["account_id"] for row in relay.run("account", "list")]

    def test_sandbox_and_production_have_sess_quotas(self, relay):
        sandbox = relay.run("account", "show", relay.run("account", "create", "s")["account_id"])
        assert (sandbox["max_24h_send"], sandbox["max_send_rate"]) == (200, 1)
        production = relay.run(
            "account", "show", relay.run("account", "create", "p", "--production")["account_id"]
        )
        assert (production["max_24h_send"], production["max_send_rate"]) == (50_000, 14)

    def test_leaving_the_sandbox_raises_quotas_that_nobody_set(self, relay):
        made = relay.run("account", "create", "u", "--max-send-rate", "3")
        shown = relay.run("account", "update", made["account_id"], "--production")
        assert (shown["max_24h_send"], shown["max_send_rate"]) == (50_000, 3)

    def test_unlimited_is_said_in_words(self, relay):
        made = relay.run("account", "create", "w", "--max-24h-send", "-1")
        _, out, _ = relay.invoke("account", "show", made["account_id"])
        assert ["left_24h", "unlimited"] in [line.split() for line in out.splitlines()]
        assert relay.run("account", "show", made["account_id"])["left_24h"] == -1

    @pytest.mark.parametrize(
        ("arguments", "code", "word"),
        [
            (["account", "create", "x", "--id", "123"], 1, "12 digits"),
            (["account", "create", "x", "--id", OWNER], 1, "exists already"),
            (["account", "show", "999999999999"], 1, "relay account list"),
            (["account", "update", OWNER], 1, "name what to change"),
            (["account", "create"], 2, "Missing argument"),
            (["account", "create", "x", "--max-send-rate", "-2"], 2, "--max-send-rate"),
            (["account", "nonsense"], 2, "No such command"),
            (["nonsense"], 2, "No such command"),
        ],
    )
    def test_refusals(self, relay, arguments, code, word):
        got, _, err = relay.invoke(*arguments)
        assert (got, word in err) == (code, True), err


class TestUsers:
    def test_fields(self, relay):
        made = relay.run(
            "user", "create", "app", "--account", DELEGATE, "--path", "/apps/", "--tag", "team=mail"
        )
        assert made["arn"] == f"arn:aws:iam::{DELEGATE}:user/apps/app"
        assert made["user_id"].startswith("AIDA")
        [listed] = relay.run("user", "list", "--account", DELEGATE)
        assert (listed["name"], listed["tags"], listed["policies"]) == (
            "app",
            {"team": "mail"},
            ["AllowSending"],
        )

    def test_policies(self, relay):
        relay.run("user", "create", "app", "--account", DELEGATE)
        document = '{"Statement": {"Effect": "Deny", "Action": "ses:*", "Resource": "*"}}'
        arguments = ["--account", DELEGATE, "--policy-name", "no"]
        relay.run("user", "put-policy", "app", "-", *arguments, stdin=document)
        [listed] = relay.run("user", "list", "--account", DELEGATE)
        assert listed["policies"] == ["AllowSending", "no"]
        relay.run("user", "delete-policy", "app", *arguments)
        code, _, err = relay.invoke("user", "delete-policy", "app", *arguments)
        assert (code, "no policy" in err) == (1, True)

    def test_malformed_policy_is_refused_with_its_place(self, relay):
        relay.run("user", "create", "app", "--account", DELEGATE)
        document = '{"Statement":\n  {"Effect": "Deny", "Acton": "ses:*", "Resource": "*"}}'
        code, _, err = relay.invoke(
            "user", "put-policy", "app", "-", "--account", DELEGATE, "--policy-name", "no", stdin=document
        )
        assert code == 1
        assert "line 2" in err
        assert "/Statement/Acton" in err

    def test_user_with_credentials_is_not_deleted_by_mistake(self, relay):
        relay.login("app")
        code, _, err = relay.invoke("user", "delete", "app", "--account", DELEGATE)
        assert (code, "--force" in err) == (1, True)
        relay.run("user", "delete", "app", "--account", DELEGATE, "--force")
        assert relay.run("credential", "list", "--account", DELEGATE) == []


class TestConfigurationSets:
    def test_fields(self, relay):
        made = relay.run("configuration-set", "create", "news", "--account", DELEGATE)
        assert (made["name"], made["tls_policy"], made["sending_enabled"]) == ("news", "OPTIONAL", True)
        named = ("news", "--account", DELEGATE)
        changed = relay.run("configuration-set", "update", *named, "--tls-policy", "require")
        assert changed["tls_policy"] == "REQUIRE"
        assert relay.run("configuration-set", "update", *named, "--no-sending")["sending_enabled"] is False
        assert relay.run("configuration-set", "show", *named)["tls_policy"] == "REQUIRE"
        assert [one["name"] for one in relay.run("configuration-set", "list")] == ["news"]
        relay.run("configuration-set", "delete", *named)
        assert relay.run("configuration-set", "list") == []

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["create", "a b"], "1 to 64 of A-Z"),
            (["create", "held"], "has a set held already"),
            (["update", "held"], "--tls-policy require"),
            (["show", "other"], "relay configuration-set list"),
            (["delete", "other"], "has no configuration set other"),
        ],
    )
    def test_what_cannot_be_is_refused(self, relay, arguments, told):
        relay.run("configuration-set", "create", "held", "--account", DELEGATE)
        code, _, err = relay.invoke("configuration-set", *arguments, "--account", DELEGATE)
        assert (code, told in err) == (1, True), err


class TestCredentials:
    def test_fields(self, relay):
        relay.run("user", "create", "app", "--account", DELEGATE)
        made = relay.run("credential", "create", "--account", DELEGATE, "--user", "app")
        assert made.keys() == {
            "access_key_id",
            "secret_access_key",
            "smtp_username",
            "smtp_password",
            "region",
        }
        assert made["access_key_id"] == made["smtp_username"]
        assert len(made["smtp_password"]) == 44
        assert made["region"] == "us-east-1"

    def test_secret_is_shown_once_and_stored_sealed(self, relay):
        relay.run("user", "create", "app", "--account", DELEGATE)
        made = relay.run("credential", "create", "--account", DELEGATE, "--user", "app")
        listed = json.dumps(relay.run("credential", "list", "--account", DELEGATE))
        content = b"".join(file.read_bytes() for file in relay.directory.glob("relay.db*"))
        for secret in (made["secret_access_key"], made["smtp_password"]):
            assert secret not in listed
            assert secret.encode() not in content

    def test_two_at_most(self, relay):
        relay.login("app")
        relay.run("credential", "create", "--account", DELEGATE, "--user", "app")
        code, _, err = relay.invoke("credential", "create", "--account", DELEGATE, "--user", "app")
        assert (code, "delete one" in err) == (1, True)

    def test_switched_off_and_on_and_deleted(self, relay):
        login = relay.login("app")
        assert relay.run("credential", "deactivate", login.username)["active"] is False
        assert relay.run("credential", "activate", login.username)["active"] is True
        relay.run("credential", "delete", login.username)
        assert relay.invoke("credential", "activate", login.username)[0] == 1

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["--user", "a", "--service", "b.amazonaws.com"],
            ["--user", "a", "--source-arn", "arn:aws:x:::y"],
        ],
    )
    def test_whose_it_is_must_be_said_once(self, relay, arguments):
        assert relay.invoke("credential", "create", "--account", DELEGATE, *arguments)[0] == 2


class TestIdentities:
    def test_fields(self, relay):
        made = relay.run("identity", "create", "Owner.Example", "--account", OWNER)
        assert made["arn"] == arn("owner.example")
        assert (made["type"], made["verification_status"]) == ("DOMAIN", "PENDING")
        names = [record["name"] for record in made["dns_records"]]
        assert names[0].endswith("._domainkey.owner.example")
        assert names[1] == "_amazonses.owner.example"
        assert made["dns_records"][0]["value"].startswith("v=DKIM1; k=rsa; p=")

    def test_address(self, relay):
        made = relay.run("identity", "create", "Ann@Owner.Example", "--account", OWNER, "--verified")
        assert made["arn"] == arn("Ann@owner.example")
        assert (made["type"], made["verification_status"], made["dns_records"]) == (
            "EMAIL_ADDRESS",
            "SUCCESS",
            [],
        )

    @pytest.mark.parametrize(
        "name", ["example", "a..b", "x-.example", '"q"@owner.example', "a@b@c.example", ""]
    )
    def test_bad_names_are_refused(self, relay, name):
        assert relay.invoke("identity", "create", name, "--account", OWNER)[0] == 1

    def test_second_signature(self, relay):
        relay.identity("owner.example")
        command = ["identity", "dkim", "owner.example", "--account", OWNER]
        both = relay.run(*command, "--algorithm", "both")
        assert [key["algorithm"] for key in both["keys"]] == ["rsa-sha256", "ed25519-sha256"]
        assert [key["algorithm"] for key in relay.run(*command, "--algorithm", "rsa-2048")["keys"]] == [
            "rsa-sha256"
        ]

    def test_imported_key(self, relay, tmp_path):
        relay.identity("owner.example")
        command = ["identity", "dkim", "owner.example", "--account", OWNER]
        (tmp_path / "key.pem").write_bytes(pem(2048))
        done = relay.run(*command, "--import", str(tmp_path / "key.pem"), "--selector", "mine")
        assert done["keys"] == [{"selector": "mine", "algorithm": "rsa-sha256", "status": "signing"}]
        (tmp_path / "small.pem").write_bytes(pem(1024))
        code, _, err = relay.invoke(*command, "--import", str(tmp_path / "small.pem"), "--selector", "small")
        assert (code, "2048" in err) == (1, True)
        assert relay.run(*command)["keys"] == done["keys"]

    def test_switch(self, relay):
        relay.identity("owner.example")
        command = ["identity", "dkim", "owner.example", "--account", OWNER]
        assert relay.run(*command, "--disable")["dkim_enabled"] is False
        assert relay.run(*command, "--enable")["dkim_enabled"] is True

    def test_show_and_delete(self, relay):
        relay.identity("owner.example")
        relay.policy(arn("owner.example"), grant({"AWS": user_arn("app")}, arn("owner.example")))
        assert relay.run("identity", "show", "owner.example", "--account", OWNER)["policies"] == ["lend"]
        relay.run("identity", "delete", "owner.example", "--account", OWNER)
        assert relay.run("identity", "list") == []


def pem(bits: int) -> bytes:
    key = generate_private_key(65537, bits)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class TestPolicies:
    def test_put_list_show_delete(self, relay):
        relay.identity("owner.example")
        document = grant({"AWS": user_arn("app")}, arn("owner.example"))
        relay.policy(arn("owner.example"), document)
        where = ["--identity", arn("owner.example")]
        assert [row["policy"] for row in relay.run("policy", "list", *where)] == ["lend"]
        assert json.loads(relay.run("policy", "show", "lend", *where)["document"]) == document
        relay.run("policy", "delete", "lend", *where)
        assert relay.invoke("policy", "show", "lend", *where)[0] == 1
        assert relay.invoke("policy", "delete", "lend", *where)[0] == 1

    def test_policy_of_another_identity_is_refused_with_its_place(self, relay):
        relay.identity("owner.example")
        document = json.dumps(grant({"AWS": user_arn("app")}, arn("other.example")), indent=1)
        code, _, err = relay.invoke(
            "policy", "put", "lend", "-", "--identity", arn("owner.example"), stdin=document
        )
        assert code == 1
        assert "/Statement/0/Resource" in err
        assert arn("owner.example") in err

    def test_warnings_do_not_refuse(self, relay):
        relay.identity("owner.example")
        code, out, err = relay.invoke(
            "policy",
            "put",
            "open",
            "-",
            "--identity",
            arn("owner.example"),
            stdin=json.dumps(grant("*", arn("owner.example"))),
        )
        assert code == 0
        assert "warning: " in err
        assert "everyone" in out + err

    def test_unverified_identity_is_not_lent(self, relay):
        relay.identity("owner.example", verified=False)
        code, _, err = relay.invoke(
            "policy", "put", "lend", "-", "--identity", arn("owner.example"), stdin="{}"
        )
        assert (code, "not verified" in err) == (1, True)

    def test_twenty_at_most(self, relay):
        relay.identity("owner.example")
        document = grant({"AWS": user_arn("app")}, arn("owner.example"))
        for number in range(20):
            relay.policy(arn("owner.example"), document, f"p{number}")
        relay.policy(arn("owner.example"), document, "p0")
        with pytest.raises(AssertionError, match="20 policies already"):
            relay.policy(arn("owner.example"), document, "p20")

    @pytest.mark.parametrize("stdin", [b"\xff\xfe", b"", b"[]", b'{"Statement": []}'])
    def test_any_octets_are_refused_in_words(self, relay, tmp_path, stdin):
        relay.identity("owner.example")
        (tmp_path / "policy").write_bytes(stdin)
        code, _, err = relay.invoke(
            "policy", "put", "lend", str(tmp_path / "policy"), "--identity", arn("owner.example")
        )
        assert code == 1
        assert err
        assert "Traceback" not in err


class TestOutput:
    def test_tables_for_people(self, relay):
        relay.login("app")
        code, out, _ = relay.invoke("account", "list")
        assert code == 0
        assert out.splitlines()[0].split() == [
            "account",
            "name",
            "production",
            "paused",
            "24",
            "h",
            "per",
            "second",
        ]
        assert OWNER in out

    def test_errors_for_machines(self, relay):
        _, out, err = relay.invoke("account", "show", "999999999999", "--json")
        assert out == ""
        assert json.loads(err)["error"] == "not_found"

    @pytest.mark.parametrize(
        "noun", ["account", "user", "credential", "identity", "policy", "queue", "message", "serve", "init"]
    )
    def test_every_command_has_help(self, relay, noun):
        code, out, _ = relay.invoke(noun, "--help")
        assert code == 0
        assert "Usage:" in out

    def test_unknown_message(self, relay):
        code, _, err = relay.invoke("message", "show", "ABCDEFGH")
        assert (code, "no message or refusal" in err) == (1, True)

    def test_empty_queue(self, relay):
        assert relay.invoke("queue", "list")[1] == "none\n"


def test_migrate_says_what_it_did(relay):
    assert relay.run("migrate") == {"before": schema.REVISION, "now": schema.REVISION}


def test_umask_of_the_caller_does_not_matter(relay, tmp_path):
    before = os.umask(0)
    try:
        relay.run("init", str(tmp_path / "open"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open" / "relay.key").stat().st_mode) == 0o600
