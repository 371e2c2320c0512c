"""The key file as ``relay key`` changes it: keys are added, made current, removed.

Each change replaces the file as a whole, so that a crash leaves the old one or the new one; owner and mode
stay.  Ids are numbers and never used twice (a bounce address carries one in an octet): beside the keys the
file keeps when each was added and when another took its place, also of those that are gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.store.secrets import KeyFileError, load_key_file, new_key

_MOST_KEYS = 255


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the file without its octets.  Instants are microseconds UTC, None where nobody noted them."""

    key_id: str
    is_current: bool
    added_at: int | None
    superseded_at: int | None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else changes keys in that directory meanwhile; KeyFileError if somebody does."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KeyFileError(f"{path}: another `relay key` command is at work; run this again") from None
        yield
    finally:
        os.close(fd)


def keys(path: Path) -> list[Key]:
    """The keys in the order in which they were added."""
    content = _read(path)
    return [_key(content, key_id) for key_id in content["keys"]]


def add(path: Path, at: int) -> str:
    """A new key, not current yet; gives its id."""
    content = _read(path)
    key_id = _next_id(path, content)
    content["keys"][key_id] = new_key()
    _note(content, key_id, added=at)
    _replace(path, content)
    return key_id


def make_current(path: Path, key_id: str, at: int) -> None:
    """New values are sealed under it from now on."""
    content = _read(path)
    if content["current"] == key_id:
        return
    _note(content, content["current"], superseded=at)
    content["current"] = key_id
    _replace(path, content)


def remove(path: Path, key_id: str, at: int) -> None:
    """Forget the key for good; nothing may be sealed under it any more."""
    content = _read(path)
    del content["keys"][key_id]
    _note(content, key_id, removed=at)
    _replace(path, content)


def _read(path: Path) -> dict[str, Any]:
    load_key_file(path)  # says what is wrong with it
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _key(content: dict[str, Any], key_id: str) -> Key:
    noted = content.get("history", {}).get(key_id, {})
    return Key(key_id, key_id == content["current"], noted.get("added"), noted.get("superseded"))


def _next_id(path: Path, content: dict[str, Any]) -> str:
    used = [int(one) for one in (*content["keys"], *content.get("history", {})) if one.isdecimal()]
    number = max(used, default=0) + 1
    if number > _MOST_KEYS:
        raise KeyFileError(f"{path}: all {_MOST_KEYS} key numbers are used up")
    return str(number)


def _note(content: dict[str, Any], key_id: str, **when: int) -> None:
    content.setdefault("history", {}).setdefault(key_id, {}).update(when)


def _replace(path: Path, content: dict[str, Any]) -> None:
    before = path.stat()
    try:
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be replaced by this user: {error.strerror}") from None
    try:
        with os.fdopen(fd, "w") as file:
            os.fchmod(fd, before.st_mode & 0o700)
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, before.st_uid, before.st_gid)
            json.dump(content, file)
            file.write("\n")
            file.flush()
            os.fsync(fd)
        os.replace(name, path)
    except OSError as error:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise KeyFileError(f"{path}: cannot be replaced: {error.strerror}") from None
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
