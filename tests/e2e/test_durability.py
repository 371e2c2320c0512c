"""250 means durable: kill -9 under load loses nothing, and the sync comes before the reply."""

from __future__ import annotations

import errno
import re
import signal
import smtplib
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, arn, grant, user_arn
from tests.support.peers import require

KILLS = 10
CLIENTS = 6


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[tuple[Gateway, Login, Recorder]]:
    """A gateway of its own, started: these tests kill it."""
    recorder = Recorder(refused=frozenset({"nobody@customer.example"}))
    gateway = Gateway(tmp_path, recorder, RELAY_RELAY__WORKERS="2", RELAY_DELIVERY__RETRY_FIRST_SECONDS="1")
    gateway.run("init", str(tmp_path))
    gateway.account(OWNER)
    gateway.account(DELEGATE)
    gateway.identity("owner.example")
    login = gateway.login("app")
    gateway.policy(arn("owner.example"), grant({"AWS": user_arn("app")}, arn("owner.example")))
    gateway.start()
    yield gateway, login, recorder
    gateway.stop()
    recorder.close()


class Load:
    """Clients that send until told to stop and remember what got 250; ``more`` are fields besides."""

    def __init__(self, gateway: Gateway, login: Login, more: str = "") -> None:
        self.accepted: set[str] = set()
        self.ids: set[str] = set()
        self._gateway, self._login, self._more = gateway, login, more
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            try:
                with self._gateway.client(self._login) as client:
                    while not self._stop.is_set():
                        count += 1
                        self._one(client, f"c{number}-{count}", bounces=count % 10 == 0)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)  # it was killed: come again

    def _one(self, client: smtplib.SMTP, name: str, bounces: bool) -> None:
        back = f"{name}@owner.example"
        rcpt = "nobody@customer.example" if bounces else f"{name}@customer.example"
        client.mail(back)
        client.rcpt(rcpt)
        source = f"X-SES-SOURCE-ARN: {arn('owner.example')}"
        message = f"From: a@owner.example\r\nSubject: {name}\r\n{source}\r\n{self._more}\r\nx\r\n"
        code, text = client.data(message.encode())
        if code == 250:
            self.ids.add(text.decode().removeprefix("Ok "))
            # What bounces must come back; what does not must arrive.
            self.accepted.add(back if bounces else rcpt)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_kill_nine_ten_times_under_load_loses_nothing_and_leaves_nothing_unsigned(lender):
    gateway, login, recorder = lender
    load = Load(gateway, login)
    for _ in range(KILLS):
        before = len(load.accepted)
        wait_for(lambda: len(load.accepted) >= before + 50, 30)  # noqa: B023
        gateway.kill()
        gateway.start()
    load.stop()
    assert len(load.accepted) >= 50 * KILLS

    def missing() -> set[str]:
        return load.accepted - {rcpt for message in list(recorder.arrived) for rcpt in message.recipients}

    wait_for(lambda: not missing(), 60, lambda: f"{len(missing())} of {len(load.accepted)} lost")
    for message in recorder.arrived:
        if message.reverse_path:  # our own reports are not signed
            assert message.data.startswith(b"DKIM-Signature: "), message.data[:500]
    wait_for(lambda: gateway.run("queue", "list") == [], 60)  # what arrived last may still be settled
    assert_exact(gateway)


