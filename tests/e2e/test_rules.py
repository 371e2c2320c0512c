"""The rules R1 to R19 that the main path shows, each through real SMTP.

Each test lends an identity of its own, so that none depends on another's policies.
"""

from __future__ import annotations

import email
import itertools

import dkim
import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import (
    DELEGATE,
    OWNER,
    STRANGER,
    Gateway,
    Login,
    arn,
    grant,
    transact,
    user_arn,
)

APP = {"AWS": user_arn("app")}
_numbers = itertools.count(1)


@pytest.fixture
def lent(gateway: Gateway, app: Login) -> str:
    """A fresh verified domain of the owner, without a policy; its name."""
    name = f"d{next(_numbers)}.example"
    gateway.identity(name)
    return name


def refusal(user: str, resource: str) -> str:
    action = "ses:SendRawEmail"
    return f"Access denied: User `{user}' is not authorized to perform `{action}' on resource `{resource}'"


def send_as(gateway: Gateway, login: Login, address: str, **more: object) -> tuple[int, str]:
    """From and MAIL FROM alike."""
    headers = {"From": address, **more.pop("headers", {})}  # type: ignore[dict-item]
    return gateway.send(login, mail_from=address, headers=headers, **more)  # type: ignore[arg-type]


class TestR01:
    @pytest.mark.parametrize("local", ["a", "a+label", "news.letter"])
    def test_r01_domain_covers_its_addresses(self, gateway, app, lent, local):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        assert send_as(gateway, app, f"{local}@{lent}", arns=arn(lent))[0] == 250

    @pytest.mark.parametrize("sub", ["x", "a.b.c"])
    def test_r01_domain_covers_its_subdomains(self, gateway, app, lent, sub):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        assert send_as(gateway, app, f"a@{sub}.{lent}", arns=arn(lent))[0] == 250

    def test_r01_domain_does_not_cover_a_name_that_merely_ends_like_it(self, gateway, app, lent):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        code, text = send_as(gateway, app, f"a@not{lent}", arns=arn(lent))
        assert code == 554
        assert text.startswith("Message rejected: Email address is not verified.")

    def test_r01_address_identity_covers_itself_and_its_labels_only(self, gateway, app, lent):
        address = f"billing@{lent}"
        gateway.identity(address)
        gateway.policy(arn(address), grant(APP, arn(address)))
        assert send_as(gateway, app, address, arns=arn(address))[0] == 250
        assert send_as(gateway, app, f"billing+x@{lent}", arns=arn(address))[0] == 250
        assert send_as(gateway, app, f"other@{lent}", arns=arn(address))[0] == 554

    def test_r01_address_level_is_asked_before_the_domain(self, gateway, app, lent):
        address = f"billing@{lent}"
        gateway.identity(address)
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        gateway.policy(arn(address), grant(APP, arn(address), Effect="Deny"))
        assert send_as(gateway, app, f"other@{lent}", arns=arn(lent))[0] == 250
        code, text = send_as(gateway, app, address, arns=arn(lent))
        assert code == 554
        assert refusal(user_arn("app"), arn(lent)) in text

    def test_r01_allow_on_the_address_beats_deny_on_the_domain(self, gateway, app, lent):
        address = f"billing@{lent}"
        gateway.identity(address)
        gateway.policy(arn(lent), grant(APP, arn(lent), Effect="Deny"))
        gateway.policy(arn(address), grant(APP, arn(address)))
        assert send_as(gateway, app, address, arns=arn(address))[0] == 250
        assert send_as(gateway, app, f"other@{lent}", arns=arn(lent))[0] == 554


class TestR04:
    def test_r04_several_policies_count_together_and_deny_wins(self, gateway, app, lent):
        gateway.policy(arn(lent), grant(APP, arn(lent)), "allow")
        assert send_as(gateway, app, f"a@{lent}", arns=arn(lent))[0] == 250
        deny = grant(
            "*", arn(lent), Effect="Deny", Condition={"StringLike": {"ses:FromAddress": f"ceo@{lent}"}}
        )
        gateway.policy(arn(lent), deny, "deny")
        assert send_as(gateway, app, f"a@{lent}", arns=arn(lent))[0] == 250
        assert send_as(gateway, app, f"ceo@{lent}", arns=arn(lent))[0] == 554

    def test_r04_editing_and_deleting_take_effect(self, gateway, app, lent):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        assert send_as(gateway, app, f"a@{lent}", arns=arn(lent))[0] == 250
        gateway.policy(arn(lent), grant({"AWS": user_arn("app")}, arn(lent), Effect="Deny"))
        assert send_as(gateway, app, f"a@{lent}", arns=arn(lent))[0] == 554
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        assert send_as(gateway, app, f"a@{lent}", arns=arn(lent))[0] == 250
        gateway.run("policy", "delete", "lend", "--identity", arn(lent))
        assert send_as(gateway, app, f"a@{lent}", arns=arn(lent))[0] == 554


