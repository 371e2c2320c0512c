"""Setting up a directory for a first start, and bringing a store up to date."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from relay.app.certificate import self_signed
from relay.app.owner import become_owner, hand_over
from relay.settings import FILE_NAME, HOST_NAME, Settings, example, load
from relay.store import installation, schema
from relay.store.engine import Store
from relay.store.secrets import create_key_file, load_key_file

_MADE, _KEPT = "made", "kept"


def install(
    directory: Path,
    region: str | None = None,
    hostname: str | None = None,
    smarthost: str | None = None,
    key_file: Path | None = None,
) -> dict[str, str]:
    """Settings, key file, certificate and store; what is there already is kept.  Says which is which.

    SettingsError, KeyFileError or StoreError if what is there does not fit together.
    """
    os.umask(0o077)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = directory / FILE_NAME
    first = _first_settings(region, hostname, smarthost, key_file)
    done = {"settings": f"{file} {_write(file, first)}"}
    settings = load(file)
    key = settings.path(settings.store.key_file)
    done["key file"] = f"{key} {_make_key_file(key)}"
    done["certificate"] = _make_certificate(settings)
    store = Store(settings.store_url)
    try:
        schema.migrate(store)
        made = installation.initialise(store, settings.relay.region, load_key_file(key))
    finally:
        store.dispose()
    shown = store.url.render_as_string(hide_password=True)
    done["store"] = f"{shown} {_MADE if made else _KEPT}"
    hand_over(directory)
    return done


def _first_settings(
    region: str | None, hostname: str | None, smarthost: str | None, key_file: Path | None
) -> bytes:
    ours = socket.getfqdn()
    relay: dict[str, Any] = {"hostname": hostname or (ours if HOST_NAME(ours) else "localhost")}
    if region:
        relay["region"] = region
    delivery = {"smarthost": smarthost} if smarthost else {}
    store = {"key_file": str(key_file.absolute())} if key_file else {}
    return example(relay=relay, delivery=delivery, store=store).encode()


def _write(file: Path, content: bytes) -> str:
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _KEPT
    with os.fdopen(fd, "wb") as opened:
        opened.write(content)
    _sync(file)
    return _MADE


def _sync(file: Path) -> None:
    """On the disk, with its name: the store is so from its first commit on, and worth nothing without its
    key."""
    for path in (file, file.parent):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _make_key_file(file: Path) -> str:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        create_key_file(file)
    except FileExistsError:
        return _KEPT
    _sync(file)
    return _MADE


def _make_certificate(settings: Settings) -> str:
    """Both files or neither: a key without its certificate would be of no use."""
    certificate_file = settings.path(settings.smtp.certificate)
    key_file = settings.path(settings.smtp.private_key)
    if certificate_file.exists() or key_file.exists():
        return f"{certificate_file} {_KEPT}"
    certificate, key = self_signed(settings.relay.hostname)
    _write(key_file, key)
    _write(certificate_file, certificate)
    return f"{certificate_file} {_MADE}, self-signed for {settings.relay.hostname}"


def migrate(file: Path) -> dict[str, str]:
    """Bring the store's schema up to date."""
    settings = load(file)
    become_owner(settings.directory)
    store = Store(settings.store_url)
    try:
        before, after = schema.migrate(store)
    finally:
        store.dispose()
    return {"before": before or "empty", "now": after}
