"""Return paths of our own, and what comes back to them: heard, believed, told once.  The real program."""

from __future__ import annotations

import base64
import email
import re
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from email.policy import default
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from relay.signing.return_path import encode, key_number
from relay.store.secrets import load_key_file
from relay.submission.identifiers import parse_ses_message_id
from tests.support.gateway import OWNER, Gateway, Login, free_ports
from tests.support.reports import bring, complaint, failure, vacation

DOMAIN = "bounces.relay.example"
TODAY = int(time.time()) // 86_400
is_token = re.compile(rf"[a-z2-7]{{34}}@{re.escape(DOMAIN)}").fullmatch


@pytest.fixture(scope="module")
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder, port: int) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("relay")
    settings = {"RELAY_BOUNCE__DOMAIN": DOMAIN, "RELAY_BOUNCE__LISTEN": f"127.0.0.1:{port}"}
    one = Gateway(directory, recorder, RELAY_RELAY__WORKERS="2", **settings)
    one.run("init", str(directory))
    one.account(OWNER)
    one.identity("owner.example")
    one.start()
    yield one
    assert one.stop() == 0, one.log()
    assert "Traceback" not in one.log()


@pytest.fixture(scope="module")
def app(gateway: Gateway) -> Login:
    return gateway.login("app", OWNER)


@pytest.fixture(scope="module")
def sent(gateway: Gateway, app: Login) -> Sent:
    """One that nobody reports on."""
    return Sent(gateway, app, "quiet")


class Sent:
    """A message that was delivered, and the address on the wire that reports on it go to."""

    def __init__(self, gateway: Gateway, app: Login, name: str, *rcpts: str) -> None:
        self.rcpts = list(rcpts) or [f"{name}@customer.example"]
        self.back = f"{name}-back@owner.example"
        code, text = gateway.send(app, mail_from=self.back, rcpt=self.rcpts)
        assert code == 250, text
        self.id = text.split()[-1]
        self.token = gateway.recorder.wait_for(self.rcpts[0], 20).reverse_path
        wait_until(lambda: self.shown(gateway)["recipients"][0]["state"] == "delivered")

    @property
    def token_key(self) -> int:
        """The number of the key that it was made under."""
        return base64.b32decode(self.token.partition("@")[0].upper() + "======")[10]

    def shown(self, gateway: Gateway) -> dict:
        found = gateway.run("message", "show", self.id)
        assert isinstance(found, dict)
        return found

    def mails(self, gateway: Gateway) -> list[bytes]:
        """What came to its Return-Path."""
        return [one.data for one in gateway.recorder.arrived if self.back in one.recipients]


def wait_until(holds: Callable[[], object], seconds: float = 20) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def token(gateway: Gateway, sent: Sent, day: int = TODAY, key: bytes | None = None) -> str:
    secrets = load_key_file(gateway.directory / "relay.key")
    message_id = parse_ses_message_id(sent.id)
    assert message_id is not None
    return encode(message_id, day, key_number(secrets.current), key or secrets.derive("verp"), DOMAIN)


# ---------------------------------------------------------------- on the wire


def test_token_is_the_envelope_sender_and_the_author_is_still_told(gateway, app):
    sent = Sent(gateway, app, "wire")
    assert is_token(sent.token)
    assert sent.token == token(gateway, sent, TODAY + 7)
    shown = sent.shown(gateway)
    assert (shown["reverse_path"], shown["return_path"]) == (sent.token, sent.back)
    assert f"on the wire  {sent.token}" in gateway.invoke("message", "show", sent.id)[1]
    code, _ = gateway.send(app, mail_from="told@owner.example", rcpt="nobody@customer.example")
    assert code == 250
    assert gateway.recorder.wait_for("told@owner.example", 20).reverse_path == ""


def test_one_token_for_all_recipients_of_a_message_and_one_message_only(gateway, app):
    sent = Sent(gateway, app, "many", "m1@customer.example", "m2@other.example")
    assert gateway.recorder.wait_for("m2@other.example", 20).reverse_path == sent.token
    assert Sent(gateway, app, "another").token != sent.token


