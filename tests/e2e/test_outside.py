"""The gateway as seen by HTTP, with two workers: figures in sum, readiness, reload, one id in the log."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.app.recorder import Recorder
from relay.submission.identifiers import parse_ses_message_id
from tests.support.gateway import OWNER, Gateway, Login, free_ports
from tests.support.stores import ENGINES
from tests.support.web import Answer, ask

TOKEN = "0123456789abcdef0123456789abcdef"


@contextmanager
def running(directory: Path, **settings: str) -> Iterator[Gateway]:
    """Two workers and a next hop that refuses ``nobody``."""
    recorder = Recorder(refused=frozenset({"nobody@customer.example"}))
    one = Gateway(directory, recorder, RELAY_RELAY__WORKERS="2", RELAY_LOG__FORMAT="json", **settings)
    one.run("init", str(directory))
    one.account(OWNER)
    one.identity("owner.example")
    one.start()
    try:
        yield one
    finally:
        code = one.stop()
        recorder.close()
    assert code == 0, one.log()
    assert "Traceback" not in one.log()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(tmp_path_factory.mktemp("relay")) as one:
        yield one


@pytest.fixture(scope="module")
def app(gateway: Gateway) -> Login:
    return gateway.login("app", OWNER)


def get(gateway: Gateway, path: str, **fields: str) -> Answer:
    return ask(f"http://127.0.0.1:{gateway.http_port}{path}", **fields)


def figures(gateway: Gateway) -> dict[str, float]:
    """Every sample by its name, with its labels if it has any."""
    found = {}
    for family in text_string_to_metric_families(get(gateway, "/metrics").text):
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def send(gateway: Gateway, login: Login, rcpt: str = "user@customer.example", **kwargs: str) -> int:
    sender = kwargs.get("sender", "a@owner.example")
    return gateway.send(login, rcpt=rcpt, mail_from=sender, headers={"From": sender})[0]


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def is_answered(url: str, status: int, text: str = "relay: ready\n") -> bool:
    """Whether somebody answers at all, and so."""
    try:
        return ask(url) == Answer(status, text)
    except OSError:
        return False


def workers(gateway: Gateway) -> list[int]:
    assert gateway.process is not None
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def events(gateway: Gateway) -> list[dict[str, str]]:
    return [json.loads(line) for line in gateway.log().splitlines()]


def takers(gateway: Gateway) -> set[int]:
    """The workers that accepted mail: ids name them."""
    ids = [parse_ses_message_id(one["id"]) for one in events(gateway) if one["event"] == "accepted"]
    return {one >> 12 & 1023 for one in ids if one is not None}


def test_process_lives_and_takes_mail(gateway):
    assert get(gateway, "/healthz") == Answer(200, "relay: alive\n")
    assert get(gateway, "/readyz") == Answer(200, "relay: ready\n")


def test_figures_are_the_sum_of_both_workers_whichever_is_asked(gateway, app):
    before = figures(gateway)
    sent = 0
    for _ in range(10):  # the kernel shares connections out by chance
        for _ in range(8):
            assert send(gateway, app) == 250
        sent += 8
        if len(takers(gateway)) > 1:
            break
    assert len(takers(gateway)) > 1
    assert send(gateway, app, "nobody@customer.example") == 250
    assert send(gateway, app, sender="a@elsewhere.example") == 554
    # The report on what bounced is delivered too.
    wait_until(
        lambda: figures(gateway)["relay_delivered_total"] == before["relay_delivered_total"] + sent + 1
    )
    for _ in range(8):
        after = figures(gateway)
        grown = {name: value - before.get(name, 0) for name, value in after.items()}
        assert grown["relay_accepted_total"] == sent + 1
        assert grown["relay_bounced_total"] == 1
        assert grown["relay_refused_total{not_verified}"] == 1
        assert grown["relay_accept_seconds_count"] == sent + 2
        # What changed since it was judged is judged, signed and committed anew.
        assert grown["relay_stage_seconds_count{authorization}"] >= sent + 2
        assert grown["relay_stage_seconds_count{signing}"] >= sent + 1
        assert grown["relay_stage_seconds_count{commit}"] >= sent + 1
        assert grown["relay_attempt_seconds_count"] == sent + 2
    assert sum(name.startswith("relay_worker_memory_bytes") for name in after) == 2
    assert all(after[f"relay_queue_recipients{{{state}}}"] == 0 for state in ("queued", "leased", "held"))


def test_killed_workers_counts_stay_and_its_connections_do_not(gateway, app):
    before = figures(gateway)
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
        wait_until(lambda: figures(gateway)["relay_connections"] == before["relay_connections"] + 8)
        first, second = workers(gateway)
        for pid in (first, second):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(workers(gateway)) - {first, second}) == 2)
        gateway.await_greeting()
        wait_until(lambda: get(gateway, "/readyz").status == 200)
        after = figures(gateway)
        assert after["relay_accepted_total"] == before["relay_accepted_total"] > 0
        assert after["relay_accept_seconds_count"] == before["relay_accept_seconds_count"]
        assert after["relay_workers_died_total"] == before["relay_workers_died_total"] + 2
        assert after["relay_connections"] <= 1  # that of the greeting may not be over
    assert send(gateway, app) == 250
    assert figures(gateway)["relay_accepted_total"] == before["relay_accepted_total"] + 1


def test_failed_login_is_counted(gateway):
    before = figures(gateway)["relay_auth_failures_total"]
    with pytest.raises(Exception, match="535"):
        gateway.client(Login("nobody", "wrong"))
    # smtplib tries PLAIN and then LOGIN.
    assert figures(gateway)["relay_auth_failures_total"] == before + 2


def test_one_id_follows_a_message_through_all_its_lines(gateway, app):
    assert (
        gateway.send(
            app,
            rcpt=["one@customer.example", "nobody@customer.example"],
            mail_from="bounces@owner.example",
            headers={"From": "a@owner.example"},
        )[0]
        == 250
    )
    gateway.recorder.wait_for("bounces@owner.example", 20)
    [id_] = {one["id"] for one in events(gateway) if one.get("to") == "one@customer.example"}

    def lines() -> list[str]:
        return sorted(one["event"] for one in events(gateway) if one.get("id") == id_)

    wait_until(lambda: lines() == ["accepted", "bounced", "delivered", "reported"])
    [report] = [one["report"] for one in events(gateway) if one.get("id") == id_ and "report" in one]
    wait_until(lambda: [one["event"] for one in events(gateway) if one.get("id") == report] == ["delivered"])
    of_mail = {"accepted", "delivered", "deferred", "bounced", "reported"}
    assert all(
        re.fullmatch(r"[0-9a-f-]{60}", one["id"]) for one in events(gateway) if one["event"] in of_mail
    )


def test_reload_adds_a_listener_and_the_old_generation_leaves_at_once(gateway, app):
    """While a session keeps an old worker busy, no probe meets it."""
    assert send(gateway, app) == 250
    counted = figures(gateway)["relay_accepted_total"]
    [new] = free_ports(1)
    file = gateway.directory / "relay.toml"
    with socket.create_connection(("127.0.0.1", gateway.port)) as sock:
        sock.recv(100)
        old = set(workers(gateway))
        file.write_text(file.read_text().replace("listen_tls = []", f'listen_tls = ["127.0.0.1:{new}"]'))
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: is_answered(f"https://127.0.0.1:{new}/readyz", 200))
        for _ in range(30):
            assert get(gateway, "/readyz").status == 200
    wait_until(lambda: not set(workers(gateway)) & old)
    assert figures(gateway)["relay_accepted_total"] == counted


@pytest.fixture(params=ENGINES)
def store_that_goes(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Gateway, Callable, Callable]]:
    """A gateway, what takes its store away, and what brings it back."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            one = stack.enter_context(running(tmp_path))
            lock = stack.enter_context((tmp_path / "relay.db-lock").open())
            yield one, lambda: fcntl.flock(lock, fcntl.LOCK_EX), lambda: fcntl.flock(lock, fcntl.LOCK_UN)
            return
        server = request.getfixturevalue("postgresql")
        url = stack.enter_context(server.database(empty=True))
        one = stack.enter_context(running(tmp_path, RELAY_STORE__URL=url))
        name = url.partition("?")[0].rpartition("/")[2]
        yield one, lambda: server.rename(name, f"{name}_away"), lambda: server.rename(f"{name}_away", name)


