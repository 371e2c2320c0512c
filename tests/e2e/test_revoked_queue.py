"""Mail that waits when the owner takes the grant back: through SMTP, with a next hop that is away."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, free_ports, grant, user_arn
from tests.support.stores import ENGINES

_numbers = count(1)
pytestmark = pytest.mark.timeout(300)


class Away(Gateway):
    """Nothing listens at the next hop until ``hop_comes_back``; two workers."""

    def hop_comes_back(self, stack: ExitStack) -> Recorder:
        back = Recorder(refused=frozenset(), port=self.hop_port)
        stack.callback(back.close)
        return back


def made(request: pytest.FixtureRequest, directory: Path, stack: ExitStack, revoked: str) -> Away:
    recorder = Recorder(refused=frozenset())
    recorder.close()
    [port] = free_ports(1)
    settings = {
        "RELAY_RELAY__WORKERS": "2",
        "RELAY_DELIVERY__SMARTHOST": f"127.0.0.1:{port}",
        "RELAY_DELIVERY__RETRY_FIRST_SECONDS": "2",
        "RELAY_DELIVERY__RETRY_MAX_SECONDS": "2",
        "RELAY_DELIVERY__REVOKED": revoked,
    }
    if request.param == "postgresql":
        database = request.getfixturevalue("postgresql").database(empty=True)
        settings["RELAY_STORE__URL"] = stack.enter_context(database)
    one = Away(directory, recorder, **settings)
    one.hop_port = port
    one.run("init", str(directory))
    one.account(OWNER)
    one.account(DELEGATE)
    one.start()
    return one


@pytest.fixture(scope="module", params=ENGINES)
def holding(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Away]:
    with ExitStack() as stack:
        one = made(request, tmp_path_factory.mktemp("relay"), stack, "hold")
        yield one
        assert one.stop() == 0, one.log()
        assert "Traceback" not in one.log()


class Lent:
    """A domain that is lent to a user of another account, and mail of that user that waits."""

    def __init__(self, gateway: Gateway) -> None:
        number = next(_numbers)
        self.gateway = gateway
        self.user, self.domain = f"u{number}", f"d{number}.example"
        self.arn = gateway.identity(self.domain)
        self.login: Login = gateway.login(self.user)
        self.lend()

    def lend(self, **condition: object) -> None:
        self.gateway.policy(self.arn, grant({"AWS": user_arn(self.user)}, self.arn, **condition))

    def take_back(self) -> None:
        self.gateway.run("policy", "delete", "lend", "--identity", self.arn)

    def send(self, sender: str = "a", **more: object) -> str:
        """The id of a message that was tried in vain."""
        own = {"login": self.login, "arns": self.arn, "rcpt": f"r{next(_numbers)}@customer.example", **more}
        headers = {"From": f"{sender}@{self.domain}"}
        code, text = self.gateway.send(mail_from=f"{sender}@{self.domain}", headers=headers, **own)
        assert code == 250, text
        message = text.split()[1]
        wait_until(lambda: all(row["attempts"] for row in self.rows(message)))
        return message

    def rows(self, message: str) -> list[dict]:
        return self.gateway.run("queue", "list", "--message", message)

    def state(self, message: str) -> str:
        [row] = self.rows(message)
        return f"{row['state']} ({row['held_because']})" if row["held_because"] else row["state"]


HELD = "held (revoked)"


def wait_until(holds: Callable[[], object], seconds: float = 30) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def test_mail_is_held_when_the_policy_goes_and_let_go_when_it_is_back(holding):
    lent = Lent(holding)
    message = lent.send()
    lent.take_back()
    wait_until(lambda: lent.state(message) == HELD)
    [row] = lent.rows(message)
    assert row["last_reply"] == f"the owner of {lent.domain} took the grant back"
    lent.lend()
    wait_until(lambda: lent.state(message) != HELD)
    entries = [one for one in holding.run("audit") if one["action"] == "RevokeQueue"]
    assert entries[0]["detail"] == {"what": "hold", "stopped": 0, "released": 1}
    assert entries[0]["actor"] == "relay:revocation"


def test_only_what_the_edited_policy_grants_no_more_is_held(holding):
    lent = Lent(holding)
    alerts, news = lent.send("alerts"), lent.send("news")
    lent.lend(Condition={"StringEquals": {"ses:FromAddress": f"news@{lent.domain}"}})
    wait_until(lambda: lent.state(alerts) == HELD)
    assert lent.state(news) in ("queued", "leased")


def test_owners_own_mail_and_other_identities_go_on(holding):
    lent, other = Lent(holding), Lent(holding)
    owners = holding.login(f"o{next(_numbers)}", OWNER)
    own = lent.send(login=owners, arns=None)
    lent.take_back()
    message = other.send()
    other.take_back()
    wait_until(lambda: other.state(message) == HELD)
    assert lent.state(own) in ("queued", "leased")


@pytest.mark.parametrize("how", ["identity", "user"])
def test_deleted_identity_or_user_takes_the_grant_along(holding, how):
    lent = Lent(holding)
    message = lent.send()
    if how == "identity":
        holding.run("identity", "delete", lent.domain, "--account", OWNER)
    else:
        holding.run("credential", "delete", lent.login.username)
        holding.run("user", "delete", lent.user, "--account", DELEGATE)
    wait_until(lambda: lent.state(message) == HELD)


def test_deny_at_the_address_holds_what_the_domain_grants(holding):
    lent = Lent(holding)
    message = lent.send("alerts")
    address = holding.identity(f"alerts@{lent.domain}")
    deny = grant({"AWS": user_arn(lent.user)}, address)
    deny["Statement"][0]["Effect"] = "Deny"
    holding.policy(address, deny, "no")
    wait_until(lambda: lent.state(message) == HELD)


def test_operator_may_let_it_go_all_the_same(holding):
    lent = Lent(holding)
    message = lent.send()
    lent.take_back()
    wait_until(lambda: lent.state(message) == HELD)
    before = lent.rows(message)[0]["attempts"]
    holding.run("queue", "release", "--message", message)
    wait_until(lambda: lent.rows(message)[0]["attempts"] > before)


def test_senders_own_policies_are_not_the_owners_word(holding):
    """What the sender's account denies its user is for its next message; the owner still grants this one."""
    lent, other = Lent(holding), Lent(holding)
    message, marker = lent.send(), other.send()
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "ses:*", "Resource": "*"}]}
    put = ("user", "put-policy", lent.user, "--account", DELEGATE, "--policy-name", "stop", "-")
    holding.run(*put, stdin=json.dumps(deny))
    lent.lend()  # an edit that changes nothing for this message
    other.take_back()
    wait_until(lambda: other.state(marker) == HELD)
    assert lent.state(message) in ("queued", "leased")