# ---------------------------------------------------------------- what comes back


def test_r13_late_bounce_reaches_the_return_path_when_nobody_else_is_told(gateway, app, port):
    sent = Sent(gateway, app, "late")
    code, text = bring(port, sent.token, failure(sent.rcpts[0]))
    assert (code, text) == (250, "2.0.0 Ok")
    wait_until(lambda: sent.mails(gateway))
    [mail] = sent.mails(gateway)
    report = email.message_from_bytes(mail)
    status = report.get_payload()[1].get_payload()[1]
    assert status["Final-Recipient"] == f"rfc822; {sent.rcpts[0]}"
    assert (status["Action"], status["Status"]) == ("failed", "5.1.1")
    assert status["Remote-MTA"] == "dns; mx.customer.example"
    assert status["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert report.get_payload()[1].get_payload()[0]["X-Relay-ID"] == sent.id


def test_delivery_stays_and_what_was_reported_is_shown(gateway, app, port):
    sent = Sent(gateway, app, "shown")
    assert bring(port, sent.token, failure(sent.rcpts[0]))[0] == 250
    shown = sent.shown(gateway)
    assert shown["recipients"][0]["state"] == "delivered"
    [notice] = shown["notices"]
    assert notice["kind"] == "bounce"
    assert (notice["late"][0]["address"], notice["late"][0]["late"]) == (sent.rcpts[0], True)
    out = gateway.invoke("message", "show", sent.id)[1]
    assert f"recipient    {sent.rcpts[0]}: delivered" in out
    assert re.search(r"  bounce     .* reported by mx.customer.example: 550 5.1.1 no such user", out)


def test_report_is_told_once_however_often_it_comes(gateway, app, port):
    sent = Sent(gateway, app, "again")
    for report_id in ("<1@x>", "<1@x>", "<2@x>"):
        assert bring(port, sent.token.upper(), failure(sent.rcpts[0], report_id=report_id))[0] == 250
    wait_until(lambda: sent.mails(gateway))
    time.sleep(1.5)  # three rounds of the dispatcher
    assert len(sent.mails(gateway)) == 1
    assert len(sent.shown(gateway)["notices"]) == 1


def test_complaint_reaches_the_return_path_as_an_abuse_report(gateway, app, port):
    sent = Sent(gateway, app, "unwanted")
    assert bring(port, sent.token, complaint(sent.rcpts[0]), "feedback@customer.example")[0] == 250
    wait_until(lambda: sent.mails(gateway))
    mail = email.message_from_bytes(sent.mails(gateway)[0], policy=default)
    assert mail.get_param("report-type") == "feedback-report"
    fields = mail.get_payload(1).get_payload(0)
    assert (fields["Feedback-Type"], fields["Original-Rcpt-To"]) == ("abuse", f"<{sent.rcpts[0]}>")
    assert "Subject: Hello" in mail.get_payload(2).get_payload()


def test_address_that_turned_out_bad_is_not_sent_to_again(gateway, app, port):
    sent = Sent(gateway, app, "gone", "gone@customer.example", "stays@customer.example")
    assert bring(port, sent.token, failure("gone@customer.example"))[0] == 250
    listed = {one["address"] for one in gateway.run("suppression", "list", "--account", OWNER)}
    assert "gone@customer.example" in listed
    assert "stays@customer.example" not in listed
    code, text = gateway.send(app, rcpt=["gone@customer.example", "after@customer.example"])
    assert code == 250
    gateway.recorder.wait_for("after@customer.example", 20)
    states = gateway.run("message", "show", text.split()[-1])["recipients"]
    assert states[0]["state"] == "bounced"


def test_automatic_answer_is_kept_and_not_mailed(gateway, app, port):
    sent = Sent(gateway, app, "away")
    assert bring(port, sent.token, vacation(sent.rcpts[0]))[0] == 250
    wait_until(lambda: [one["state"] for one in sent.shown(gateway)["notices"]] == ["done"])
    assert sent.shown(gateway)["notices"][0]["kind"] == "autoreply"
    assert sent.mails(gateway) == []


def test_what_was_answered_250_survives_a_crash(gateway, app, port):
    sent = Sent(gateway, app, "crash")
    assert bring(port, sent.token, failure(sent.rcpts[0]))[0] == 250
    gateway.kill()
    gateway.start()
    wait_until(lambda: sent.mails(gateway))
    assert len(sent.shown(gateway)["notices"]) == 1


# ---------------------------------------------------------------- what is not believed


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(failure("stranger@customer.example"), id="recipient-the-message-did-not-have"),
        # Our own report has the null sender: nobody is told of it, least of all its reader's message.
        pytest.param(failure("quiet-back@owner.example"), id="our-own-report"),
        pytest.param(complaint("stranger@customer.example"), id="complaint-of-a-stranger"),
        pytest.param(vacation("stranger@customer.example"), id="answer-of-a-stranger"),
        pytest.param("Subject: Re: Hello\r\n\r\nThanks!\r\n", id="unreadable"),
        pytest.param(failure("quiet@customer.example").replace("failed", "delayed"), id="delayed"),
        pytest.param(failure("quiet@customer.example").replace("failed", "delivered"), id="delivered"),
    ],
)
def test_report_that_is_not_believed_is_answered_and_changes_nothing(gateway, sent, port, report):
    assert bring(port, sent.token, report) == (250, "2.0.0 Ok")
    assert sent.shown(gateway)["notices"] == []
    assert sent.mails(gateway) == []