def statuses(gateway: Gateway) -> set[int]:
    """What both workers say of themselves, by all likelihood."""
    return {get(gateway, "/readyz").status for _ in range(20)}


def test_store_that_is_away_is_said_and_comes_back(store_that_goes):
    gateway, take_away, bring_back = store_that_goes
    app = gateway.login("app", OWNER)
    assert get(gateway, "/readyz").status == 200
    take_away()
    try:
        wait_until(lambda: statuses(gateway) == {503})
        assert get(gateway, "/readyz").text.startswith("relay: store: ")
        assert get(gateway, "/healthz").status == 200
        wait_until(lambda: figures(gateway)["relay_store_errors_total"] > 0)
    finally:
        bring_back()
    wait_until(lambda: statuses(gateway) == {200})
    # The first write of a worker may yet meet a connection that went away with the store: come again.
    wait_until(lambda: send(gateway, app) == 250)


def test_gateway_that_is_told_to_stop_says_so_while_it_drains(tmp_path):
    with running(tmp_path) as gateway:
        app = gateway.login("app", OWNER)
        with closing(gateway.client(app)) as client:  # no QUIT: the session is ended for it
            client.mail("a@owner.example")
            client.rcpt("user@customer.example")
            client.docmd("DATA")
            gateway.process.send_signal(signal.SIGTERM)
            # A worker that has nothing to finish is gone at once, and a probe may meet it in that moment.
            ready = f"http://127.0.0.1:{gateway.http_port}/readyz"
            wait_until(lambda: is_answered(ready, 503, "relay: draining: it is told to stop\n"))
            client.send(b"From: a@owner.example\r\nTo: user@customer.example\r\n\r\nHi\r\n.\r\n")
            assert client.getreply()[0] == 250


