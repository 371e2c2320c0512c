"""The SMTP session octet by octet: what is offered, taken, refused, and where a message ends."""

from __future__ import annotations

import base64
import re

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import OWNER, Gateway, Login, arn, grant, user_arn
from tests.support.wire import Wire


@pytest.fixture(scope="module")
def owner(gateway: Gateway, domain: str) -> Login:
    """A user of the owner's account: sends as owner.example without a policy."""
    return gateway.login("owner", account=OWNER)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestGreeting:
    def test_banner_names_us_in_sess_form(self, gateway):
        with Wire(gateway, tls=False) as wire:
            assert re.fullmatch(r"220 relay\.example ESMTP SimpleEmailService-d-\w{9} \w{20}", wire.greeting)

    def test_starttls_is_offered_and_auth_is_not_before_it(self, gateway):
        with Wire(gateway, tls=False) as wire:
            assert wire.say("EHLO x").splitlines() == [
                "250-relay.example",
                "250-8BITMIME",
                "250-SIZE 41943040",
                "250-PIPELINING",
                "250-STARTTLS",
                "250 Ok",
            ]

    @pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
    def test_auth_is_offered_under_tls(self, gateway, implicit):
        with Wire(gateway, implicit=implicit) as wire:
            offers = wire.say("EHLO x")
            assert "250-AUTH PLAIN LOGIN" in offers
            assert "STARTTLS" not in offers

    @pytest.mark.parametrize("command", ["EHLO", "EHLO a b", "HELO"])
    def test_client_without_a_name_is_told_so(self, gateway, command):
        with Wire(gateway, tls=False) as wire:
            assert wire.say(command).startswith("501")


class TestOrder:
    @pytest.mark.parametrize(
        ("command", "expected"),
        [
            ("MAIL FROM:<a@owner.example>", "503 Send EHLO first"),
            ("RCPT TO:<a@owner.example>", "503 Bad sequence of commands"),
            ("DATA", "503 Bad sequence of commands"),
            ("AUTH PLAIN", "530 Must issue a STARTTLS command first"),
            ("VRFY postmaster", "252 Send some mail, and see"),
            ("EXPN list", "502 Command not implemented"),
            ("NOOP", "250 Ok"),
            ("NOOP with words", "250 Ok"),
            ("RSET", "250 Ok"),
            ("QUIT now", "501 This command takes no argument"),
            ("BDAT 10 LAST", "500 Command not recognized"),
            ("XCLIENT ADDR=1.2.3.4", "500 Command not recognized"),
            ("", "500 A command is a line of printable ASCII that ends with CRLF"),
            ("NO\x00OP", "500 A command is a line of printable ASCII that ends with CRLF"),
            ("NOOP \xe9", "500 A command is a line of printable ASCII that ends with CRLF"),
        ],
    )
    def test_command_at_the_start(self, gateway, command, expected):
        with Wire(gateway, tls=False) as wire:
            assert wire.say(command) == expected

    def test_mail_needs_tls_then_a_login(self, gateway):
        with Wire(gateway, tls=False) as wire:
            wire.say("EHLO x")
            assert wire.say("MAIL FROM:<a@owner.example>") == "530 Must issue a STARTTLS command first"
        with Wire(gateway) as wire:
            wire.say("EHLO x")
            assert wire.say("MAIL FROM:<a@owner.example>") == "530 Authentication required"

    def test_second_starttls_is_refused(self, gateway):
        with Wire(gateway) as wire:
            wire.say("EHLO x")
            assert wire.say("STARTTLS").startswith("503")

    def test_login_is_forgotten_by_starttls(self, gateway):
        with Wire(gateway) as wire:
            assert wire.say("MAIL FROM:<a@owner.example>").startswith("503")

    def test_line_that_ends_with_a_bare_lf_is_refused(self, gateway):
        with Wire(gateway, tls=False) as wire:
            wire.send(b"NOOP\n")
            assert wire.reply().startswith("500")

    def test_too_long_a_command_is_refused_and_the_session_goes_on(self, gateway):
        with Wire(gateway, tls=False) as wire:
            assert wire.say("NOOP " + "x" * 3000) == "500 Command line too long"
            assert wire.say("NOOP") == "250 Ok"

    def test_line_without_end_closes_the_session(self, gateway):
        with Wire(gateway, tls=False) as wire:
            wire.send(b"x" * 200_000)
            assert wire.reply() == "500 Command line too long"

    @pytest.mark.parametrize("verb", ["GET / HTTP/1.1", "POST / HTTP/1.1", "CONNECT a:25 HTTP/1.1"])
    def test_other_protocols_end_the_session(self, gateway, verb):
        with Wire(gateway, tls=False) as wire:
            assert wire.say(verb).startswith("502")
            assert wire.is_closed()

    def test_many_errors_end_the_session(self, gateway):
        with Wire(gateway, tls=False) as wire:
            replies = [wire.say("FOO") for _ in range(21)]
            assert replies[-1].startswith("500")
            assert wire.reply() == "421 Too many errors"
            assert wire.is_closed()


