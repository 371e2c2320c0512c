"""Two nodes on one PostgreSQL behind HAProxy are one gateway: quotas, revocation, commands, the API."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPSConnection
from itertools import count
from typing import NamedTuple

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from sqlalchemy import create_engine, make_url, text

from relay.app.recorder import Recorder
from relay.store.secrets import create_key_file
from relay.submission.identifiers import parse_ses_message_id
from tests.support.aws import Key, key_of
from tests.support.dkim_verifier import verifies
from tests.support.gateway import DELEGATE, OWNER, REGION, Gateway, Login, arn, grant, transact, user_arn
from tests.support.nodes import Balancer, join, node, stop

OWNED = arn("owner.example")
# R8: within a second on every node; the command itself takes most of it.
REVOKED_SECONDS = 1.0
FROM_ONE_ADDRESS = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "ses:*",
            "Resource": "*",
            "Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.98"}},
        }
    ],
}
_accounts = count(555_555_555_500)


class Nodes(NamedTuple):
    first: Gateway
    second: Gateway
    balancer: Balancer

    def log_in(self, login: Login):
        """A session with whichever node HAProxy chooses."""
        return self.first.client(login, at=self.balancer.starttls)


@pytest.fixture(scope="module")
def nodes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with ExitStack() as stack:
        recorder = Recorder(refused=frozenset())
        stack.callback(recorder.close)
        url = stack.enter_context(request.getfixturevalue("postgresql").database(empty=True))
        first, second = (
            node(number, tmp_path_factory.mktemp(f"node{number}"), recorder, RELAY_STORE__URL=url)
            for number in (1, 2)
        )
        first.run("init", str(first.directory))
        join(first, second)
        done = second.run("init", str(second.directory))
        assert all(" made" not in done[what] for what in ("settings", "key file", "certificate", "store")), (
            done
        )
        first.account(OWNER)
        first.account(DELEGATE)
        first.identity("owner.example")
        first.policy(OWNED, grant("*", OWNED))
        stack.callback(stop, first, second)
        for one in (first, second):
            one.start()
        balancer = Balancer(tmp_path_factory.mktemp("haproxy"), [first, second])
        stack.callback(balancer.close)
        balancer.await_ready(first, second)
        yield Nodes(first, second, balancer)


def letter(source: str = OWNED, address: str = "a@owner.example") -> str:
    return f"From: {address}\r\nTo: x@customer.example\r\nX-SES-SOURCE-ARN: {source}\r\n\r\nHi\r\n"


def delegate(nodes: Nodes, **limits: int) -> tuple[str, Login]:
    account = str(next(_accounts))
    nodes.first.account(account, **limits)
    return account, nodes.first.login("app", account)


class Sender:
    """One connection through HAProxy that sends without regard to refusals."""

    def __init__(self, nodes: Nodes, login: Login) -> None:
        self._nodes, self._login = nodes, login
        self.accepted: list[str] = []

    def send(self, messages: int, seconds: float = 20) -> list[str]:
        """The ids of what was accepted, of so many messages or in so many seconds."""
        ends_at = time.monotonic() + seconds
        with self._nodes.log_in(self._login) as client:
            for _ in range(messages):
                code, text = transact(client, "a@owner.example", ["x@customer.example"], letter())
                assert code in (250, 454), text
                self.accepted += [text.removeprefix("Ok ")] * (code == 250)
                if time.monotonic() > ends_at:
                    break
        return self.accepted


def workers_of(ids: list[str]) -> set[int]:
    """The ids of messages name the worker that took them; each node has one."""
    return {parse_ses_message_id(one) >> 12 & 1023 for one in ids}


def test_r09_quota_of_a_day_is_exact_in_sum_over_nodes(nodes):
    account, login = delegate(nodes, quota=100)
    with ThreadPoolExecutor(20) as pool:
        taken = list(pool.map(lambda _: Sender(nodes, login).send(10), range(20)))
    accepted = [one for each in taken for one in each]
    assert len(accepted) == 100  # of 200
    assert len(workers_of(accepted)) == 2
    for one in (nodes.first, nodes.second):
        shown = one.run("account", "show", account)
        assert (shown["sent_24h"], shown["left_24h"]) == (100, 0)


def test_r09_rate_is_kept_in_sum_over_nodes(nodes):
    _, login = delegate(nodes, rate=10)
    began = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(lambda _: Sender(nodes, login).send(10_000, seconds=4), range(6)))
    seconds = time.monotonic() - began
    accepted = [one for each in taken for one in each]
    assert len(workers_of(accepted)) == 2
    # One second's worth is there at the start; nobody was idle, so little of the rest is unused.
    assert 10 * 4 * 0.7 <= len(accepted) <= 10 * seconds + 10


class TestRevocation:
    """Sessions are open at both nodes and have sent; then the grant is taken back at one."""

    @pytest.mark.parametrize("at", ["first", "second"])
    def test_r08_deleted_policy_holds_within_a_second_in_open_sessions_of_every_node(self, nodes, at):
        name = f"lent-{at}.example"
        lent, login = getattr(nodes, at).identity(name), nodes.first.login(f"user-{at}")
        getattr(nodes, at).policy(lent, grant({"AWS": user_arn(f"user-{at}")}, lent))
        with ExitStack() as stack:
            sessions = [
                stack.enter_context(one.client(login))
                for one in (nodes.first, nodes.second)
                for _ in range(4)
            ]
            mail = (f"a@{name}", ["x@customer.example"], letter(lent, f"a@{name}"))
            assert [transact(one, *mail)[0] for one in sessions] == [250] * 8
            began = time.monotonic()
            getattr(nodes, at).run("policy", "delete", "lend", "--identity", lent)
            replies = [transact(one, *mail)[0] for one in sessions]
            seconds = time.monotonic() - began
        print(f"revoked, and refused in 8 sessions of 2 nodes, in {seconds:.3f} s, the command included")
        assert replies == [554] * 8
        assert seconds < REVOKED_SECONDS


class TestCommands:
    """What is said at one node holds at the other."""

    def test_paused_account_sends_nowhere(self, nodes):
        account, login = delegate(nodes)
        mail = ("a@owner.example", ["x@customer.example"], letter())
        with nodes.first.client(login) as here, nodes.second.client(login) as there:
            nodes.second.run("account", "pause", account, "--reason", "unpaid")
            assert [transact(one, *mail)[0] for one in (here, there)] == [554, 554]
            nodes.first.run("account", "resume", account)
            assert [transact(one, *mail)[0] for one in (here, there)] == [250, 250]

    def test_credential_made_at_one_node_logs_in_at_the_other_until_it_is_deleted(self, nodes):
        login = nodes.second.login("made-there")
        with nodes.first.client(login) as client:
            nodes.second.run("credential", "delete", login.username)
            assert transact(client, "a@owner.example", ["x@customer.example"], letter())[0] == 535

    def test_key_made_at_one_node_signs_at_the_other(self, nodes):
        nodes.second.identity("signed.example")
        login = nodes.second.login("signer", account=OWNER)
        sender, rcpt = "a@signed.example", "signed@customer.example"
        code, text = nodes.first.send(login, mail_from=sender, rcpt=rcpt, headers={"From": sender})
        assert code == 250, text
        arrived = nodes.first.recorder.wait_for(rcpt, 10)
        assert verifies(arrived.data, nodes.second.records)


def test_api_answers_through_haproxy(nodes):
    context = ssl.create_default_context(cafile=str(nodes.first.directory / "relay.crt"))
    context.check_hostname = False
    host, port = nodes.balancer.api
    with urllib.request.urlopen(f"https://{host}:{port}/readyz", context=context, timeout=10) as answer:
        assert answer.read() == b"relay: ready\n"


def test_api_sees_the_clients_address_through_haproxy(nodes):
    """A policy that asks for it decides on the client's, not on HAProxy's."""
    key = key_of(nodes.first, "mobile", policy=FROM_ONE_ADDRESS)
    assert call(nodes, key, "127.0.0.98") == 200
    assert call(nodes, key, "127.0.0.97") == 403


def call(nodes: Nodes, key: Key, source: str) -> int:
    """The status of an API call through HAProxy from an address of this machine."""
    host, port = nodes.balancer.api
    url, body = f"https://{host}:{port}/", "Action=GetSendQuota&Version=2010-12-01"
    signed = AWSRequest("POST", url, {"Content-Type": "application/x-www-form-urlencoded"}, body)
    SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), "ses", REGION).add_auth(signed)
    context = ssl.create_default_context(cafile=str(nodes.first.directory / "relay.crt"))
    context.check_hostname = False
    connection = HTTPSConnection(host, port, context=context, source_address=(source, 0), timeout=10)
    with closing(connection):
        connection.request("POST", "/", body, dict(signed.headers))
        return connection.getresponse().status


def test_both_kinds_of_listener_hand_on_the_clients_address(nodes):
    _, login = delegate(nodes)
    for at, implicit in ((nodes.balancer.starttls, False), (nodes.balancer.tls, True)):
        with nodes.first.client(login, implicit, at=at) as client:
            code, text = transact(client, "a@owner.example", ["x@customer.example"], letter())
        assert code == 250, text
        shown = json.dumps(nodes.second.run("message", "show", text.removeprefix("Ok ")))
        assert "127.0.0.99" in shown


class TestAnotherNode:
    """What a third one must have in common with those that are there, and what it must not."""

    @pytest.fixture
    def third(self, nodes, tmp_path) -> Iterator[Gateway]:
        one = node(3, tmp_path, nodes.first.recorder)
        one.environment["RELAY_STORE__URL"] = nodes.first.environment["RELAY_STORE__URL"]
        join(nodes.first, one)
        yield one
        assert one.process is None or one.stop() in (0, 1)

    def refusal(self, third: Gateway, **environment: str) -> str:
        third.environment |= environment
        with pytest.raises(AssertionError):
            third.start()
        assert third.process is not None
        assert third.process.wait(10) == 1
        return third.log()

    def test_name_of_a_node_that_lives_is_refused(self, nodes, third):
        said = self.refusal(third, RELAY_RELAY__NODE="node1")
        assert "another relay on this store lives under the name node1" in said
        assert "give each machine its own [relay] node" in said
        assert nodes.first.send(delegate(nodes)[1], arns=OWNED)[0] == 250

    def test_other_key_file_is_refused(self, third):
        other = third.directory / "other.key"
        create_key_file(other)
        said = self.refusal(third, RELAY_STORE__KEY_FILE=str(other))
        assert "not this store's; copy the file from a node that serves" in said

    def test_other_region_is_refused(self, third):
        said = self.refusal(third, RELAY_RELAY__REGION="eu-west-1")
        assert "the store belongs to region us-east-1, the settings say eu-west-1: set [relay] region" in said

    def test_other_settings_are_named_in_log_and_check_and_stop_nobody(self, nodes, third):
        third.environment |= {"RELAY_RELAY__HOSTNAME": "other.example", "RELAY_QUOTA__SANDBOX_24H": "7"}
        third.start()
        for setting, here, there in (
            ("[relay] hostname", "other.example", "relay.example"),
            ("[quota] sandbox_24h", "7", "200"),
        ):
            for other in ("node1", "node2"):
                line = f'nodes differ setting="{setting}" here={here} there={there} node={other}'
                assert line in third.log()
        wrong = [line for line in third.invoke("check")[1].splitlines() if line.startswith("WRONG")]
        assert sum("[relay] hostname" in line for line in wrong) == 2
        assert third.stop() == 0
        assert "other nodes: those that are present have the same settings" in nodes.second.invoke("check")[1]


@pytest.mark.parametrize("setting", ["on", "off"])
def test_database_server_that_forgets_what_it_committed_is_named(nodes, postgresql, setting):
    change_server(postgresql, f"ALTER SYSTEM SET full_page_writes = {setting}")
    try:
        said = nodes.first.invoke("check")[1]
    finally:
        change_server(postgresql, "ALTER SYSTEM RESET full_page_writes")
    assert ("full_page_writes" in said) is (setting == "off")
    assert "database server" in said


def change_server(postgresql, statement: str) -> None:
    if not postgresql.is_ours:
        pytest.skip("RELAY_TEST_PG is somebody else's server")
    engine = create_engine(
        make_url(postgresql.url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(statement))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()
