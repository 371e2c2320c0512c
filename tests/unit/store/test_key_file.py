"""A key file that is not one: said with its path, never a traceback, whatever is in it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.store.secrets import KeyFileError, Secrets, create_key_file, load_key_file

KEY = base64.b64encode(b"k" * 32).decode()


def told(file: Path) -> str:
    with pytest.raises(KeyFileError) as caught:
        load_key_file(file)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe\x00", id="not-utf-8"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="text"),
        pytest.param(json.dumps({"keys": {"1": KEY}}).encode(), id="no-current"),
        pytest.param(json.dumps({"current": "1"}).encode(), id="no-keys"),
        pytest.param(json.dumps({"current": "1", "keys": [KEY]}).encode(), id="keys-in-a-list"),
        pytest.param(json.dumps({"current": "1", "keys": {}}).encode(), id="no-key-at-all"),
        pytest.param(json.dumps({"current": "1", "keys": {"1": 5}}).encode(), id="number-for-a-key"),
        pytest.param(
            json.dumps({"current": "1", "keys": {"1": KEY, "2": "c2hvcnQ="}}).encode(), id="short-key"
        ),
        pytest.param(json.dumps({"current": "1", "keys": {"1": f" {KEY}"}}).encode(), id="blank-in-a-key"),
        pytest.param(json.dumps({"current": 1, "keys": {"1": KEY}}).encode(), id="number-for-current"),
        pytest.param(json.dumps({"current": ["1"], "keys": {"1": KEY}}).encode(), id="list-for-current"),
        pytest.param(json.dumps({"current": {}, "keys": {"1": KEY}}).encode(), id="object-for-current"),
    ],
)
def test_what_is_no_key_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "relay.key"
    file.write_bytes(content)
    file.chmod(0o600)
    assert told(file) == f"{file}: not a key file"


def test_missing_file_says_where_to_look(tmp_path: Path) -> None:
    file = tmp_path / "relay.key"
    assert told(file) == f"{file}: no such key file; restore it from your copy"


def test_file_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "relay.key"
    create_key_file(file)
    monkeypatch.setattr(Path, "read_text", refuse)
    assert told(file) == f"{file}: not readable by this user"


def test_directory_in_its_place_is_named(tmp_path: Path) -> None:
    assert told(tmp_path).startswith(f"{tmp_path}: ")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644, 0o677, 0o601])
def test_file_that_others_may_open_says_what_to_run(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "relay.key"
    create_key_file(file)
    file.chmod(mode)
    assert told(file) == f"{file}: others may read it; run: chmod 600 {file}"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_file_of_its_owner_alone_is_taken(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "relay.key"
    create_key_file(file)
    file.chmod(mode)
    assert load_key_file(file).current == "1"


def test_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    file = tmp_path / "relay.key"
    create_key_file(file)
    before = file.read_bytes()
    with pytest.raises(FileExistsError):
        create_key_file(file)
    assert file.read_bytes() == before


def test_two_files_hold_different_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        create_key_file(tmp_path / name)
    sealed = load_key_file(tmp_path / "a").seal(b"x", "p")
    with pytest.raises(KeyFileError):
        load_key_file(tmp_path / "b").open(sealed, "p")


def test_no_error_shows_a_key(tmp_path: Path) -> None:
    file = tmp_path / "relay.key"
    file.write_text(json.dumps({"current": "2", "keys": {"1": KEY}}))
    file.chmod(0o600)
    assert KEY not in told(file)
    file.write_text(json.dumps({"current": "1", "keys": {"1": KEY}}))
    file.chmod(0o644)
    assert KEY not in told(file)


@given(st.binary(max_size=200), st.text(max_size=80))
def test_what_is_sealed_opens_again_and_only_there(plain: bytes, place: str) -> None:
    secrets = Secrets({"1": b"k" * 32}, "1")
    sealed = secrets.seal(plain, place)
    assert secrets.open(sealed, place) == plain
    with pytest.raises(KeyFileError):
        secrets.open(sealed, f"{place}/2")


@given(st.binary(max_size=60))
@example(b"1\0")  # a row that was cut off in its nonce
@example(b"1\0" + b"n" * 12)  # and after it
@example(b"1")
def test_octets_that_were_never_sealed_do_not_open(octets: bytes) -> None:
    with pytest.raises(KeyFileError):
        Secrets({"1": b"k" * 32}, "1").open(octets, "place")


@given(st.integers(0, 47), st.integers(1, 255))
def test_changed_octet_is_noticed(at: int, flip: int) -> None:
    secrets = Secrets({"1": b"k" * 32}, "1")
    sealed = bytearray(secrets.seal(b"a secret of 20 chars", "place"))
    assert len(sealed) == 2 + 12 + 20 + 16
    sealed[at] ^= flip
    with pytest.raises(KeyFileError):
        secrets.open(bytes(sealed), "place")


@pytest.mark.parametrize("key_id", ["1", "2026-11", "schlüssel"])
def test_key_file_that_loads_opens_what_it_sealed(tmp_path: Path, key_id: str) -> None:
    """A key whose name cannot be read back would seal secrets that nobody opens again."""
    file = tmp_path / "relay.key"
    file.write_text(json.dumps({"current": key_id, "keys": {key_id: KEY}}))
    file.chmod(0o600)
    try:
        secrets = load_key_file(file)
    except KeyFileError:
        return
    assert secrets.open(secrets.seal(b"x", "p"), "p") == b"x"