class TestStartTLS:
    def test_what_is_sent_along_with_starttls_is_not_taken(self, gateway):
        with Wire(gateway, tls=False) as wire:
            wire.say("EHLO x")
            wire.send(b"STARTTLS\r\nEHLO injected.example\r\n")
            assert wire.reply().startswith("554")
            assert wire.is_closed()


class TestAuth:
    def test_login_in_two_steps(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.say("EHLO x")
            assert wire.say("AUTH LOGIN") == "334 VXNlcm5hbWU6"
            assert wire.say(b64(owner.username)) == "334 UGFzc3dvcmQ6"
            assert wire.say(b64(owner.password)) == "235 Authentication successful"

    def test_login_with_the_user_name_at_once(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.say("EHLO x")
            assert wire.say(f"auth login {b64(owner.username)}") == "334 UGFzc3dvcmQ6"
            assert wire.say(b64(owner.password)).startswith("235")

    def test_plain_after_an_empty_challenge(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.say("EHLO x")
            assert wire.say("AUTH PLAIN") == "334 "
            assert wire.say(b64(f"\0{owner.username}\0{owner.password}")).startswith("235")

    def test_acting_for_oneself_is_taken_for_another_refused(self, gateway, owner):
        for authorization, code in ((owner.username, "235"), ("somebody", "535")):
            with Wire(gateway) as wire:
                wire.say("EHLO x")
                token = b64(f"{authorization}\0{owner.username}\0{owner.password}")
                assert wire.say(f"AUTH PLAIN {token}").startswith(code)

    def test_wrong_password_and_unknown_user_read_the_same(self, gateway, owner):
        for user in (owner.username, "AKIANOBODY"):
            with Wire(gateway) as wire:
                wire.say("EHLO x")
                reply = wire.say("AUTH PLAIN " + b64(f"\0{user}\0wrong"))
                assert reply == "535 Authentication Credentials Invalid"

    @pytest.mark.parametrize(
        ("command", "answers", "expected"),
        [
            ("AUTH PLAIN !!!", [], "501 The argument of AUTH is not base64"),
            ("AUTH PLAIN " + b64("no separators"), [], "501 The argument of AUTH is not base64"),
            ("AUTH LOGIN", ["*"], "501 Authentication cancelled"),
            ("AUTH CRAM-MD5", [], "504 The mechanisms are PLAIN and LOGIN"),
            ("AUTH", [], "504 The mechanisms are PLAIN and LOGIN"),
        ],
    )
    def test_malformed_login(self, gateway, command, answers, expected):
        with Wire(gateway) as wire:
            wire.say("EHLO x")
            reply = wire.say(command)
            for answer in answers:
                reply = wire.say(answer)
            assert reply == expected

    def test_second_login_is_refused(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            assert wire.say("AUTH LOGIN").startswith("503")

    def test_failed_logins_close_the_session(self, gateway):
        with Wire(gateway) as wire:
            wire.say("EHLO x")
            # Another user name each time: the delay grows with failures of one user.
            replies = [wire.say("AUTH PLAIN " + b64("\0nobody\0x")) for _ in range(2)]
            assert set(replies) == {"535 Authentication Credentials Invalid"}

    def test_secrets_never_reach_the_log(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.log_in(owner)
        with Wire(gateway) as wire:
            wire.say("EHLO x")
            wire.say("AUTH PLAIN " + b64(f"\0{owner.username}\0{owner.password}x"))
        log = gateway.log()
        assert owner.password not in log
        assert b64(owner.password) not in log
        assert b64(f"\0{owner.username}\0{owner.password}") not in log

    def test_deactivated_credential_ends_its_session_at_the_next_message(self, gateway, domain):
        login = gateway.login("switched", account=OWNER)
        with Wire(gateway) as wire:
            wire.log_in(login)
            wire.envelope("a@owner.example")
            gateway.run("credential", "deactivate", login.username)
            wire.send(b"From: a@owner.example\r\n\r\nx\r\n.\r\n")
            assert wire.reply() == "535 Authentication Credentials Invalid"
            assert wire.is_closed()


class TestEnvelope:
    @pytest.mark.parametrize(
        ("argument", "expected"),
        [
            ("FROM:<a@owner.example>", "250 Ok"),
            ("FROM: <a@owner.example>", "250 Ok"),
            ("from:a@owner.example", "250 Ok"),
            ("FROM:<a@owner.example> SIZE=1000 BODY=8BITMIME", "250 Ok"),
            ("FROM:<>", "501 Invalid MAIL FROM address provided"),
            ("FROM:<nobody>", "501 Invalid MAIL FROM address provided"),
            ("FROM:<a b@owner.example>", "501 "),
            ('FROM:<"a"@owner.example>', '553 <"a"@owner.example> Invalid email address'),
            ("FROM:<a@[127.0.0.1]>", "553 <a@[127.0.0.1]> Invalid email address"),
            ("FROM:<a@owner.example> SIZE=99999999999", "552 Message is too long."),
            ("FROM:<a@owner.example> SMTPUTF8", "555 Parameter is not supported: SMTPUTF8"),
            ("FROM:<a@owner.example> BODY=BINARYMIME", "501 Bad value of BODY: BODY=BINARYMIME"),
            ("FROM:<a@owner.example> SIZE=1 SIZE=2", "501 Parameter is given twice: SIZE=2"),
            ("FOO:<a@owner.example>", "501 "),
        ],
    )
    def test_mail(self, gateway, owner, argument, expected):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            assert wire.say(f"MAIL {argument}").startswith(expected)

    @pytest.mark.parametrize(
        ("argument", "expected"),
        [
            ("TO:<b@customer.example>", "250 Ok"),
            ("TO: b@customer.example", "250 Ok"),
            ("TO:<nobody>", "553 <nobody> address unknown"),
            ("TO:<>", "553 <> address unknown"),
            ("TO:<@a.example:b@customer.example>", "553 "),
            ("TO:<b@customer.example> NOTIFY=NEVER", "555 Parameter is not supported: NOTIFY=NEVER"),
        ],
    )
    def test_rcpt(self, gateway, owner, argument, expected):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.say("MAIL FROM:<a@owner.example>")
            assert wire.say(f"RCPT {argument}").startswith(expected)

    def test_one_bad_recipient_refuses_the_message_at_the_dot(self, gateway, owner, recorder: Recorder):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.say("MAIL FROM:<a@owner.example>")
            assert wire.say("RCPT TO:<good-one@customer.example>") == "250 Ok"
            assert wire.say("RCPT TO:<bad one>").startswith("501")
            assert wire.say("RCPT TO:<bad>").startswith("553")
            wire.say("DATA")
            wire.send(b"From: a@owner.example\r\n\r\nx\r\n.\r\n")
            assert wire.reply() == "554 Transaction failed: Invalid recipient address"
            assert wire.say("NOOP") == "250 Ok"
        assert all("good-one@customer.example" not in one.recipients for one in recorder.arrived)

    def test_data_without_a_valid_recipient_is_refused(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.say("MAIL FROM:<a@owner.example>")
            wire.say("RCPT TO:<bad>")
            assert wire.say("DATA") == "554 No valid recipients"

    def test_over_fifty_recipients_are_refused_at_the_dot(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.envelope("a@owner.example", *(f"r{n}@customer.example" for n in range(51)))
            wire.send(b"From: a@owner.example\r\n\r\nx\r\n.\r\n")
            assert wire.reply() == "554 Transaction failed: Recipient count exceeds 50."

    def test_recipients_past_the_hard_cap_are_refused_one_by_one(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.say("MAIL FROM:<a@owner.example>")
            wire.send(b"".join(b"RCPT TO:<r%d@customer.example>\r\n" % n for n in range(1001)))
            replies = [wire.reply() for _ in range(1001)]
            assert replies[-2:] == ["250 Ok", "452 Too many recipients"]

    def test_pipelined_commands_are_answered_in_order(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.send(
                b"MAIL FROM:<a@owner.example>\r\nRCPT TO:<bad>\r\nRCPT TO:<b@customer.example>\r\n"
                b"RSET\r\nNOOP\r\n"
            )
            assert [wire.reply()[:3] for _ in range(5)] == ["250", "553", "250", "250", "250"]

    def test_second_mail_in_a_transaction_is_refused(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.say("MAIL FROM:<a@owner.example>")
            assert wire.say("MAIL FROM:<b@owner.example>").startswith("503")


HEAD = b"From: a@owner.example\r\nSubject: s\r\n\r\n"


class TestData:
    def submit(self, wire: Wire, owner: Login, octets: bytes, rcpt: str = "user@customer.example") -> str:
        wire.log_in(owner)
        wire.envelope("a@owner.example", rcpt)
        wire.send(octets)
        return wire.reply()

    @pytest.mark.parametrize(
        "smuggled",
        [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n\n.\r\n", b"\r\r\n.\r\r\n"],
        ids=repr,
    )
    def test_only_crlf_dot_crlf_ends_the_data(self, gateway, owner, recorder: Recorder, smuggled):
        rcpt = "smuggled@customer.example"
        inner = b"MAIL FROM:<ceo@owner.example>\r\nRCPT TO:<" + rcpt.encode() + b">\r\nDATA\r\n"
        with Wire(gateway) as wire:
            reply = self.submit(wire, owner, HEAD + b"x" + smuggled + inner + HEAD + b"y\r\n.\r\n")
            assert reply.startswith("554 Transaction failed: "), reply
            assert wire.say("NOOP") == "250 Ok"
        assert all(rcpt not in one.recipients for one in recorder.arrived)

    @pytest.mark.parametrize(
        ("octets", "expected"),
        [
            (b".\r\n", "554 Transaction failed: Missing required header 'From'."),
            (b"\r\nbody\r\n.\r\n", "554 Transaction failed: Missing required header 'From'."),
            (b"Subject: s\r\n\r\nx\r\n.\r\n", "554 Transaction failed: Missing required header 'From'."),
            (HEAD[:-2] + b"no colon\r\n\r\nx\r\n.\r\n", "554 Transaction failed: "),
            (HEAD + b"a\0b\r\n.\r\n", "554 Transaction failed: "),
            (HEAD + b"x" * 999 + b"\r\n.\r\n", "554 Transaction failed: "),
            (b"From: a@owner.example\r\n" + HEAD + b"x\r\n.\r\n", "554 Transaction failed: "),
            (
                b"Subject: two\r\n" + HEAD + b"x\r\n.\r\n",
                "554 Transaction failed: Duplicate header 'Subject'.",
            ),
            (b"X: " + b"y" * 300_000 + b"\r\n" + HEAD + b"x\r\n.\r\n", "554 Transaction failed: "),
            (HEAD + b"z" * 200_000 + b".\r\n.\r\n", "554 Transaction failed: "),
        ],
        ids=[
            "empty",
            "no header",
            "no From",
            "no field",
            "NUL",
            "long line",
            "two From",
            "two Subjects",
            "long header",
            "very long line",
        ],
    )
    def test_malformed_message_is_refused_and_the_session_goes_on(self, gateway, owner, octets, expected):
        with Wire(gateway) as wire:
            assert self.submit(wire, owner, octets).startswith(expected)
            assert wire.say("NOOP") == "250 Ok"

    def test_message_without_a_body_is_taken(self, gateway, owner):
        with Wire(gateway) as wire:
            assert self.submit(wire, owner, b"From: a@owner.example\r\n.\r\n").startswith("250 Ok ")

    def test_ids_have_sess_shape_and_rise(self, gateway, owner):
        with Wire(gateway) as wire:
            ids = [self.submit(wire, owner, HEAD + b"x\r\n.\r\n").split()[-1]]
            wire.envelope("a@owner.example")
            wire.send(HEAD + b"x\r\n.\r\n")
            ids.append(wire.reply().split()[-1])
        for one in ids:
            assert re.fullmatch(r"0100[0-9a-f]{12}-[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}-000000", one)
        assert ids[0] < ids[1]

    def test_message_sent_octet_by_octet_is_the_same_message(self, gateway, owner, recorder: Recorder):
        rcpt = "slow@customer.example"
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.envelope("a@owner.example", rcpt)
            for octet in HEAD + b"..dots\r\n...\r\n.\r\n":
                wire.send(bytes([octet]))
            assert wire.reply().startswith("250 Ok ")
        assert recorder.wait_for(rcpt, 10).data.endswith(b"\r\n\r\n.dots\r\n..\r\n")

    def test_message_past_the_limit_is_read_to_its_end_and_refused(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.envelope("a@owner.example")
            line = b"x" * 898 + b"\r\n"
            wire.send(HEAD)
            for _ in range(48):
                wire.send(line * 1000)
            wire.send(b".\r\n")
            assert wire.reply() == "552 Message is too long."
            assert wire.say("NOOP") == "250 Ok"

    def test_client_that_goes_away_in_the_data_leaves_nothing(self, gateway, owner, recorder: Recorder):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.envelope("a@owner.example", "half@customer.example")
            wire.send(HEAD + (b"y" * 70 + b"\r\n") * 10_000)
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.envelope("a@owner.example", "whole@customer.example")
            wire.send(HEAD + b"x\r\n.\r\n")
            assert wire.reply().startswith("250 ")
        recorder.wait_for("whole@customer.example", 10)
        assert all("half@customer.example" not in one.recipients for one in recorder.arrived)

    def test_commands_pipelined_behind_the_data_are_answered(self, gateway, owner):
        with Wire(gateway) as wire:
            wire.log_in(owner)
            wire.envelope("a@owner.example")
            wire.send(HEAD + b"x\r\n.\r\nNOOP\r\nQUIT\r\n")
            assert [wire.reply()[:3] for _ in range(3)] == ["250", "250", "221"]
            assert wire.is_closed()

    def test_loop_is_refused(self, gateway, owner):
        received = b"".join(b"Received: by h%d.example; x\r\n" % n for n in range(101))
        with Wire(gateway) as wire:
            assert "loops" in self.submit(wire, owner, received + HEAD + b"x\r\n.\r\n")


@pytest.mark.parametrize(
    "bad", [f"{arn('owner.example')}.", arn("owner.example").upper(), arn("OWNER.example")]
)
def test_arn_counts_as_written_only(gateway, domain, app, bad):
    """No trimming, no decoding, no folding: any other spelling names nothing."""
    gateway.policy(domain, grant({"AWS": user_arn("app")}, domain))
    assert gateway.send(app, arns=domain)[0] == 250
    assert gateway.send(app, arns=bad)[0] == 554
