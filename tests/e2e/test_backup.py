"""``relay backup`` under load, ``relay restore`` to either engine, backups that are not what they were."""

from __future__ import annotations

import json
import os
import shutil
import smtplib
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import inspect

from relay.app.archive import Manifest, Reader, Writer
from relay.app.recorder import Recorder
from relay.store import backup, schema
from relay.store.backup import BackupError, TableForm
from relay.store.engine import Store
from relay.store.secrets import KeyFileError, load_key_file
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, arn, free_ports, grant, transact, user_arn
from tests.support.stores import ENGINES, PostgreSQL

DOMAIN = "owner.example"
LARGE = "a line of a large body\r\n" * 60_000  # six pieces
pytestmark = pytest.mark.timeout(300)


class Site:
    """Where gateways are set up, one after the other."""

    def __init__(self, request: pytest.FixtureRequest, directory: Path, stack: ExitStack) -> None:
        self._request, self._directory, self._stack = request, directory, stack
        self.recorder = Recorder(refused=frozenset())
        stack.callback(self.recorder.close)

    def gateway(self, name: str, engine: str, **settings: str) -> Gateway:
        if engine == "postgresql":
            server: PostgreSQL = self._request.getfixturevalue("postgresql")
            settings["RELAY_STORE__URL"] = self._stack.enter_context(server.database(empty=True))
        directory = self._directory / name
        directory.mkdir()
        return Gateway(directory, self.recorder, **settings)

    def lender(self, engine: str, **settings: str) -> tuple[Gateway, Login]:
        """A gateway whose next hop is away: what it takes waits."""
        away = {"RELAY_DELIVERY__SMARTHOST": f"127.0.0.1:{free_ports(1)[0]}", **settings}
        gateway = self.gateway("first", engine, **away)
        gateway.run("init", str(gateway.directory))
        gateway.account(OWNER)
        gateway.account(DELEGATE)
        gateway.identity(DOMAIN)
        login = gateway.login("app")
        gateway.policy(arn(DOMAIN), grant({"AWS": user_arn("app")}, arn(DOMAIN)))
        return gateway, login

    def after(self, first: Gateway, engine: str, name: str = "second") -> Gateway:
        """A machine with nothing but the copy of the key file, and the certificate."""
        gateway = self.gateway(name, engine)
        for file in ("relay.key", "relay.crt", "relay.pem"):
            shutil.copy(first.directory / file, gateway.directory / file)
        return gateway


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(request, tmp_path, stack)


class Load:
    """Sessions that send until told to stop; ``accepted`` has the ids of what got 250, in order."""

    def __init__(self, gateway: Gateway, login: Login, clients: int = 4) -> None:
        self.accepted: list[str] = []
        self._gateway, self._login = gateway, login
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(clients)]

    def _send(self, number: int) -> None:
        count = 0
        with self._gateway.client(self._login) as client:
            while not self._stop.is_set() and count < 2000:
                count += 1
                self.accepted.append(self._one(client, f"c{number}-{count}"))

    def _one(self, client: smtplib.SMTP, name: str) -> str:
        head = f"From: a@{DOMAIN}\r\nSubject: {name}\r\nX-SES-SOURCE-ARN: {arn(DOMAIN)}\r\n"
        code, text = transact(client, f"b@{DOMAIN}", [f"{name}@customer.example"], f"{head}\r\nHi\r\n")
        assert code == 250
        return text.split()[1]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


