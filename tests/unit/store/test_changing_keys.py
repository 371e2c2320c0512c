"""The key file under ``relay key``: whole at every moment, its owner's alone, ids never used twice."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from relay.store import key_file
from relay.store.secrets import KeyFileError, Secrets, create_key_file, load_key_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_key_file(tmp_path / "relay.key")
    return tmp_path / "relay.key"


def ids(path: Path) -> list[tuple[str, bool]]:
    return [(key.key_id, key.is_current) for key in key_file.keys(path)]


def test_added_key_is_not_current_and_the_old_one_stays(path):
    sealed = load_key_file(path).seal(b"x", "place")
    assert key_file.add(path, 5) == "2"
    assert ids(path) == [("1", True), ("2", False)]
    assert load_key_file(path).open(sealed, "place") == b"x"


def test_key_that_becomes_current_seals_and_the_former_one_still_opens(path):
    old = load_key_file(path).seal(b"x", "place")
    key_file.add(path, 5)
    key_file.make_current(path, "2", 7)
    secrets = load_key_file(path)
    assert secrets.seal(b"y", "place").startswith(b"2\0")
    assert secrets.open(old, "place") == b"x"
    assert [(one.added_at, one.superseded_at) for one in key_file.keys(path)][1:] == [(5, None)]
    assert key_file.keys(path)[0].superseded_at == 7


def test_id_of_a_removed_key_is_not_given_again(path):
    key_file.add(path, 5)
    key_file.remove(path, "2", 6)
    assert key_file.add(path, 7) == "3"
    assert ids(path) == [("1", True), ("3", False)]


def test_ids_end_where_an_octet_does(path):
    content = json.loads(path.read_text())
    content["history"]["255"] = {"removed": 1}
    path.write_text(json.dumps(content))
    with pytest.raises(KeyFileError, match="all 255 key numbers are used up"):
        key_file.add(path, 5)


def test_key_file_from_before_there_was_a_history_is_taken(path):
    content = json.loads(path.read_text())
    del content["history"]
    path.write_text(json.dumps(content))
    key_file.add(path, 5)
    key_file.make_current(path, "2", 7)
    assert [(one.key_id, one.added_at) for one in key_file.keys(path)] == [("1", None), ("2", 5)]


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_mode_and_owner_stay(path, mode):
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    before = path.stat()
    key_file.add(path, 5)
    after = path.stat()
    assert stat.S_IMODE(after.st_mode) == mode
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert os.listdir(path.parent) == [path.name]


def test_change_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyFileError, match=r"relay\.key: cannot be replaced: No space left on device"):
        key_file.add(path, 5)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_two_changes_at_once_are_refused(path):
    with (
        key_file.locked(path),
        pytest.raises(KeyFileError, match="another `relay key` command is at work"),
        key_file.locked(path),
    ):
        pass


def test_running_process_learns_keys_and_forgets_none():
    secrets = Secrets({"1": b"a" * 32}, "1")
    old = secrets.seal(b"x", "p")
    secrets.learn(Secrets({"2": b"b" * 32}, "2"))
    assert (secrets.key_ids, secrets.current) == (("1", "2"), "2")
    assert secrets.open(old, "p") == b"x"


def test_running_process_learns_nothing_from_another_stores_file():
    secrets = Secrets({"1": b"a" * 32}, "1")
    with pytest.raises(KeyFileError, match="another store's"):
        secrets.learn(Secrets({"1": b"c" * 32, "2": b"b" * 32}, "2"))
    assert (secrets.key_ids, secrets.current) == (("1",), "1")
