"""The operator's commands on mail that the next hop does not take, while the gateway runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, arn, free_ports, grant, user_arn

DOMAIN = "owner.example"
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Nothing listens at the next hop: all mail is deferred for a minute, and every attempt is counted."""
    directory: Path = tmp_path_factory.mktemp("relay")
    recorder = Recorder(refused=frozenset())
    one = Gateway(directory, recorder, RELAY_DELIVERY__SMARTHOST=f"127.0.0.1:{free_ports(1)[0]}")
    one.run("init", str(directory))
    one.account(OWNER)
    one.account(DELEGATE)
    one.identity(DOMAIN)
    one.start()
    yield one
    assert one.stop() == 0, one.log()
    assert "Traceback" not in one.log()
    recorder.close()


@pytest.fixture(scope="module")
def app(gateway: Gateway) -> Login:
    login = gateway.login("app")
    gateway.policy(arn(DOMAIN), grant({"AWS": user_arn("app")}, arn(DOMAIN)))
    return login


def waiting(gateway: Gateway, destination: str) -> list[dict]:
    return gateway.run("queue", "list", "--destination", destination)


# A next hop that was away is tried again after up to a minute.
def wait_until(holds: Callable[[], bool], seconds: float = 100) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def deferred(gateway: Gateway, app: Login, destination: str, recipients: int = 1) -> str:
    """The id of a message that was tried in vain."""
    rcpts = [f"r{number}@{destination}" for number in range(recipients)]
    code, text = gateway.send(app, rcpt=rcpts, arns=arn(DOMAIN))
    assert code == 250
    wait_until(lambda: [row["attempts"] for row in waiting(gateway, destination)] == [1] * recipients)
    return text.split()[1]


def test_list_says_why_mail_waits(gateway, app):
    message = deferred(gateway, app, "list.example", recipients=2)
    rows = waiting(gateway, "list.example")
    assert [(row["message_id"], row["state"], row["account_id"]) for row in rows] == [
        (message, "queued", DELEGATE)
    ] * 2
    _, out, _ = gateway.invoke("queue", "list", "--message", message)
    assert "Connect call failed" in out
    for by, name in (("destination", "list.example"), ("account", DELEGATE), ("identity", arn(DOMAIN))):
        _, out, _ = gateway.invoke("queue", "list", "--by", by, "--destination", "list.example")
        assert out.splitlines()[1].split()[:3] == [name, "2", "0"]
    _, out, _ = gateway.invoke("queue", "show", "--message", message)
    assert out.count("expires_at") == 2


def test_retry_tries_at_once(gateway, app):
    deferred(gateway, app, "retry.example")
    assert gateway.run("queue", "retry", "--destination", "retry.example")["changed"] == 1
    wait_until(lambda: waiting(gateway, "retry.example")[0]["attempts"] >= 2)


def test_held_mail_stays_until_it_is_released(gateway, app):
    message = deferred(gateway, app, "hold.example")
    assert gateway.run("queue", "hold", "--message", message) == {"verb": "hold", "changed": 1, "in_hand": 0}
    [row] = waiting(gateway, "hold.example")
    assert (row["state"], row["held_because"]) == ("held", "operator")
    assert gateway.invoke("queue", "retry", "--message", message)[0] == 1
    _, out, _ = gateway.invoke("queue", "release", "--message", message)
    assert out == "release: 1 recipients\n"
    wait_until(lambda: waiting(gateway, "hold.example")[0]["attempts"] >= 2)


def test_dropped_mail_is_gone_and_the_record_says_who_dropped_it(gateway, app):
    message = deferred(gateway, app, "drop.example", recipients=2)
    done = gateway.run("queue", "drop", "--destination", "DROP.example")
    assert done["changed"] + done["in_hand"] == 2
    assert waiting(gateway, "drop.example") == []
    shown = gateway.run("message", "show", message)
    assert {one["state"] for one in shown["recipients"]} == {"dropped"}
    assert all(one["last_reply"].startswith("dropped by cli:") for one in shown["recipients"])
    assert shown["notices"] == []


def test_drop_with_notice_reports_to_the_return_path(gateway, app):
    message = deferred(gateway, app, "notify.example")
    gateway.run("queue", "drop", "--message", message, "--notify")
    wait_until(lambda: bool(waiting(gateway, "owner.example")))
    [report] = [row["message_id"] for row in waiting(gateway, "owner.example")]
    record = gateway.run("message", "show", report)["record"]
    assert record == {"report_on": message, "kind": "bounce"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["retry"], 2, "or --all"),
        (["drop", "--all", "--destination", "x.example"], 2, "or --all"),
        (["hold", "--message", "nonsense"], 1, "no message's id"),
        (["release", "--destination", "nowhere.example"], 1, "nothing in the queue is selected"),
        (["show", "--destination", "nowhere.example"], 1, "nothing in the queue is selected"),
    ],
)
def test_unclear_order_is_refused(gateway, arguments, code, words):
    result = gateway.invoke("queue", *arguments)
    assert (result[0], words in result[2]) == (code, True)