def test_what_was_taken_back_while_nobody_ran_is_held_before_anything_goes_out(holding):
    lent, other = Lent(holding), Lent(holding)
    message, allowed = lent.send(), other.send()
    [rcpt] = [row["recipient"] for row in lent.rows(message)]
    [goes] = [row["recipient"] for row in other.rows(allowed)]
    holding.kill()
    lent.take_back()
    time.sleep(3)  # all of it is due when the gateway starts
    with ExitStack() as stack:
        hop = holding.hop_comes_back(stack)
        holding.start()
        hop.wait_for(goes, 60)
        assert lent.state(message) == HELD
        assert not [one for one in hop.arrived if rcpt in one.recipients]


@pytest.mark.parametrize("bouncing", ENGINES, indirect=True)
def test_bounce_tells_the_return_path_why(bouncing):
    lent = Lent(bouncing)
    message = lent.send()
    lent.take_back()
    wait_until(lambda: lent.rows(message) == [])
    with ExitStack() as stack:
        hop = bouncing.hop_comes_back(stack)
        report = hop.wait_for(f"a@{lent.domain}", 60).data.decode()
    assert "Status: 5.7.1" in report
    assert f"the owner of {lent.domain} took the grant back" in report
    shown = bouncing.run("message", "show", message)
    assert [one["state"] for one in shown["recipients"]] == ["bounced"]
    assert [one["kind"] for one in shown["notices"]] == ["bounce"]


@pytest.fixture
def bouncing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Away]:
    with ExitStack() as stack:
        one = made(request, tmp_path, stack, "bounce")
        yield one
        assert one.stop() == 0, one.log()
        assert "Traceback" not in one.log()


@pytest.mark.parametrize("releasing", ["sqlite"], indirect=True)
def test_by_default_accepted_mail_goes_on(releasing):
    lent = Lent(releasing)
    message = lent.send()
    lent.take_back()
    with ExitStack() as stack:
        hop = releasing.hop_comes_back(stack)
        hop.wait_for(lent.rows(message)[0]["recipient"], 60)


@pytest.fixture
def releasing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Away]:
    with ExitStack() as stack:
        one = made(request, tmp_path, stack, "release")
        yield one
        assert one.stop() == 0, one.log()