def assert_exact(gateway: Gateway) -> None:
    """R16: the bill and the owner's ledger are those of the messages in the store, to the last one."""
    connection = sqlite3.connect(gateway.directory / "relay.db", timeout=10)
    sent = "FROM message WHERE reverse_path <> ''"
    [expected] = connection.execute(f"SELECT count(*), sum(size_bytes) {sent}")
    of_sent = f"FROM recipient WHERE message_id IN (SELECT id {sent})"
    [(recipients,)] = connection.execute(f"SELECT count(*) {of_sent}")
    # Who was suppressed by then was never tried, and is no bounce of this account's.
    tried = f"SELECT state, count(*) {of_sent} AND attempts > 0 GROUP BY state"
    fates = dict(connection.execute(tried))
    connection.close()
    [line] = gateway.run("usage", "--by", "month", "--from", "2020-01-01")
    assert (line["messages"], line["bytes"]) == expected
    assert line["recipients"] == recipients
    assert {"delivered": line["delivered"], "bounced": line["hard_bounces"]} == fates
    owner = ("--identity", arn("owner.example"))
    wait_for(lambda: gateway.run("ledger", "verify", *owner)["not_sealed_yet"] == 0, 30)
    assert gateway.run("ledger", "verify", *owner)["intact"]
    entries = gateway.run("ledger", "show", *owner, "--limit", "1000000")
    told = [one["detail"]["message_id"] for one in entries if one["kind"] == "accepted"]
    assert (len(told), len(set(told))) == (line["messages"], line["messages"])


def test_sync_comes_before_the_250(lender, tmp_path: Path):
    """kill -9 leaves the page cache alone; only the system calls show that the disk was asked."""
    gateway, login, _ = lender
    gateway.stop()
    trace = tmp_path / "trace"
    gateway.environment["RELAY_RELAY__WORKERS"] = "1"
    gateway.environment["RELAY_SMTP__ALLOW_PLAINTEXT_AUTH"] = "true"  # so that the replies can be read
    calls = "trace=fsync,fdatasync,write,sendto,sendmsg,writev"
    gateway.start(require("strace"), "-D", "-f", "-y", "-s", "200", "-e", calls, "-o", str(trace))
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=20) as client:
        client.ehlo("x")
        client.login(login.username, login.password)
        for _ in range(3):
            client.mail("b@owner.example")
            client.rcpt("user@customer.example")
            code, _text = client.data(
                f"From: a@owner.example\r\nX-SES-SOURCE-ARN: {arn('owner.example')}\r\n\r\nx\r\n"
            )
            assert code == 250
    gateway.stop()
    events = re.findall(
        r"((?:fsync|fdatasync)\(\d+<[^>]*relay\.db[^>]*>|354 End data|250 Ok 0100)", trace.read_text()
    )
    shown = ["354" if e.startswith("354") else "250" if e.startswith("250") else "sync" for e in events]
    assert shown.count("250") == 3
    for index, event in enumerate(shown):
        if event == "250":
            begun = max(i for i in range(index) if shown[i] == "354")
            assert "sync" in shown[begun:index], shown


def test_restart_delivers_what_was_waiting(lender):
    gateway, login, recorder = lender
    recorder.close()  # the next hop is away
    codes = [
        gateway.send(login, rcpt=f"w{n}@customer.example", arns=arn("owner.example"))[0] for n in range(5)
    ]
    assert codes == [250] * 5
    wait_for(lambda: gateway.log().count("deferred") >= 5, 20)
    assert gateway.stop() == 0
    again = Recorder(refused=frozenset())
    gateway.environment["RELAY_DELIVERY__SMARTHOST"] = again.address
    gateway.start()
    for n in range(5):
        assert again.wait_for(f"w{n}@customer.example", 20).data.startswith(b"DKIM-Signature: ")
    again.close()


def test_sigterm_finishes_the_message_that_is_being_sent(lender):
    gateway, login, recorder = lender
    with gateway.client(login) as client:
        client.mail("b@owner.example")
        client.rcpt("last@customer.example")
        client.putcmd("data")
        assert client.getreply()[0] == 354
        stopper = threading.Thread(target=gateway.stop)
        stopper.start()
        wait_for(lambda: refuses_connections(gateway), 10)  # a balancer hands them on at once
        client.send(f"From: a@owner.example\r\nX-SES-SOURCE-ARN: {arn('owner.example')}\r\n\r\nx\r\n.\r\n")
        assert client.getreply()[0] == 250
        assert client.getreply()[0] == 421
        client.close()
        stopper.join()
    gateway.start()
    recorder.wait_for("last@customer.example", 20)


