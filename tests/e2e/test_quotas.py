"""R9: the quota is the sending account's, counted in recipients, exact in sum over workers; both engines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import OWNER, Gateway, Login, arn, grant, transact
from tests.support.stores import ENGINES

OWNED = arn("owner.example")
DAILY = "Throttling failure: Daily message quota exceeded."
RATE = "Throttling failure: Maximum sending rate exceeded."
LETTER = f"From: alerts@owner.example\r\nTo: x@customer.example\r\nX-SES-SOURCE-ARN: {OWNED}\r\n\r\nHi\r\n"
SIMULATOR = "success@simulator.amazonses.com"
_accounts = count(444_444_444_400)


@pytest.fixture(scope="module", params=ENGINES)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two workers; an owner whose own quota is one recipient, and whose domain anyone may use."""
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
        one.account(OWNER, quota=1, rate=1)
        one.identity("owner.example")
        one.policy(OWNED, grant("*", OWNED))
        one.start()
        yield one
        assert one.stop() == 0, one.log()
        assert "Traceback" not in one.log()


def delegate(gateway: Gateway, **limits: int) -> tuple[str, Login]:
    """A new account with these limits, and a login of it."""
    account = str(next(_accounts))
    gateway.account(account, **limits)
    return account, gateway.login("app", account)


def used(gateway: Gateway, account: str) -> tuple[int, int]:
    shown = gateway.run("account", "show", account)
    assert isinstance(shown, dict)
    return shown["sent_24h"], shown["left_24h"]


def send(gateway: Gateway, login: Login, recipients: int = 1, *, to: str = "r{}@customer.example") -> str:
    """The reply to a message, as one line."""
    rcpts = [to.format(number) for number in range(recipients)]
    code, text = gateway.send(login, rcpt=rcpts, arns=OWNED)
    return f"{code} {text}"


def test_r09_recipients_count_and_what_would_exceed_the_day_is_refused_whole(gateway):
    account, login = delegate(gateway, quota=10)
    assert send(gateway, login, 7).startswith("250")
    reply = send(gateway, login, 4)
    assert reply.startswith(f"454 {DAILY}\n3 of 10 recipients in 24 hours are left, the message has 4")
    assert send(gateway, login, 3).startswith("250")
    assert used(gateway, account) == (10, 0)


def test_r09_quota_is_the_delegates_and_not_the_owners(gateway):
    account, login = delegate(gateway, quota=5)
    assert [send(gateway, login)[:3] for _ in range(3)] == ["250"] * 3
    assert used(gateway, account) == (3, 2)
    assert used(gateway, OWNER) == (0, 1)


def test_r09_simulator_mail_is_of_the_rate_and_not_of_the_day(gateway):
    account, login = delegate(gateway, quota=1, rate=2)
    replies = [send(gateway, login, 40, to=SIMULATOR.replace("@", "+{}@")) for _ in range(2)]
    assert replies[0].startswith("250")
    assert replies[1].startswith(f"454 {RATE}")
    assert used(gateway, account) == (0, 1)


def test_r09_rate_lets_a_burst_through_and_carries_the_debt(gateway):
    _, login = delegate(gateway, rate=2)
    assert send(gateway, login, 6).startswith("250")
    began = time.monotonic()
    reply = send(gateway, login)
    assert reply.startswith(f"454 {RATE}\nthe rate is 2 recipients a second; the next message passes in ")
    give_up_at = time.monotonic() + 30
    while not send(gateway, login).startswith("250"):
        assert time.monotonic() < give_up_at
    # 4 recipients of debt and the one that must be there again, at 2 a second.
    assert time.monotonic() - began > 1.5


def test_r09_mailer_that_ignores_454_changes_nothing_and_the_session_goes_on(gateway):
    account, login = delegate(gateway, quota=2)
    with gateway.client(login) as client:
        answers = [
            transact(client, "alerts@owner.example", ["x@customer.example"], LETTER)[0] for _ in range(30)
        ]
    assert answers == [250] * 2 + [454] * 28
    assert used(gateway, account) == (2, 0)


def test_r09_raised_quota_holds_in_an_open_session(gateway):
    account, login = delegate(gateway, quota=1)
    with gateway.client(login) as client:

        def reply() -> int:
            return transact(client, "alerts@owner.example", ["x@customer.example"], LETTER)[0]

        assert [reply(), reply()] == [250, 454]
        gateway.run("account", "update", account, "--max-24h-send", "2")
        give_up_at = time.monotonic() + 20
        while reply() != 250:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
    assert used(gateway, account) == (2, 0)


def test_r09_race_of_20_connections_over_2_workers_is_exact(gateway):
    account, login = delegate(gateway, quota=100)
    sizes = [3, 1, 2, 4]

    def sender(number: int) -> int:
        """Recipients accepted on one connection that sends without regard to refusals."""
        accepted = 0
        with gateway.client(login) as client:
            for turn in range(5):
                size = sizes[(number + turn) % len(sizes)]
                rcpts = [f"c{number}-{turn}-{one}@customer.example" for one in range(size)]
                code, _ = transact(client, "alerts@owner.example", rcpts, LETTER)
                assert code in (250, 454)
                accepted += size * (code == 250)
        return accepted

    with ThreadPoolExecutor(20) as pool:
        total = sum(pool.map(sender, range(20)))
    # 250 were asked for, in messages of at most 4: one was refused, so at most 3 were left.
    assert 97 <= total <= 100
    assert used(gateway, account) == (total, 100 - total)