class TestR05:
    @pytest.mark.parametrize("field", ["X-SES-SOURCE-ARN", "X-SES-FROM-ARN", "x-ses-source-arn"])
    def test_r05_one_arn_serves_both_addresses(self, gateway, app, lent, field):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        assert send_as(gateway, app, f"a@{lent}", headers={field: arn(lent)})[0] == 250

    def test_r05_return_path_arn_alone_does_not_serve_from(self, gateway, app, lent):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        code, text = send_as(gateway, app, f"a@{lent}", headers={"X-SES-RETURN-PATH-ARN": arn(lent)})
        assert (code, "not verified" in text) == (554, True)

    def test_r05_control_fields_never_leave(self, gateway, app, lent, recorder: Recorder):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        rcpt = f"control-{lent}@customer.example"
        headers = {"X-SES-MESSAGE-TAGS": "a=b", "Bcc": "secret@customer.example", "X-Kept": "yes"}
        assert send_as(gateway, app, f"a@{lent}", rcpt=rcpt, arns=arn(lent), headers=headers)[0] == 250
        arrived = email.message_from_bytes(recorder.wait_for(rcpt, 10).data)
        assert not [name for name in arrived if name.lower().startswith("x-ses-")]
        assert arrived["Bcc"] is None
        assert arrived["X-Kept"] == "yes"

    @pytest.mark.parametrize(
        "bad",
        [
            "nonsense",
            "arn:aws:ses:us-east-1:111122223333:identity/unknown.{lent}",
            "arn:aws:ses:us-east-1:999999999999:identity/{lent}",
            "arn:aws:ses:us-east-1:111122223333:template/{lent}",
            "ARN:aws:ses:us-east-1:111122223333:identity/{lent}",
        ],
    )
    def test_r05_unknown_and_malformed_arns_are_denied_alike(self, gateway, app, lent, bad):
        bad = bad.format(lent=lent)
        address = f"a@unknown.{lent}" if "unknown" in bad else f"a@{lent}"
        code, text = send_as(gateway, app, address, arns=bad)
        assert code == 554
        assert refusal(user_arn("app"), bad) in text

    def test_r05_repeated_arn_field_is_refused(self, gateway, app, lent):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        message = (
            f"From: a@{lent}\r\nX-SES-SOURCE-ARN: {arn(lent)}\r\nX-SES-SOURCE-ARN: {arn(lent)}\r\n\r\nx\r\n"
        )
        with gateway.client(app) as client:
            code, text = transact(client, f"a@{lent}", ["user@customer.example"], message)
        assert code == 554
        assert "X-SES-SOURCE-ARN".lower() in text.lower()


class TestR06:
    def test_r06_return_path_needs_its_own_grant(self, gateway, app, lent):
        condition = {"StringEquals": {"ses:FeedbackAddress": f"bounces@{lent}"}}
        gateway.policy(arn(lent), grant(APP, arn(lent), Condition=condition))
        headers = {"From": f"a@{lent}"}
        ok = gateway.send(app, mail_from=f"bounces@{lent}", headers=headers, arns=arn(lent))
        assert ok[0] == 250
        code, text = gateway.send(app, mail_from=f"other@{lent}", headers=headers, arns=arn(lent))
        assert code == 554
        assert f"ses:FeedbackAddress other@{lent}" in text

    def test_r06_return_path_of_another_owner_needs_that_owners_grant(self, gateway, app, lent):
        other = f"other-{lent}"
        gateway.identity(other)
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        headers = {"From": f"a@{lent}", "X-SES-RETURN-PATH-ARN": arn(other)}
        kwargs = {"mail_from": f"b@{other}", "headers": {**headers, "X-SES-SOURCE-ARN": arn(lent)}}
        code, text = gateway.send(app, **kwargs)
        assert code == 554
        assert refusal(user_arn("app"), arn(other)) in text
        gateway.policy(arn(other), grant(APP, arn(other)))
        assert gateway.send(app, **kwargs)[0] == 250

    def test_r06_from_needs_its_own_grant(self, gateway, app, lent):
        condition = {"StringLike": {"ses:FromAddress": f"alerts@{lent}"}}
        gateway.policy(arn(lent), grant(APP, arn(lent), Condition=condition))
        assert send_as(gateway, app, f"alerts@{lent}", arns=arn(lent))[0] == 250
        code, text = send_as(gateway, app, f"ceo@{lent}", arns=arn(lent))
        assert code == 554
        lines = text.splitlines()
        assert lines[0] == refusal(user_arn("app"), arn(lent))
        assert lines[1].startswith(f"No statement allows ses:FromAddress ceo@{lent}; reference ")

    def test_r06_sender_field_is_an_identity_too(self, gateway, app, lent):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        headers = {"Sender": "someone@elsewhere.example"}
        code, text = send_as(gateway, app, f"a@{lent}", arns=arn(lent), headers=headers)
        assert code == 554
        assert "someone@elsewhere.example" in text