@pytest.mark.parametrize("to", ENGINES)
@pytest.mark.parametrize("of", ENGINES)
def test_backup_under_load_restores_every_message_it_was_given_before(site, tmp_path, of, to):
    first, app = site.lender(of)
    first.start()
    code, text = first.send(app, rcpt="large@customer.example", arns=arn(DOMAIN), body=LARGE)
    assert code == 250
    file = tmp_path / "relay.zip"
    with Load(first, app) as load:
        wait_until(lambda: len(load.accepted) > 300)
        before = [text.split()[1], *load.accepted]
        made = first.run("backup", str(file))
        sent = len(load.accepted) + 1
        wait_until(lambda: len(load.accepted) > sent + 50)
    assert first.stop() == 0
    assert len(before) <= made["messages"] <= sent + 4
    assert (made["has_key"], made["keys"]) == (False, ["1"])
    assert file.stat().st_mode & 0o777 == 0o600

    second = site.after(first, to)
    done = second.run("restore", str(file))
    assert (done["messages"], done["held"], done["waiting"]) == (made["messages"], True, made["messages"])
    assert done["made_files"] == [str(second.directory / "relay.toml")]
    rows = second.run("queue", "list", "--limit", "100000")
    assert {(row["state"], row["held_because"]) for row in rows} == {("held", "restored")}
    assert set(before) <= {row["message_id"] for row in rows}
    if to == "sqlite":
        with sqlite3.connect(second.directory / "relay.db") as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []

    # It is a working gateway: it delivers what it is told to, as it was, and takes more.
    second.start()
    assert second.run("queue", "release", "--because", "restored")["changed"] == made["messages"]
    large = site.recorder.wait_for("large@customer.example", 60).data
    assert large.startswith(b"DKIM-Signature: ")
    assert large.endswith(LARGE.encode())
    assert second.send(app, rcpt="new@customer.example", arns=arn(DOMAIN))[0] == 250
    site.recorder.wait_for("new@customer.example", 60)
    wait_until(lambda: second.run("queue", "list") == [])
    second.account("444444444444")
    actions = [row["action"] for row in second.run("audit")]
    assert actions[:3] == ["CreateAccount", "ReleaseQueue", "RestoreStore"]
    second.run("policy", "delete", "lend", "--identity", arn(DOMAIN))
    assert second.send(app, arns=arn(DOMAIN))[0] == 554
    assert second.stop() == 0
    assert "Traceback" not in first.log() + second.log()


def test_operators_word_sends_what_waited_at_once(site, tmp_path):
    first, app = site.lender("sqlite")
    first.start()
    assert first.send(app, arns=arn(DOMAIN))[0] == 250
    first.kill()  # it is leased to a worker that is gone
    first.run("backup", str(tmp_path))
    [file] = tmp_path.glob("relay-*.zip")
    second = site.after(first, "sqlite")
    assert second.run("restore", str(file), "--send-queue")["held"] is False
    second.start()
    site.recorder.wait_for("user@customer.example", 60)
    assert second.stop() == 0


def test_with_key_everything_is_in_it(site, tmp_path):
    first, _ = site.lender("sqlite")
    file = tmp_path / "whole.zip"
    assert first.run("backup", str(file), "--with-key")["has_key"]
    second = site.gateway("second", "sqlite")
    done = second.run("restore", str(file))
    assert {Path(one).name for one in done["made_files"]} == {"relay.toml", "relay.key"}
    assert (second.directory / "relay.key").stat().st_mode & 0o777 == 0o600
    # The certificate is made anew; all else is kept.
    made = second.run("init", str(second.directory))
    assert [made[name].split()[1] for name in ("settings", "key file", "store")] == ["kept"] * 3
    assert len(second.run("account", "list")) == 2


