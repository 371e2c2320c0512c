"""``relay backup`` and ``relay restore``: store and settings in one file, from either engine to either.

The key file is not in it unless it is asked for: whoever finds the backup then has the mail that waits, and
no secret.  A restore looks at everything before it writes anything, and writes in one transaction.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from relay import __version__
from relay.app.archive import Manifest, Reader, Writer
from relay.app.owner import acting_as_owner, hand_over
from relay.app.serve import check_store
from relay.app.supervisor import take_instance_lock
from relay.queue import restored
from relay.settings import FILE_NAME, Settings, load
from relay.store import audit, backup, installation, schema
from relay.store.backup import BackupError, TableForm
from relay.store.engine import Store
from relay.store.secrets import Secrets, load_key_file

_SETTINGS, _KEY = FILE_NAME, "relay.key"


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made."""

    file: str
    messages: int
    rows: int
    keys: tuple[str, ...]
    has_key: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """A store that was restored; ``waiting`` recipients wait in its queue, ``held`` or not."""

    made_at: int
    rows: int
    messages: int
    waiting: int
    held: bool
    made_files: tuple[str, ...]


# ---------------------------------------------------------------- backup


def make(file: Path, target: Path, *, with_key: bool) -> Made:
    """Write the store as it is now, while it is in use."""
    settings = load(file)
    key_path = settings.path(settings.store.key_file)
    secrets = load_key_file(key_path)
    files = {_SETTINGS: file.read_bytes()}
    if with_key:
        files[_KEY] = key_path.read_bytes()
    with acting_as_owner(settings.directory):
        check_store(settings, secrets)
    if target.is_dir():
        target = target / f"relay-{datetime.now(UTC):%Y%m%d-%H%M%S}.zip"
    with _new_file(target) as opened, acting_as_owner(settings.directory):
        manifest = _write(opened, settings, secrets, files)
    rows = {form.name: counted.rows for form, counted in manifest.tables.items()}
    return Made(str(target), rows["message"], sum(rows.values()), manifest.keys, with_key)


@contextmanager
def _new_file(target: Path) -> Iterator[IO[bytes]]:
    """A file of ours alone that has its name once it is complete and on disk."""
    if target.exists():
        raise BackupError(f"{target} is there already; name another file, or a directory")
    unfinished: str | None = None
    try:
        fd, unfinished = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
        with os.fdopen(fd, "w+b") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        os.rename(unfinished, target)
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        if unfinished is not None:
            with suppress(FileNotFoundError):
                os.unlink(unfinished)


def _write(opened: IO[bytes], settings: Settings, secrets: Secrets, files: dict[str, bytes]) -> Manifest:
    writer = Writer(opened)
    for name, content in files.items():
        writer.add_file(name, content)
    keys: set[str] = set()
    with _store(settings) as store, backup.snapshot(store) as connection:
        made_at = time.time_ns() // 1000
        keys.add(installation.key_in_use(connection))
        for form in backup.forms():
            writer.add_table(form, _noting_keys(form, backup.lines(connection, form), keys))
    manifest = Manifest(
        release=__version__,
        made_at=made_at,
        revision=schema.REVISION,
        region=settings.relay.region,
        keys=tuple(sorted(keys)),
        tables=writer.tables,
        files=writer.files,
    )
    writer.finish(manifest, secrets)
    return manifest


def _noting_keys(form: TableForm, lines: Iterator[bytes], keys: set[str]) -> Iterator[bytes]:
    holds_sealed = backup.holds_sealed(form)
    for line in lines:
        if holds_sealed:
            keys |= backup.sealed_under(form, backup.parse(form, line))
        yield line


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    store = Store(settings.store_url)
    try:
        yield store
    finally:
        store.dispose()


# ---------------------------------------------------------------- restore


def restore(file: Path, source: Path, actor: str, *, hold: bool) -> Restored:
    """Put a backup into an empty store.  Settings and key file are taken from it where there is none."""
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(source.open("rb"))
        except OSError as error:
            raise BackupError(f"{source}: {error.strerror}") from None
        reader = Reader(opened, str(source))
        undo = stack.enter_context(ExitStack())
        made = _make(file, reader.file(_SETTINGS), undo)
        settings = load(file)
        key_path = settings.path(settings.store.key_file)
        made += _make(key_path, reader.file(_KEY), undo)
        secrets = load_key_file(key_path)
        reader.require_authentic(secrets)
        _require_fits(reader.manifest, settings)
        _verify(reader, secrets)
        with acting_as_owner(settings.directory):
            waiting = _load(reader, settings, secrets, actor, hold)
        undo.pop_all()
        hand_over(settings.directory)
    tables = {form.name: counted.rows for form, counted in reader.manifest.tables.items()}
    return Restored(
        reader.manifest.made_at, sum(tables.values()), tables["message"], waiting, hold, tuple(made)
    )


def _make(path: Path, content: bytes | None, undo: ExitStack) -> list[str]:
    """Write a file that is not there; it goes again if the restore fails."""
    if content is None or path.exists():
        return []
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    undo.callback(path.unlink)
    with os.fdopen(fd, "wb") as opened:
        opened.write(content)
    return [str(path)]


def _require_fits(manifest: Manifest, settings: Settings) -> None:
    if manifest.region != settings.relay.region:  # R14
        raise BackupError(
            f"the backup is of region {manifest.region}, the settings say {settings.relay.region}:"
            f' set [relay] region = "{manifest.region}"'
        )
    if manifest.revision > schema.REVISION:
        raise BackupError(
            f"the backup is of schema revision {manifest.revision}, newer than this release knows"
            f" ({schema.REVISION}); restore it with release {manifest.release}"
        )


def _verify(reader: Reader, secrets: Secrets) -> None:
    """Every row is there and as it was written, and the key file opens every secret."""
    for form in reader.manifest.tables:
        holds_sealed = backup.holds_sealed(form)
        for line in reader.lines(form):
            if holds_sealed:
                backup.require_opens(form, backup.parse(form, line), secrets)


def _load(reader: Reader, settings: Settings, secrets: Secrets, actor: str, hold: bool) -> int:
    manifest = reader.manifest
    with ExitStack() as stack:
        undo = stack.enter_context(ExitStack())
        _remove_if_new(settings, undo)
        stack.callback(os.close, take_instance_lock(settings.directory))
        store = stack.enter_context(_store(settings))
        with store.write() as connection:
            backup.prepare(connection, manifest.revision)
            for form, counted in manifest.tables.items():
                lines = reader.lines(form)
                backup.load(connection, form, ((backup.parse(form, one), len(one)) for one in lines))
                backup.require_count(connection, form, counted.rows)
            backup.complete(connection)
            installation.require_key(connection, secrets)
            waiting = restored.take_over(connection, hold)
            detail = {"made_at": manifest.made_at, "waiting": waiting, "held": hold}
            audit.add(connection, time.time_ns() // 1000, actor, "RestoreStore", "store", detail)
        undo.pop_all()
    return waiting


def _remove_if_new(settings: Settings, undo: ExitStack) -> None:
    """A database file that we make goes again if the restore fails."""
    prefix = "sqlite:///"
    if not settings.store_url.startswith(prefix):
        return
    database = Path(settings.store_url.removeprefix(prefix))
    if not database.exists():
        for end in ("", "-wal", "-shm", "-lock"):
            undo.callback(Path(f"{database}{end}").unlink, missing_ok=True)