class TestR07:
    def test_r07_refused_message_is_not_queued(self, gateway, app, lent, recorder: Recorder):
        rcpt = f"never-{lent}@customer.example"
        code, text = send_as(gateway, app, f"a@{lent}", rcpt=rcpt, arns=arn(lent))
        assert code == 554
        reference = text.split("relay message show ")[1].rstrip(")")
        shown = gateway.run("message", "show", reference)
        assert shown["reason"] == "access_denied"
        assert shown["record"]["send"]["mail_from"] == f"a@{lent}"
        assert all(row["recipient"] != rcpt for row in gateway.run("queue", "list"))
        assert all(rcpt not in message.recipients for message in recorder.arrived)

    def test_r07_session_goes_on_after_a_refusal(self, gateway, app, lent):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        message = f"From: a@{lent}\r\nX-SES-SOURCE-ARN: {arn(lent)}\r\n\r\nx\r\n"
        with gateway.client(app) as client:
            assert transact(client, "a@foreign.example", ["u@customer.example"], message)[0] == 554
            assert transact(client, f"a@{lent}", ["u@customer.example"], message)[0] == 250


class TestR11:
    def test_r11_delegates_mail_is_signed_with_the_owners_key(self, gateway, app, lent, recorder):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        rcpt = f"signed-{lent}@customer.example"
        assert send_as(gateway, app, f"a@{lent}", rcpt=rcpt, arns=arn(lent))[0] == 250
        data = recorder.wait_for(rcpt, 10).data
        assert verifies(data, gateway.records)
        assert f"d={lent};" in email.message_from_bytes(data)["DKIM-Signature"]

    def test_r11_only_the_owner_turns_it_off_and_on(self, gateway, app, lent, recorder):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        for switch, is_signed in (("--disable", False), ("--enable", True)):
            gateway.run("identity", "dkim", lent, "--account", OWNER, switch)
            rcpt = f"switch{switch}-{lent}@customer.example"
            assert send_as(gateway, app, f"a@{lent}", rcpt=rcpt, arns=arn(lent))[0] == 250
            data = recorder.wait_for(rcpt, 10).data
            assert (b"DKIM-Signature" in data) is is_signed

    def test_r11_address_identity_is_signed_by_the_domain_above_it(self, gateway, app, lent, recorder):
        address = f"billing@{lent}"
        gateway.identity(address)
        gateway.policy(arn(address), grant(APP, arn(address)))
        rcpt = f"above-{lent}@customer.example"
        assert send_as(gateway, app, address, rcpt=rcpt, arns=arn(address))[0] == 250
        assert verifies(recorder.wait_for(rcpt, 10).data, gateway.records)

    def test_r11_foreign_signature_in_the_owners_name_is_removed(self, gateway, app, lent, recorder):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        rcpt = f"forged-{lent}@customer.example"
        forged = {"DKIM-Signature": f"v=1; a=rsa-sha256; d={lent}; s=x; h=from; bh=AAAA; b=BBBB"}
        assert send_as(gateway, app, f"a@{lent}", rcpt=rcpt, arns=arn(lent), headers=forged)[0] == 250
        message = email.message_from_bytes(recorder.wait_for(rcpt, 10).data)
        assert len(message.get_all("DKIM-Signature")) == 1
        assert "s=x;" not in message["DKIM-Signature"]