def test_operator_sees_what_was_not_believed(gateway, sent, port):
    bring(port, sent.token, failure("stranger@customer.example"))
    assert f"report not believed id={sent.id}" in gateway.log()
    assert "named=stranger@customer.example" in gateway.log()


# ---------------------------------------------------------------- what is refused


class TestRefused:
    def refusal(self, port: int, to: str) -> str:
        """The reply to RCPT: nothing is taken that would have to be sent back."""
        code, text = bring(port, to, "Subject: x\r\n\r\nx\r\n")
        return f"{code} {text}"

    def test_forged_token(self, gateway, port, sent):
        local = sent.token.partition("@")[0]
        forged = ("b" if local[0] != "b" else "c") + local[1:] + "@" + DOMAIN
        assert self.refusal(port, forged) == f"550 5.7.1 <{forged}> was not given out here"

    def test_token_of_another_installation(self, gateway, port, sent):
        foreign = token(gateway, sent, key=b"x" * 32)
        assert self.refusal(port, foreign) == f"550 5.7.1 <{foreign}> was not given out here"

    def test_old_token(self, gateway, port, sent):
        old = token(gateway, sent, TODAY - 1)
        assert self.refusal(port, old).startswith(f"550 5.7.1 <{old}> is too old")

    def test_token_of_a_message_whose_record_is_gone(self, gateway, port, sent):
        secrets = load_key_file(gateway.directory / "relay.key")
        gone = encode(4711, TODAY, key_number(secrets.current), secrets.derive("verp"), DOMAIN)
        assert self.refusal(port, gone).startswith(f"550 5.7.1 <{gone}> is too old")

    def test_token_at_another_domain(self, port, sent):
        elsewhere = sent.token.replace(DOMAIN, "relay.example")
        assert self.refusal(port, elsewhere).startswith(f"550 5.1.1 <{elsewhere}> is no mailbox")

    @pytest.mark.parametrize(
        "to",
        [
            f"user@{DOMAIN}",
            f"postmaster@{DOMAIN}",
            "postmaster@relay.example",
            "user@owner.example",
            "user@customer.example",
            "user%customer.example@" + DOMAIN,
            "user@[127.0.0.1]",
            '"user@customer.example"@' + DOMAIN,
            "postmaster",
            "@" + DOMAIN + ":user@customer.example",
        ],
    )
    def test_open_relay_attempts(self, gateway, port, to):
        assert self.refusal(port, to).startswith(("550 5.1.1", "553 5.1.3"))
        assert to not in str([one.recipients for one in gateway.recorder.arrived])

    def test_refused_recipients_end_the_session_at_last(self, port):
        with smtplib.SMTP("127.0.0.1", port, "mx.example", timeout=20) as client:
            client.ehlo()
            client.mail("")
            codes = []
            with pytest.raises(smtplib.SMTPServerDisconnected):
                for number in range(30):
                    codes.append(client.rcpt(f"user{number}@{DOMAIN}")[0])
            assert codes == [550] * 11 + [421]

    def test_submission_does_not_hear_reports(self, gateway, app, sent):
        with gateway.client(None) as client:
            assert client.mail("")[0] == 530