def refuses_connections(gateway: Gateway) -> bool:
    with socket.socket() as sock:
        sock.settimeout(5)
        return sock.connect_ex((gateway.host, gateway.port)) == errno.ECONNREFUSED


def test_reload_takes_new_settings_without_refusing_a_connection(lender):
    gateway, login, _ = lender
    file = gateway.directory / "relay.toml"
    wait_for(lambda: " ready " in gateway.log(), 20)
    failures: list[Exception] = []
    stop = threading.Event()

    def keep_connecting() -> None:
        while not stop.is_set():
            try:
                gateway.client(None).close()
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=keep_connecting, daemon=True)
    thread.start()
    try:
        file.write_text(file.read_text().replace("max_recipients = 50", "max_recipients = 1"))
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: gateway.log().count(" ready ") == 2, 20, gateway.log)
        two = ["a@customer.example", "b@customer.example"]
        wait_for(lambda: gateway.send(login, rcpt=two, arns=arn("owner.example"))[0] == 554, 20, gateway.log)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    file.write_text(file.read_text().replace("max_recipients = 1", "max_recipients = many"))
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "reload refused" in gateway.log(), 20)
    assert gateway.send(login, rcpt="a@customer.example", arns=arn("owner.example"))[0] == 250


def test_locked_store_gives_451_and_recovers_by_itself(lender):
    gateway, login, _ = lender
    # The gateway's own lock file is free; somebody else holds SQLite's.
    blocker = sqlite3.connect(gateway.directory / "relay.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    code, text = gateway.send(login, arns=arn("owner.example"))
    assert (code, text) == (451, "Temporary service failure")
    blocker.execute("ROLLBACK")
    blocker.close()
    wait_for(lambda: gateway.send(login, arns=arn("owner.example"))[0] == 250, 20)


def test_mail_that_is_leased_to_a_worker_which_does_not_know_of_it_goes_on(lender):
    """As if the answer to the commit of its claim had been lost."""
    import sqlite3

    gateway, login, recorder = lender
    gateway.environment["RELAY_DELIVERY__RETRY_FIRST_SECONDS"] = "3600"
    assert gateway.stop() == 0
    recorder.close()  # the next hop is away at first
    gateway.start()
    assert gateway.send(login, rcpt="stray@customer.example", arns=arn("owner.example"))[0] == 250
    wait_for(lambda: gateway.log().count("deferred") >= 1, 20)
    back = Recorder(refused=frozenset(), port=int(recorder.address.rpartition(":")[2]))
    with closing(sqlite3.connect(gateway.directory / "relay.db", timeout=20)) as store, store:
        holder = store.execute("SELECT id, epoch FROM worker WHERE running").fetchone()
        changed = "UPDATE recipient SET state = 'leased', due_at = 0, worker_id = ?, worker_epoch = ?"
        assert store.execute(f"{changed} WHERE state = 'queued'", holder).rowcount == 1
    back.wait_for("stray@customer.example", 40)
    back.close()


def test_second_gateway_in_one_directory_does_not_start(lender):
    gateway, _, _ = lender
    code, _, err = gateway.invoke("serve")
    assert code == 1
    assert "another relay runs from this directory" in err


def test_dead_worker_is_replaced_and_its_mail_goes_on(lender):
    gateway, login, recorder = lender
    assert gateway.process is not None
    children = subprocess.run(
        ["ps", "--ppid", str(gateway.process.pid), "-o", "pid="], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(children) == 2
    for child in children:
        subprocess.run(["kill", "-9", child], check=True)
    wait_for(lambda: gateway.log().count("worker died") == 2, 20)
    wait_for(lambda: accepts(gateway, login, "after@customer.example"), 20)
    recorder.wait_for("after@customer.example", 20)


def accepts(gateway: Gateway, login: Login, rcpt: str) -> bool:
    try:
        return gateway.send(login, rcpt=rcpt, arns=arn("owner.example"))[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def wait_for(condition, seconds: float, message=lambda: "it did not come true in time") -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, message()
        time.sleep(0.05)
