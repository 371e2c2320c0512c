"""``relay key``: the key changes while mail flows, killed at every step, and nothing is lost or refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from relay.app import keys
from relay.app.recorder import Recorder
from relay.store import credentials
from relay.store.engine import Store
from relay.store.secrets import load_key_file
from relay.store.tables import credential
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, arn, grant, user_arn
from tests.support.stores import ENGINES

DOMAIN = "owner.example"
MORE = 450  # credentials besides: three batches

# What a rotation does in this order; it is killed before the call of that number.
STEPS = {
    "nothing is done yet": ("relay.store.key_file.add", 1),
    "the key is in the file": ("relay.store.installation.use_key", 1),
    "the store asks for the key": ("relay.store.key_file.make_current", 1),
    "the key is current": ("relay.store.sealed.reseal", 1),
    "a third is under it": ("relay.store.sealed.reseal", 2),
    "all but the signing keys are": ("relay.store.sealed.reseal", 4),
}
KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from relay.app import keys
module, name = sys.argv[2].rsplit(".", 1)
owner = importlib.import_module(module)
real, calls = getattr(owner, name), []
def counted(*arguments):
    calls.append(1)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
setattr(owner, name, counted)
keys.rotate(Path(sys.argv[1]), "cli:test")
"""


@pytest.fixture(params=ENGINES)
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gateway]:
    """Two workers that read the key file themselves."""
    with ExitStack() as stack:
        recorder = Recorder(refused=frozenset())
        stack.callback(recorder.close)
        settings = {"RELAY_RELAY__WORKERS": "2"}
        if request.param == "postgresql":
            database = request.getfixturevalue("postgresql").database(empty=True)
            settings["RELAY_STORE__URL"] = stack.enter_context(database)
        one = Gateway(tmp_path, recorder, **settings)
        one.run("init", str(tmp_path))
        one.account(OWNER)
        one.account(DELEGATE)
        one.identity(DOMAIN)
        yield one
        if one.process is not None:
            assert one.stop() == 0, one.log()
        assert "Traceback" not in one.log()


@pytest.fixture
def app(gateway: Gateway) -> Login:
    login = gateway.login("app")
    gateway.policy(arn(DOMAIN), grant({"AWS": user_arn("app")}, arn(DOMAIN)))
    return login


def store_url(gateway: Gateway) -> str:
    return gateway.environment.get("RELAY_STORE__URL", f"sqlite:///{gateway.directory}/relay.db")


def more_credentials(gateway: Gateway) -> None:
    secrets = load_key_file(gateway.directory / "relay.key")
    names = [f"AKIAMORE{number:012}" for number in range(MORE)]
    store = Store(store_url(gateway))
    with store.write() as connection:
        rows = [
            {
                "access_key_id": name,
                "account_id": DELEGATE,
                "service": "s.amazonaws.com",
                "secret": secrets.seal(b"secret", credentials.secret_place(name)),
                "active": True,
                "created_at": 1,
            }
            for name in names
        ]
        connection.execute(insert(credential), rows)
    store.dispose()


class Load:
    """A client that logs in and sends, again and again; every reply is kept."""

    def __init__(self, gateway: Gateway, login: Login) -> None:
        self.replies: list[int] = []
        self.failed: list[BaseException] = []
        self._stop = threading.Event()
        self._send = lambda: gateway.send(login, arns=arn(DOMAIN))[0]
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.replies.append(self._send())
            except Exception as error:
                self.failed.append(error)
                return

    def __enter__(self) -> Load:
        self._thread.start()
        wait_until(lambda: bool(self.replies) or bool(self.failed))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert self.failed == []
        assert set(self.replies) == {250}


def wait_until(holds: Callable[[], object], seconds: float = 40) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def listed(gateway: Gateway) -> dict[str, dict[str, Any]]:
    rows = gateway.run("key", "list")
    return {row["key_id"]: row for row in rows}


def refused(gateway: Gateway, *arguments: str) -> str:
    code, _, told = gateway.invoke("key", *arguments)
    assert code == 1
    return told


def is_gone(gateway: Gateway, key_id: str) -> bool:
    """Removed, once every worker has noticed that another is current."""
    return gateway.invoke("key", "remove", key_id, "--now")[0] == 0


@pytest.mark.timeout(300)
def test_rotation_killed_at_every_step_is_finished_by_the_next(gateway, app):
    more_credentials(gateway)
    gateway.start()
    key = 1
    with Load(gateway, app):
        for step, (call, number) in STEPS.items():
            key += 1
            command = [sys.executable, "-c", KILLED, str(gateway.directory / "relay.toml"), call, str(number)]
            killed = subprocess.run(command, env=gateway.environment, capture_output=True, text=True)
            assert killed.returncode == -9, (step, killed.stderr)
            done = gateway.run("key", "rotate")
            assert done["key_id"] == str(key), step
            rows = listed(gateway)
            assert rows[str(key)]["is_current"], step
            assert {one: row["sealed"] for one, row in rows.items() if row["sealed"]} == {
                str(key): MORE + 2
            }, step
    # Everything is opened anew, by processes that have read nothing before.
    assert gateway.stop() == 0
    for old in range(1, key):
        assert gateway.invoke("key", "remove", str(old), "--now")[0] == 0
    gateway.start()
    assert gateway.send(app, arns=arn(DOMAIN))[0] == 250
    arrived = gateway.recorder.wait_for("user@customer.example", 20)
    assert arrived.data.startswith(b"DKIM-Signature: ")
    assert list(listed(gateway)) == [str(key)]