def test_backup_after_a_rotation_names_the_keys_that_it_needs(site, tmp_path):
    first, _ = site.lender("sqlite")
    old = tmp_path / "old.zip"
    first.run("backup", str(old))
    first.run("key", "rotate")
    new = tmp_path / "new.zip"
    assert first.run("backup", str(new))["keys"] == ["2"]
    first.run("key", "remove", "1", "--now")
    second = site.after(first, "sqlite")
    assert "needs key 1, which the key file lacks" in refused(second, old)
    assert second.run("restore", str(new))["made_files"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a directory to another user")
def test_roots_backup_is_roots_and_the_restored_store_the_services(request, open_directory):
    with ExitStack() as stack:
        _root_backs_up(Site(request, open_directory, stack), open_directory)


def _root_backs_up(site: Site, directory: Path) -> None:
    first, _ = site.lender("sqlite")
    second = site.after(first, "sqlite")
    for gateway in (first, second):
        for file in (gateway.directory, *gateway.directory.iterdir()):
            os.chown(file, 65534, 65534)
    backups = directory / "backups"
    backups.mkdir(mode=0o700)
    first.run("backup", str(backups / "relay.zip"))
    assert (backups / "relay.zip").stat().st_uid == 0
    second.run("restore", str(backups / "relay.zip"))
    assert {file.stat().st_uid for file in second.directory.iterdir()} == {65534}
    assert os.geteuid() == 0


# ---------------------------------------------------------------- what is refused


@dataclass(frozen=True)
class Origin:
    """A gateway that has stopped with a message in its queue, and its backup."""

    gateway: Gateway
    file: Path


@pytest.fixture(scope="module")
def origin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    directory = tmp_path_factory.mktemp("origin")
    with ExitStack() as stack:
        gateway, app = Site(request, directory, stack).lender("sqlite")
        gateway.start()
        assert gateway.send(app, arns=arn(DOMAIN), body=LARGE[: 24 * 4000])[0] == 250
        assert gateway.stop() == 0
        file = directory / "relay.zip"
        gateway.run("backup", str(file))
        yield Origin(gateway, file)


class Kept:
    """A backup, and a machine to restore it on."""

    def __init__(self, site: Site, origin: Origin, engine: str) -> None:
        self.first, self.file = origin.gateway, origin.file
        self.second = site.after(self.first, engine)
        self.before = self.left()

    def left(self) -> tuple[set[str], set[str]]:
        """Files and tables on the machine."""
        url = self.second.environment.get("RELAY_STORE__URL")
        tables: set[str] = set()
        if url:
            store = Store(url)
            with store.read() as connection:
                tables = set(inspect(connection).get_table_names())
            store.dispose()
        # The lock of the directory is a file without content that stays.
        return set(os.listdir(self.second.directory)) - {"relay.lock"}, tables


@pytest.fixture(params=ENGINES)
def kept(site: Site, origin: Origin, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """Whatever the test tries leaves nothing, and the backup can be restored afterwards."""
    one = Kept(site, origin, request.param)
    yield one
    assert one.left() == one.before
    assert one.second.run("restore", str(one.file))["messages"] == 1


def refused(gateway: Gateway, file: Path, *more: str) -> str:
    code, _, told = gateway.invoke("restore", str(file), *more)
    assert code == 1, told
    assert "Traceback" not in told
    return told


def test_truncated_backup_is_refused(kept, tmp_path):
    whole = kept.file.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 400, len(whole) - 1):
        cut = tmp_path / "cut.zip"
        cut.write_bytes(whole[:size])
        assert "is damaged or no backup" in refused(kept.second, cut)


def test_changed_octet_is_refused_or_changes_nothing(kept, tmp_path):
    """The zip has bits without meaning, such as those that fill up the last octet of a compressed member."""
    whole = kept.file.read_bytes()
    flipped = tmp_path / "flipped.zip"
    refusals = 0
    for at in range(0, len(whole), len(whole) // 60):
        flipped.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :])
        try:
            read = contents(flipped, kept)
        except (BackupError, KeyFileError):
            refusals += 1
            if refusals % 5 == 0:
                assert "use another" in refused(kept.second, flipped), at
        else:
            assert read == contents(kept.file, kept), at
    assert refusals > 40


def contents(file: Path, kept: Kept) -> dict[str, bytes]:
    """All that a restore would use of it."""
    with file.open("rb") as opened:
        reader = Reader(opened, "it")
        reader.require_authentic(load_key_file(kept.first.directory / "relay.key"))
        tables = {form.name: b"".join(reader.lines(form)) for form in reader.manifest.tables}
        return {**tables, **{name: reader.file(name) or b"" for name in reader.manifest.files}}