class TestR13:
    def test_r13_bounce_reaches_the_return_path_when_nobody_else_is_told(self, gateway, app, lent, recorder):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        back = f"back@{lent}"
        code, text = gateway.send(
            app, mail_from=back, rcpt="nobody@customer.example", headers={"From": f"a@{lent}"}, arns=arn(lent)
        )
        assert code == 250
        arrived = recorder.wait_for(back, 15)
        assert arrived.reverse_path == ""
        report = email.message_from_bytes(arrived.data)
        assert report.get_content_type() == "multipart/report"
        assert report.get_param("report-type") == "delivery-status"
        assert report["Auto-Submitted"] == "auto-replied"
        status = report.get_payload()[1].get_payload()[1]
        assert status["Final-Recipient"] == "rfc822; nobody@customer.example"
        assert status["Action"] == "failed"
        assert status["Status"] == "5.1.1"
        assert report["DKIM-Signature"] is None
        assert text.split()[-1] in gateway.log()

    def test_r13_return_path_field_beats_mail_from(self, gateway, app, lent, recorder):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        headers = {"From": f"a@{lent}", "Return-Path": f"<field@{lent}>"}
        code, _ = gateway.send(
            app, mail_from=f"mf@{lent}", rcpt="nobody@customer.example", headers=headers, arns=arn(lent)
        )
        assert code == 250
        recorder.wait_for(f"field@{lent}", 15)

    def test_r13_never_a_bounce_for_a_bounce(self, gateway, app, recorder):
        name = "refusing.example"
        gateway.identity(name)
        gateway.policy(arn(name), grant(APP, arn(name)))
        before = len(recorder.arrived)
        code, text = gateway.send(
            app,
            mail_from=f"bounces@{name}",
            rcpt="nobody@customer.example",
            headers={"From": f"a@{name}"},
            arns=arn(name),
        )
        assert code == 250
        wait_until(lambda: gateway.log().count(f"to=bounces@{name}") >= 1)
        # The outcome is told before the next group commit takes it.
        wait_until(lambda: all(row["recipient"] != f"bounces@{name}" for row in gateway.run("queue", "list")))
        assert len(recorder.arrived) == before


class TestR14:
    def test_r14_identity_of_another_region_is_denied(self, gateway, app, lent):
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        elsewhere = arn(lent).replace("us-east-1", "eu-west-1")
        code, text = send_as(gateway, app, f"a@{lent}", arns=elsewhere)
        assert code == 554
        assert refusal(user_arn("app"), elsewhere) in text

    def test_r14_store_of_another_region_is_not_served(self, gateway):
        environment = {**gateway.environment, "RELAY_RELAY__REGION": "eu-west-1"}
        saved, gateway.environment = gateway.environment, environment
        try:
            code, _, err = gateway.invoke("serve")
        finally:
            gateway.environment = saved
        assert code == 1
        assert "us-east-1" in err


SANDBOX = "444455556666"


@pytest.fixture(scope="module")
def sandboxed(gateway) -> Login:
    """The user of an account that is still in the sandbox and has verified inbox.example."""
    gateway.account(SANDBOX, production=False)
    gateway.identity("inbox.example", account=SANDBOX)
    return gateway.login("app", account=SANDBOX)


class TestR15:
    @pytest.mark.parametrize(
        ("rcpt", "expected"),
        [
            ("anyone@inbox.example", 250),
            ("success@simulator.amazonses.com", 250),
            ("user@customer.example", 554),
        ],
    )
    def test_r15_sandbox_sends_only_to_verified_recipients(self, gateway, sandboxed, lent, rcpt, expected):
        who = {"AWS": user_arn("app", SANDBOX)}
        gateway.policy(arn(lent), grant(who, arn(lent)))
        code, text = send_as(gateway, sandboxed, f"a@{lent}", rcpt=rcpt, arns=arn(lent))
        assert code == expected
        if expected == 554:
            assert text.startswith(
                "Message rejected: Email address is not verified. The following identities failed the"
                f" check in region US-EAST-1: {rcpt}"
            )

    def test_r15_recipient_verified_by_the_owner_does_not_help_the_delegate(self, gateway, sandboxed, lent):
        who = {"AWS": user_arn("app", SANDBOX)}
        gateway.policy(arn(lent), grant(who, arn(lent)))
        assert send_as(gateway, sandboxed, f"a@{lent}", rcpt=f"b@{lent}", arns=arn(lent))[0] == 554


SERVICE = "cognito-idp.amazonaws.com"
POOL = f"arn:aws:cognito-idp:us-east-1:{DELEGATE}:userpool/us-east-1_abc"


@pytest.fixture(scope="module")
def service(gateway) -> Login:
    """A service's credential that acts for a user pool of the delegate."""
    made = gateway.run(
        "credential", "create", "--account", DELEGATE, "--service", SERVICE, "--source-arn", POOL
    )
    return Login(made["smtp_username"], made["smtp_password"])