def test_metrics_want_the_token_that_is_set(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with running(tmp_path, RELAY_HTTP__METRICS_TOKEN_FILE="token") as gateway:
        assert get(gateway, "/metrics").status == 401
        assert get(gateway, "/metrics", authorization=f"Bearer {TOKEN}").status == 200
        assert get(gateway, "/readyz").status == 200
        assert TOKEN not in gateway.log()


def test_metrics_are_not_for_who_comes_through_a_proxy(gateway):
    refused = get(gateway, "/metrics", x_forwarded_for="203.0.113.9")
    assert refused.status == 403
    assert "metrics_token_file" in refused.text


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "No such file"), ("short", "at least 16 characters"), ("", "at least 16 characters")],
)
def test_token_file_that_is_not_fit_stops_the_start(tmp_path, content, problem):
    one = Gateway(tmp_path, Recorder(refused=frozenset()), RELAY_HTTP__METRICS_TOKEN_FILE="token")
    one.run("init", str(tmp_path))
    if content is not None:
        (tmp_path / "token").write_text(content)
    code, _, err = one.invoke("serve")
    one.recorder.close()
    assert code != 0
    assert "[http] metrics_token_file" in err
    assert problem in err


def test_without_listeners_there_is_no_http(tmp_path):
    with running(tmp_path, RELAY_HTTP__LISTEN="") as gateway:
        with pytest.raises(OSError):
            get(gateway, "/healthz")
        assert send(gateway, gateway.login("app", OWNER)) == 250
