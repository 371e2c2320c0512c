"""Secrets at rest: sealed for one place under a key file that lies elsewhere."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from relay.store.secrets import KeyFileError, Secrets, create_key_file, load_key_file


def keys(*ids: str) -> dict[str, bytes]:
    return {key_id: key_id.encode().ljust(32, b"x") for key_id in ids}


def test_what_is_sealed_opens_in_its_place_only():
    secrets = Secrets(keys("1"), "1")
    sealed = secrets.seal(b"secret", "credential/secret/A")
    assert b"secret" not in sealed
    assert secrets.open(sealed, "credential/secret/A") == b"secret"
    with pytest.raises(KeyFileError, match="credential/secret/B"):
        secrets.open(sealed, "credential/secret/B")


def test_the_same_secret_is_never_sealed_the_same_way():
    secrets = Secrets(keys("1"), "1")
    assert secrets.seal(b"x", "p") != secrets.seal(b"x", "p")


def test_old_keys_open_what_they_sealed_and_the_current_one_seals():
    old = Secrets(keys("1"), "1").seal(b"x", "p")
    both = Secrets(keys("1", "2"), "2")
    assert both.open(old, "p") == b"x"
    assert both.seal(b"x", "p").startswith(b"2\0")


def test_another_key_opens_nothing():
    sealed = Secrets(keys("1"), "1").seal(b"x", "p")
    with pytest.raises(KeyFileError, match="not this store's"):
        Secrets({"1": b"y" * 32}, "1").open(sealed, "p")
    with pytest.raises(KeyFileError, match="has no key '1'"):
        Secrets(keys("2"), "2").open(sealed, "p")


def test_each_purpose_has_a_key_of_its_own():
    secrets = Secrets(keys("1"), "1")
    assert len({secrets.derive(label) for label in ("store", "verp", "sns", "page", "cookie")}) == 5


def test_nothing_secret_is_in_the_repr():
    secrets = Secrets(keys("1"), "1")
    assert repr(secrets) == "Secrets(keys=['1'], current='1')"


def test_key_file_is_made_once_and_for_its_owner(tmp_path: Path):
    file = tmp_path / "relay.key"
    create_key_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_key_file(file).current == "1"
    with pytest.raises(FileExistsError):
        create_key_file(file)


KEY = base64.b64encode(b"k" * 32).decode()


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (None, 0o600, "no such key file"),
        ("{", 0o600, "not a key file"),
        ("[]", 0o600, "not a key file"),
        (json.dumps({"current": "2", "keys": {"1": KEY}}), 0o600, "not a key file"),
        (json.dumps({"current": "1", "keys": {"1": "short"}}), 0o600, "not a key file"),
        (json.dumps({"current": "1", "keys": {"1": "!!!"}}), 0o600, "not a key file"),
        (json.dumps({"current": "1", "keys": {"1": KEY}}), 0o640, "chmod 600"),
    ],
)
def test_unusable_key_file_says_why(tmp_path: Path, content, mode, message):
    file = tmp_path / "relay.key"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    with pytest.raises(KeyFileError, match=message):
        load_key_file(file)