class TestR17:
    def test_r17_whole_account_is_a_principal(self, gateway, app, lent):
        gateway.policy(arn(lent), grant({"AWS": DELEGATE}, arn(lent)))
        assert send_as(gateway, app, f"a@{lent}", arns=arn(lent))[0] == 250
        gateway.policy(arn(lent), grant({"AWS": f"arn:aws:iam::{OWNER}:root"}, arn(lent)))
        assert send_as(gateway, app, f"a@{lent}", arns=arn(lent))[0] == 554

    def test_r17_one_user_is_a_principal_and_no_other(self, gateway, app, lent):
        other = gateway.login(f"other{next(_numbers)}")
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        assert send_as(gateway, app, f"a@{lent}", arns=arn(lent))[0] == 250
        assert send_as(gateway, other, f"a@{lent}", arns=arn(lent))[0] == 554

    def test_r17_service_is_a_principal_with_its_source(self, gateway, service, app, lent):
        condition = {
            "StringEquals": {"aws:SourceAccount": DELEGATE},
            "ArnLike": {"aws:SourceArn": POOL},
        }
        gateway.policy(arn(lent), grant({"Service": SERVICE}, arn(lent), Condition=condition))
        assert send_as(gateway, service, f"a@{lent}", arns=arn(lent))[0] == 250
        assert send_as(gateway, app, f"a@{lent}", arns=arn(lent))[0] == 554
        wrong = {"StringEquals": {"aws:SourceAccount": STRANGER}}
        gateway.policy(arn(lent), grant({"Service": SERVICE}, arn(lent), Condition=wrong))
        assert send_as(gateway, service, f"a@{lent}", arns=arn(lent))[0] == 554

    def test_r17_user_made_again_inherits_no_grant(self, gateway, lent):
        name = f"short{next(_numbers)}"
        first = gateway.login(name)
        gateway.policy(arn(lent), grant({"AWS": user_arn(name)}, arn(lent)))
        assert send_as(gateway, first, f"a@{lent}", arns=arn(lent))[0] == 250
        gateway.run("user", "delete", name, "--account", DELEGATE, "--force")
        again = gateway.login(name)
        assert send_as(gateway, again, f"a@{lent}", arns=arn(lent))[0] == 554


class TestR19:
    def test_r19_own_identity_needs_no_policy(self, gateway, lent):
        own = gateway.login(f"own{next(_numbers)}", account=OWNER)
        assert send_as(gateway, own, f"a@{lent}")[0] == 250
        assert send_as(gateway, own, f"a@{lent}", arns=arn(lent))[0] == 250

    def test_r19_explicit_deny_still_counts(self, gateway, lent):
        user = f"own{next(_numbers)}"
        own = gateway.login(user, account=OWNER)
        gateway.policy(arn(lent), grant({"AWS": user_arn(user, OWNER)}, arn(lent), Effect="Deny"))
        code, text = send_as(gateway, own, f"a@{lent}")
        assert code == 554
        assert refusal(user_arn(user, OWNER), arn(lent)) in text

    def test_r19_users_own_policies_must_allow(self, gateway, lent):
        user = f"own{next(_numbers)}"
        own = gateway.login(user, account=OWNER)
        narrow = (
            '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ses:SendRawEmail",'
            f'"Resource":"{arn("elsewhere.example")}"}}}}'
        )
        for listed in gateway.run("user", "list", "--account", OWNER):
            if listed["name"] == user:
                for policy in listed["policies"]:
                    gateway.run("user", "delete-policy", user, "--account", OWNER, "--policy-name", policy)
        gateway.run(
            "user", "put-policy", user, "--account", OWNER, "--policy-name", "narrow", "-", stdin=narrow
        )
        code, text = send_as(gateway, own, f"a@{lent}")
        assert code == 554
        assert refusal(user_arn(user, OWNER), arn(lent)) in text

    def test_r19_delegates_own_policies_must_allow_too(self, gateway, lent):
        user = f"tight{next(_numbers)}"
        login = gateway.login(user)
        gateway.policy(arn(lent), grant({"AWS": user_arn(user)}, arn(lent)))
        assert send_as(gateway, login, f"a@{lent}", arns=arn(lent))[0] == 250
        deny = '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"ses:*","Resource":"*"}}'
        gateway.run("user", "put-policy", user, "--account", DELEGATE, "--policy-name", "no", "-", stdin=deny)
        code, text = send_as(gateway, login, f"a@{lent}", arns=arn(lent))
        assert code == 554
        assert refusal(user_arn(user), arn(lent)) in text


def verifies(data: bytes, records: dict[str, str]) -> bool:
    def look_up(name: bytes, timeout: float = 5) -> bytes | None:
        value = records.get(name.decode().rstrip("."))
        return value.encode() if value else None

    return bool(dkim.verify(data, dnsfunc=look_up))


def wait_until(condition, seconds: float = 15) -> None:
    import time

    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come true in time"
        time.sleep(0.05)