def rewritten(kept: Kept, file: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The backup with changed members, by somebody who mends every hash and has no key."""
    with zipfile.ZipFile(kept.file) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return file


def test_manifest_by_another_hand_is_refused(kept, tmp_path):
    def paused(name: str, content: bytes) -> bytes:
        return content.replace(b'"rows": 1,', b'"rows": 2,') if name == "manifest.json" else content

    assert "was changed since it was made" in refused(
        kept.second, rewritten(kept, tmp_path / "x.zip", paused)
    )


def test_table_by_another_hand_is_refused(kept, tmp_path):
    def lent(name: str, content: bytes) -> bytes:
        return (
            content.replace(b"user/app", b"user/eve") if name.endswith("identity_policy.jsonl") else content
        )

    told = refused(kept.second, rewritten(kept, tmp_path / "x.zip", lent))
    assert "table identity_policy is damaged" in told


def test_other_files_are_no_backup(kept, tmp_path):
    text = tmp_path / "text"
    text.write_text("hello")
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    for file in (text, empty):
        assert "is damaged or no backup" in refused(kept.second, file)
    assert "No such file" in refused(kept.second, tmp_path / "nowhere.zip")


def test_another_key_file_is_refused(kept, tmp_path):
    key = kept.second.directory / "relay.key"
    right = key.read_bytes()
    key.write_text(json.dumps({**json.loads(right), "keys": {"1": "A" * 43 + "="}}))
    told = refused(kept.second, kept.file)
    key.write_bytes(right)
    assert "or the key file is another store's" in told


def test_missing_key_file_says_where_it_belongs(kept):
    key = kept.second.directory / "relay.key"
    key.rename(key.with_suffix(".away"))
    told = refused(kept.second, kept.file)
    key.with_suffix(".away").rename(key)
    assert "no such key file; restore it from your copy" in told


def test_r14_another_region_is_refused(kept):
    kept.second.environment["RELAY_RELAY__REGION"] = "eu-west-1"
    told = refused(kept.second, kept.file)
    del kept.second.environment["RELAY_RELAY__REGION"]
    assert 'set [relay] region = "us-east-1"' in told


def test_store_in_use_is_refused_and_stays(site, kept, tmp_path):
    assert "the store is not empty" in refused(kept.first, kept.file)
    assert len(kept.first.run("account", "list")) == 2
    code, _, told = kept.first.invoke("backup", str(kept.file))
    assert (code, "is there already" in told) == (1, True)
    code, _, told = kept.first.invoke("backup", str(tmp_path / "no" / "such.zip"))
    assert (code, "cannot be written" in told) == (1, True)


def test_running_gateway_is_refused(site, tmp_path):
    first, _ = site.lender("sqlite")
    file = tmp_path / "relay.zip"
    first.run("backup", str(file))
    second = site.after(first, "sqlite")
    second.run("init", str(second.directory))
    second.start()
    assert "another relay runs from this directory" in refused(second, file)
    assert second.stop() == 0
    # It has been initialised and served nobody yet: that is empty.
    assert second.run("restore", str(file))["messages"] == 0
    assert len(second.run("account", "list")) == 2


def test_failure_in_the_middle_leaves_nothing(kept, monkeypatch):
    monkeypatch.setattr(
        backup, "require_count", lambda *_: (_ for _ in ()).throw(backup.BackupError("no room"))
    )
    assert "no room" in refused(kept.second, kept.file)
    monkeypatch.undo()


# ---------------------------------------------------------------- other revisions


def of_revision(kept: Kept, file: Path, revision: str, forms: dict[TableForm, TableForm]) -> Path:
    """The backup as a release with that schema would have made it."""
    secrets = load_key_file(kept.first.directory / "relay.key")
    with kept.file.open("rb") as old, file.open("w+b") as new:
        reader, writer = Reader(old, "old"), Writer(new)
        for form, narrow in forms.items():
            at = [form.columns.index(name) for name in narrow.columns]
            rows = (json.loads(line) for line in reader.lines(form))
            writer.add_table(narrow, (json.dumps([row[n] for n in at]).encode() + b"\n" for row in rows))
        manifest: Manifest = replace(
            reader.manifest, revision=revision, tables=writer.tables, files=writer.files
        )
        writer.finish(manifest, secrets)
    return file


def first_revision(directory: Path) -> dict[str, list[str]]:
    """Tables and columns of the first schema."""
    store = Store(f"sqlite:///{directory}/0001.db")
    with store.write() as connection:
        schema.upgrade(connection, "0001")
        inspector = inspect(connection)
        found = {
            name: [column["name"] for column in inspector.get_columns(name)]
            for name in inspector.get_table_names()
        }
    store.dispose()
    return found


def test_backup_of_an_older_release_is_migrated(site, kept, tmp_path):
    columns = first_revision(tmp_path)
    forms = {
        form: replace(form, columns=tuple(name for name in form.columns if name in columns[form.name]))
        for form in backup.forms()
        if form.name in columns
    }
    file = of_revision(kept, tmp_path / "older.zip", "0001", forms)
    third = site.after(kept.first, "postgresql", "third")
    shutil.copy(kept.first.directory / "relay.toml", third.directory / "relay.toml")
    assert third.run("restore", str(file))["messages"] == 1
    assert third.run("queue", "list")[0]["held_because"] == "restored"
    # An empty store at the newest schema cannot take it: it is made anew.
    fourth = site.after(kept.first, "sqlite", "fourth")
    fourth.run("init", str(fourth.directory))
    assert "remove the store, it is made anew" in refused(fourth, file)


def test_backup_of_a_newer_release_is_refused(kept, tmp_path):
    file = of_revision(kept, tmp_path / "newer.zip", "9999", {form: form for form in backup.forms()})
    shutil.copy(kept.first.directory / "relay.toml", kept.second.directory / "relay.toml")
    told = refused(kept.second, file)
    (kept.second.directory / "relay.toml").unlink()
    assert "of schema revision 9999, newer than this release knows" in told
