"""R8: what is taken back holds at once, in sessions that are open, in every worker, on both engines."""

from __future__ import annotations

import json
import re
import smtplib
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from relay.submission.identifiers import parse_ses_message_id
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, grant, transact, user_arn
from tests.support.stores import ENGINES
from tests.support.wire import Wire

SESSIONS = 8
INVALID = "535 Authentication Credentials Invalid"
_numbers = count(1)


@pytest.fixture(scope="module", params=ENGINES)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two workers; the kernel gives each a share of the sessions."""
    recorder = Recorder(refused=frozenset())
    directory: Path = tmp_path_factory.mktemp("relay")
    settings = {"RELAY_RELAY__WORKERS": "2"}
    with ExitStack() as stack:
        stack.callback(recorder.close)
        if request.param == "postgresql":
            database = request.getfixturevalue("postgresql").database(empty=True)
            settings["RELAY_STORE__URL"] = stack.enter_context(database)
        one = Gateway(directory, recorder, **settings)
        one.run("init", str(directory))
        one.account(OWNER)
        one.account(DELEGATE)
        one.start()
        yield one
        assert one.stop() == 0, one.log()
        assert "Traceback" not in one.log()


class Lent:
    """A domain that is lent to a user, and sessions of that user that have sent as it."""

    def __init__(self, gateway: Gateway, stack: ExitStack) -> None:
        number = next(_numbers)
        self.gateway = gateway
        self.user, self.domain = f"u{number}", f"d{number}.example"
        self.arn = gateway.identity(self.domain)
        self.login: Login = gateway.login(self.user)
        gateway.policy(self.arn, grant({"AWS": user_arn(self.user)}, self.arn))
        self.sessions = [stack.enter_context(gateway.client(self.login)) for _ in range(SESSIONS)]
        assert self.replies() == [250] * SESSIONS

    def replies(self) -> list[int]:
        return [self.reply(session) for session in self.sessions]

    def reply(self, session: smtplib.SMTP) -> int:
        fields = {"From": f"a@{self.domain}", "To": "x@customer.example", "X-SES-SOURCE-ARN": self.arn}
        letter = "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\nHi\r\n"
        return transact(session, f"a@{self.domain}", ["x@customer.example"], letter)[0]


@pytest.fixture
def lent(gateway: Gateway) -> Iterator[Lent]:
    with ExitStack() as stack:
        yield Lent(gateway, stack)


def test_r08_sessions_are_of_both_workers(gateway, lent):
    """What the other tests rest on: the ids of messages name the worker that took them."""
    for _ in range(20):  # the kernel shares connections out by chance
        ids = re.findall(r" id=(\S+)", gateway.log())
        workers = {parse_ses_message_id(one) >> 12 & 1023 for one in ids}
        if len(workers) > 1:
            return
        with ExitStack() as stack:
            Lent(gateway, stack)
    raise AssertionError(f"all sessions were of one worker: {workers}")


def test_r08_deleted_policy_refuses_the_next_message_of_every_open_session(gateway, lent):
    gateway.run("policy", "delete", "lend", "--identity", lent.arn)
    assert lent.replies() == [554] * SESSIONS


def test_r08_edited_policy_refuses_the_next_message_of_every_open_session(gateway, lent):
    gateway.policy(lent.arn, grant({"AWS": user_arn("another")}, lent.arn))
    assert lent.replies() == [554] * SESSIONS


def test_r08_grant_that_is_given_back_holds_at_once_too(gateway, lent):
    gateway.run("policy", "delete", "lend", "--identity", lent.arn)
    assert lent.replies() == [554] * SESSIONS
    gateway.policy(lent.arn, grant({"AWS": user_arn(lent.user)}, lent.arn))
    assert lent.replies() == [250] * SESSIONS


def test_r08_users_own_deny_holds_at_once(gateway, lent):
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "ses:*", "Resource": "*"}]}
    put = ("user", "put-policy", lent.user, "--account", DELEGATE, "--policy-name", "stop", "-")
    gateway.run(*put, stdin=json.dumps(deny))
    assert lent.replies() == [554] * SESSIONS


def test_r08_deleted_identity_and_paused_account_hold_at_once(gateway, lent):
    gateway.run("account", "pause", DELEGATE, "--reason", "unpaid")
    try:
        assert lent.replies() == [554] * SESSIONS
    finally:
        gateway.run("account", "resume", DELEGATE)
    assert lent.replies() == [250] * SESSIONS
    gateway.run("identity", "delete", lent.domain, "--account", OWNER)
    assert lent.replies() == [554] * SESSIONS


@pytest.mark.parametrize("how", ["deactivate", "delete"])
def test_r08_credential_that_is_taken_back_ends_its_open_sessions(gateway, lent, how):
    gateway.run("credential", how, lent.login.username)
    assert lent.replies() == [535] * SESSIONS
    for session in lent.sessions:
        with pytest.raises(smtplib.SMTPServerDisconnected):
            session.noop()
    assert refused_login(gateway, lent.login) == INVALID


def refused_login(gateway: Gateway, login: Login) -> str:
    """The reply to a login, once it is refused: the caches of the workers are a moment behind."""
    give_up_at = time.monotonic() + 20
    while time.monotonic() < give_up_at:
        try:
            gateway.client(login).close()
        except smtplib.SMTPAuthenticationError as error:
            return f"{error.smtp_code} {error.smtp_error.decode()}"
    raise AssertionError("the login is still taken")


class TestNetworks:
    """A credential may be bound to networks."""

    def test_login_from_elsewhere_reads_like_a_wrong_password(self, gateway, lent):
        gateway.run("credential", "update", lent.login.username, "--network", "192.0.2.0/24")
        assert refused_login(gateway, lent.login) == INVALID
        assert "not from this network" in gateway.log()

    def test_open_sessions_from_elsewhere_end_at_their_next_message(self, gateway, lent):
        gateway.run("credential", "update", lent.login.username, "--network", "192.0.2.0/24")
        assert lent.replies() == [535] * SESSIONS

    def test_sessions_from_within_go_on(self, gateway, lent):
        networks = ("--network", "192.0.2.0/24", "--network", "127.0.0.0/8")
        done = gateway.run("credential", "update", lent.login.username, *networks)
        assert done["networks"] == ["192.0.2.0/24", "127.0.0.0/8"]
        assert lent.replies() == [250] * SESSIONS
        with Wire(gateway) as wire:
            wire.log_in(lent.login)

    def test_network_is_taken_off_again(self, gateway, lent):
        gateway.run("credential", "update", lent.login.username, "--network", "192.0.2.0/24")
        gateway.run("credential", "update", lent.login.username, "--any-network")
        assert lent.replies() == [250] * SESSIONS

    def test_credential_may_be_made_with_its_networks(self, gateway, lent):
        made = ("credential", "create", "--account", DELEGATE, "--user", lent.user, "--network", "192.0.2.1")
        new = gateway.run(*made)
        rows = gateway.run("credential", "list", "--account", DELEGATE)
        shown = {row["access_key_id"]: row["networks"] for row in rows}
        assert shown[new["access_key_id"]] == ["192.0.2.1/32"]
        assert shown[lent.login.username] is None
        assert refused_login(gateway, Login(new["smtp_username"], new["smtp_password"])) == INVALID

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["--network", "192.0.2.7/24"], 1, "the network is 192.0.2.0/24"),
            (["--network", "office"], 1, "no network such as"),
            ([], 2, "--network or --any-network"),
            (["--network", "192.0.2.0/24", "--any-network"], 2, "--network or --any-network"),
        ],
    )
    def test_bad_network_is_said_and_changes_nothing(self, gateway, lent, arguments, code, words):
        result = gateway.invoke("credential", "update", lent.login.username, *arguments)
        assert (result[0], words in result[2]) == (code, True)
        assert lent.reply(lent.sessions[0]) == 250