class TestSession:
    @pytest.fixture
    def client(self, port: int) -> Iterator[smtplib.SMTP]:
        with smtplib.SMTP("127.0.0.1", port, "mx.example", timeout=20) as one:
            one.ehlo()
            yield one

    def test_it_offers_tls_and_codes_and_no_login(self, gateway, client, sent):
        assert set(client.esmtp_features) >= {"starttls", "size", "pipelining", "enhancedstatuscodes"}
        assert "auth" not in client.esmtp_features
        assert client.docmd("AUTH", "PLAIN AGEAYg==")[0] == 502
        assert client.docmd("VRFY", sent.token)[0] == 252
        context = ssl.create_default_context(cafile=str(gateway.directory / "relay.crt"))
        context.check_hostname = False
        client.starttls(context=context)
        client.ehlo()
        assert "starttls" not in client.esmtp_features
        assert "auth" not in client.esmtp_features
        client.mail("")
        assert client.rcpt(sent.token)[0] == 250
        assert client.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250

    def test_one_report_at_a_time(self, client, sent):
        client.mail("")
        assert client.rcpt(sent.token)[0] == 250
        assert client.rcpt(sent.token) == (452, b"4.5.3 One report at a time")
        assert client.docmd("RSET")[0] == 250
        assert client.docmd("DATA")[0] == 503

    def test_any_sender_is_taken_and_none_is_answered(self, gateway, client, sent):
        for sender in ("<>", "<a@b.example>", "<odd..dots@b>", '<"quoted"@b.example>'):
            assert client.docmd("MAIL", f"FROM:{sender} SIZE=100")[0] == 250
            client.docmd("RSET")
        assert client.docmd("MAIL", "FROM:<> SIZE=99999999999")[0] == 552
        assert client.docmd("MAIL", "FROM:<> SMTPUTF8")[0] == 555

    def test_order_of_commands(self, client):
        assert client.docmd("RCPT", "TO:<a@b.example>")[0] == 503
        assert client.docmd("DATA")[0] == 503
        client.mail("")
        assert client.docmd("DATA")[0] == 554
        assert client.docmd("MAIL", "FROM:<>")[0] == 503

    def test_whole_message_in_the_report_may_be_large(self, gateway, app, client):
        sent = Sent(gateway, app, "large")
        client.mail("")
        client.rcpt(sent.token)
        report = failure(sent.rcpts[0]) + "x" * 900 + "\r\n" + ("y" * 900 + "\r\n") * 3000
        assert client.data(report.encode())[0] == 250
        assert sent.shown(gateway)["notices"][0]["kind"] == "bounce"


def test_addresses_outlive_the_rotation_of_their_key(gateway, app, port):
    before = Sent(gateway, app, "old-key")
    gateway.run("key", "rotate")
    assert load_key_file(gateway.directory / "relay.key").current == "2"
    after = Sent(gateway, app, "new-key")
    wait_until(lambda: Sent(gateway, app, f"new{time.monotonic_ns()}").token_key == 2)
    assert before.token_key == 1
    for one in (before, after):
        assert bring(port, one.token, failure(one.rcpts[0]))[0] == 250
    wait_until(lambda: before.mails(gateway) and after.mails(gateway))
