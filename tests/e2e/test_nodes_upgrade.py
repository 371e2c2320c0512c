"""A rolling upgrade: the program of the schema's revision before this one and this one share a store."""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from relay.store.schema import REVISION
from tests.support.earlier import EarlierGateway, unpack
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, arn, grant, transact, user_arn
from tests.support.nodes import address, join, stop

OWNED = arn("owner.example")


@dataclass(frozen=True)
class Upgrade:
    """Node 1 runs the earlier program on a store that it made; this program, not started, is on node 2, and
    on node 1 once it is ``upgraded``."""

    earlier: EarlierGateway
    later: Gateway
    upgraded: Gateway
    recorder: Recorder
    login: Login
    revision: str


@pytest.fixture
def upgrade(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Upgrade]:
    revision = unpack(tmp_path / "earlier")
    with ExitStack() as stack:
        recorder = Recorder(refused=frozenset({"nobody@customer.example"}))
        stack.callback(recorder.close)
        url = stack.enter_context(request.getfixturevalue("postgresql").database(empty=True))
        (tmp_path / "node1").mkdir()

        def settings(number: int) -> dict[str, str]:
            return {"RELAY_STORE__URL": url, "RELAY_RELAY__NODE": f"node{number}"}

        at = (tmp_path / "node1", recorder, address(1))
        earlier = EarlierGateway(tmp_path / "earlier", *at, **settings(1))
        stack.callback(earlier.close)
        upgraded = Gateway(*at, **settings(1))
        later = Gateway(tmp_path / "node2", recorder, address(2), **settings(2))
        earlier.run("init", str(earlier.directory))
        for account in (OWNER, DELEGATE):
            earlier.account(account)
        earlier.identity("owner.example")
        earlier.policy(OWNED, grant({"AWS": user_arn("app")}, OWNED))
        login = earlier.login("app")
        join(earlier, later)
        earlier.start()
        stack.callback(stop, earlier, later, upgraded)
        yield Upgrade(earlier, later, upgraded, recorder, login, revision)


class Client:
    """Sends to one node, a recipient of its own each time, until told to stop."""

    def __init__(self, gateway: Gateway, login: Login, name: str) -> None:
        self._gateway, self._login, self._name = gateway, login, name
        self._stop = threading.Event()
        self.accepted: list[str] = []
        self.refused: set[int | None] = set()  # None: the connection was lost
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with self._gateway.client(self._login) as client:
                    while not self._stop.is_set():
                        number += 1
                        self._send(client, f"{self._name}{number}@customer.example")
                        time.sleep(0.05)
            except (OSError, smtplib.SMTPException):
                self.refused.add(None)
                time.sleep(0.1)

    def _send(self, client: smtplib.SMTP, rcpt: str) -> None:
        code, _ = transact(client, "bounces@owner.example", [rcpt], letter())
        if code == 250:
            self.accepted.append(rcpt)
        else:
            self.refused.add(code)


def letter(sender: str = "a@owner.example", source: str = OWNED) -> str:
    fields = {"From": sender, "To": "x@customer.example", "X-SES-SOURCE-ARN": source}
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\nHi\r\n"


def test_earlier_release_serves_on_the_new_schema_beside_this_one_until_it_is_upgraded(upgrade):
    earlier, later, login = upgrade.earlier, upgrade.later, upgrade.login
    assert upgrade.revision < REVISION
    code, _, err = later.invoke("serve")
    assert code == 1
    assert (
        f"the store is at revision {upgrade.revision}, this release needs {REVISION}; run: relay migrate"
        in err
    )

    with Client(earlier, login, "before") as before, Client(later, login, "beside") as beside:
        assert later.run("migrate") == {"before": upgrade.revision, "now": REVISION}
        later.start()
        revoke_at(later, earlier)
        # A worker that dies meanwhile is replaced; a supervisor would not be: it is to be upgraded.
        kill_a_worker(earlier)
        for one in (earlier,) * 5 + (later,):  # whose bounces either node may tell of
            assert one.send(login, arns=OWNED, rcpt="nobody@customer.example")[0] == 250
        code, _, err = earlier.invoke("serve")
        assert code == 1
        assert f"newer than this release knows ({upgrade.revision}); upgrade the relay" in err
        assert earlier.stop() == 0, earlier.log()
        upgrade.upgraded.start()
        assert upgrade.upgraded.send(login, arns=OWNED, rcpt="upgraded@customer.example")[0] == 250
    assert before.accepted
    assert beside.accepted
    await_all(upgrade.recorder, [*before.accepted, *beside.accepted, "upgraded@customer.example"])
    await_reports(upgrade.recorder, 6)
    assert before.refused <= {None, 421, 451}
    assert beside.refused <= {None}  # it was there before its node


def revoke_at(node: Gateway, *others: Gateway) -> None:
    """What is taken back at one node holds within a second in sessions of all of them."""
    lent, login = node.identity("revoked.example"), node.login("revoked")
    node.policy(lent, grant({"AWS": user_arn("revoked")}, lent))
    mail = ("a@revoked.example", ["x@customer.example"], letter("a@revoked.example", lent))
    with ExitStack() as stack:
        sessions = [stack.enter_context(one.client(login)) for one in (node, *others)]
        assert {transact(one, *mail)[0] for one in sessions} == {250}
        began = time.monotonic()
        node.run("policy", "delete", "lend", "--identity", lent)
        assert {transact(one, *mail)[0] for one in sessions} == {554}
        assert time.monotonic() - began < 1


def kill_a_worker(gateway: Gateway) -> None:
    assert gateway.process is not None
    command = ["ps", "--ppid", str(gateway.process.pid), "-o", "pid="]
    os.kill(int(subprocess.run(command, capture_output=True, text=True).stdout.split()[0]), signal.SIGKILL)
    gateway.await_greeting()


def await_all(recorder: Recorder, rcpts: list[str]) -> None:
    """Each came, and once; what the killed worker had in hand may have come twice."""
    for rcpt in rcpts:
        recorder.wait_for(rcpt, 20)
    times = Counter(rcpt for one in recorder.arrived for rcpt in one.recipients)
    assert sum(times[rcpt] - 1 for rcpt in rcpts) <= 2


def await_reports(recorder: Recorder, count: int) -> None:
    give_up_at = time.monotonic() + 20
    while len(reports := [one for one in recorder.arrived if not one.reverse_path]) < count:
        assert time.monotonic() < give_up_at, f"{len(reports)} of {count}"
        time.sleep(0.05)
    assert len(reports) == count
    assert {one.recipients for one in reports} == {("bounces@owner.example",)}