def test_old_key_goes_once_nothing_needs_it(gateway, app):
    gateway.start()
    with Load(gateway, app):
        assert "no key 7" in refused(gateway, "remove", "7")
        assert "is the current one" in refused(gateway, "remove", "1")
        assert gateway.run("key", "add") == {"added": "2"}
        assert "key 2 waits to be used" in refused(gateway, "add")
        assert listed(gateway)["2"]["sealed"] == 0
        done = gateway.run("key", "rotate")
        assert done == {"key_id": "2", "added": False, "resealed": 2, "superseded": ["1"]}
        wait_until(lambda: "14 days more" in refused(gateway, "remove", "1"))
        wait_until(lambda: is_gone(gateway, "1"))
        # A worker that starts now has never seen the old key.
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: gateway.log().count("ready workers=2") == 2)
    assert list(listed(gateway)) == ["2"]
    names = [row["action"] for row in gateway.run("audit") if row["subject"].startswith("key:")]
    assert names == ["RemoveKey", "RotateKey", "AddKey"]


def test_service_with_a_copy_of_the_key_file_is_restarted_before_the_key_is_used(gateway, app, monkeypatch):
    """As under systemd's LoadCredential, and as on another node whose file nobody has copied yet."""
    monkeypatch.setattr(keys, "_WAIT_SECONDS", 1.0)
    real, copy = gateway.directory / "relay.key", gateway.directory / "copy.key"

    def restart() -> None:
        if gateway.process is not None:
            assert gateway.stop() == 0
        shutil.copy(real, copy)
        gateway.environment["RELAY_STORE__KEY_FILE"] = str(copy)
        try:
            gateway.start()
        finally:
            del gateway.environment["RELAY_STORE__KEY_FILE"]

    restart()
    told = refused(gateway, "rotate")
    assert "key 2 is in the file and not used yet: worker 1 on" in told
    assert "systemctl restart relay" in told
    rows = listed(gateway)
    assert (rows["1"]["sealed"], rows["2"]["sealed"], rows["1"]["is_current"]) == (2, 0, True)
    assert len(rows["2"]["missing_at"]) == 2
    assert gateway.send(app, arns=arn(DOMAIN))[0] == 250
    restart()
    done = gateway.run("key", "rotate")
    assert (done["key_id"], done["added"], done["resealed"]) == ("2", False, 2)
    assert gateway.send(app, arns=arn(DOMAIN))[0] == 250
    # The service still seals under the key that was current when it started.
    assert "still seals under key 1" in refused(gateway, "remove", "1", "--now")
    restart()
    assert is_gone(gateway, "1")
    assert gateway.send(app, arns=arn(DOMAIN))[0] == 250


def test_node_with_an_old_key_file_does_not_start(gateway, app):
    old = gateway.directory / "old.key"
    shutil.copy(gateway.directory / "relay.key", old)
    gateway.run("key", "rotate")
    gateway.environment["RELAY_STORE__KEY_FILE"] = str(old)
    code, _, told = gateway.invoke("account", "list")
    assert code == 1
    assert "the key file has no key '2'; copy the file from the machine that has it" in told
    with pytest.raises(AssertionError, match="no key '2'"):
        gateway.start()
    gateway.process = None


def test_list_shows_no_key(gateway):
    _, out, _ = gateway.invoke("key", "list")
    shown = (gateway.directory / "relay.key").read_text()
    assert out.splitlines()[1].split()[:2] == ["1", "yes"]
    assert not any(word in shown for word in out.split() if len(word) > 20)


def test_value_sealed_under_an_old_key_meanwhile_is_found_by_the_next_rotation(gateway):
    """A command that began before the rotation may end after it."""
    before = load_key_file(gateway.directory / "relay.key")
    gateway.run("key", "rotate")
    store = Store(store_url(gateway))
    late = before.seal(b"secret", credentials.secret_place("AKIALATE"))
    row = {"access_key_id": "AKIALATE", "account_id": DELEGATE, "service": "s", "secret": late}
    with store.write() as connection:
        connection.execute(insert(credential), [{**row, "active": True, "created_at": 1}])
    store.dispose()
    assert "1 values are still sealed under key 1" in refused(gateway, "remove", "1", "--now")
    assert gateway.run("key", "rotate")["resealed"] == 1
    assert is_gone(gateway, "1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a directory to another user")
def test_roots_command_keeps_owners(open_directory):
    """The key file is root's, the store the service's; neither changes hands."""
    recorder = Recorder(refused=frozenset())
    state, secret = open_directory / "state", open_directory / "secret"
    for directory in (state, secret):
        directory.mkdir(mode=0o755)
    os.chown(state, 65534, 65534)
    gateway = Gateway(state, recorder)
    made = ("init", str(state), "--key-file", str(secret / "relay.key"))
    assert (
        subprocess.run(
            [sys.executable, "-m", "relay", *made], env=gateway.environment, capture_output=True
        ).returncode
        == 0
    )
    gateway.run("key", "rotate")
    recorder.close()
    assert os.geteuid() == 0
    assert {file.stat().st_uid for file in state.iterdir()} == {65534}
    assert (secret / "relay.key").stat().st_uid == 0
    assert (secret / "relay.key").stat().st_mode & 0o777 == 0o600
