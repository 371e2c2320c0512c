"""``relay key``: the keys that secrets in the store are sealed under, changed while the gateway runs.

A key goes through the same steps everywhere: it is added to the file (``add``), every running worker loads
it, it is put to use and every sealed value comes under it (``rotate``), and once nothing needs it any more
the one before it is removed (``remove``).  No step is taken before the one in front of it is complete, each
may be killed and run again, and at no moment does a worker meet a value that it cannot open.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relay.app.owner import acting_as_owner
from relay.app.serve import check_store
from relay.control.ground import ControlError, now
from relay.queue import loaded_keys
from relay.queue.loaded_keys import Loaded
from relay.settings import Settings, load
from relay.store import installation, key_file, sealed
from relay.store.changes import ControlWrite, control_write
from relay.store.engine import Store
from relay.store.key_file import Key
from relay.store.secrets import Secrets, load_key_file

# Workers look at the key file every few seconds; one that drains lives a little longer.
_WAIT_SECONDS = 30.0
_POLL_SECONDS = 0.5
# Reports on mail that was sent under a key still come for so long, to addresses that only it recognises.
_REPORT_DAYS = 14
_DAY_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as it is listed.  ``missing_at`` are the running workers that have not loaded it."""

    key_id: str
    is_current: bool
    added_at: int | None
    superseded_at: int | None
    sealed: int
    missing_at: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rotated:
    """The key that everything is sealed under now, whether it is new in the file, and what it took."""

    key_id: str
    added: bool
    resealed: int
    superseded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Bench:
    """The key file, and the store as the owner of its directory sees it."""

    path: Path
    settings: Settings
    actor: str

    @contextmanager
    def store(self) -> Iterator[Store]:
        with acting_as_owner(self.settings.directory):
            store = Store(self.settings.store_url)
            try:
                yield store
            finally:
                store.dispose()

    def note(self, action: str, key_id: str, **detail: Any) -> None:
        with self.store() as store, control_write(store, self.actor) as write:
            write.note(f"key:{key_id}", action, **detail)


@contextmanager
def _opened(file: Path, actor: str) -> Iterator[_Bench]:
    settings = load(file)
    # Behind a link the file itself is replaced, not the link.
    path = settings.path(settings.store.key_file).resolve()
    secrets = load_key_file(path)
    with acting_as_owner(settings.directory):
        check_store(settings, secrets)
    with key_file.locked(path):
        yield _Bench(path, settings, actor)


# ---------------------------------------------------------------- list


def keys(file: Path, actor: str) -> list[KeyView]:
    """The keys of the file, and how much of the store is sealed under each."""
    with _opened(file, actor) as bench:
        found = key_file.keys(bench.path)
        with bench.store() as store, store.read() as connection:
            workers = loaded_keys.running(connection)
            return [_view(key, sealed.count(connection, key.key_id), workers) for key in found]


def _view(key: Key, count: int, workers: list[Loaded]) -> KeyView:
    missing = tuple(_named(one) for one in workers if key.key_id not in one.key_ids)
    return KeyView(**asdict(key), sealed=count, missing_at=missing)


def _named(one: Loaded) -> str:
    return f"worker {one.worker_id} on {one.node}"


# ---------------------------------------------------------------- add


def add(file: Path, actor: str) -> str:
    """A new key in the file, to be used by ``rotate``; gives its id."""
    with _opened(file, actor) as bench:
        waiting = _waiting(bench.path)
        if waiting is not None:
            raise ControlError("already_exists", f"key {waiting} waits to be used; run: relay key rotate")
        return _add(bench)


def _add(bench: _Bench) -> str:
    key_id = key_file.add(bench.path, now())
    bench.note("AddKey", key_id)
    return key_id


def _waiting(path: Path) -> str | None:
    """The newest key that was added and never used."""
    never_used = [
        key.key_id
        for key in key_file.keys(path)
        if not key.is_current and key.added_at is not None and key.superseded_at is None
    ]
    return never_used[-1] if never_used else None


# ---------------------------------------------------------------- rotate


def rotate(file: Path, actor: str) -> Rotated:
    """Put the newest key to use, or a new one, and every sealed value under it; finishes what was begun."""
    with _opened(file, actor) as bench:
        key_id, is_new = _next_key(bench)
        secrets = load_key_file(bench.path)
        before = secrets.current
        with bench.store() as store:
            _await_workers(store, key_id)
            with control_write(store, actor) as write:
                installation.use_key(write.connection, secrets, key_id)
                _require_loaded(write, key_id)
                write.note(f"key:{key_id}", "RotateKey", before=before)
        key_file.make_current(bench.path, key_id, now())
        with bench.store() as store:
            resealed = _reseal(store, secrets, key_id)
        superseded = tuple(key.key_id for key in key_file.keys(bench.path) if not key.is_current)
        return Rotated(key_id, is_new, resealed, superseded)


def _next_key(bench: _Bench) -> tuple[str, bool]:
    """The key to be used, and whether it is new: one that waits, or the current one if a rotation stopped."""
    waiting = _waiting(bench.path)
    if waiting is not None:
        return waiting, False
    current = load_key_file(bench.path).current
    with bench.store() as store, store.read() as connection:
        is_unfinished = (
            installation.key_in_use(connection) != current or sealed.count_others(connection, [current]) > 0
        )
    return (current, False) if is_unfinished else (_add(bench), True)


def _await_workers(store: Store, key_id: str) -> None:
    """Give running workers the time to notice a new key."""
    give_up_at = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < give_up_at:
        with store.read() as connection:
            if not loaded_keys.lacking(connection, key_id):
                return
        time.sleep(_POLL_SECONDS)


def _require_loaded(write: ControlWrite, key_id: str) -> None:
    lacking = loaded_keys.lacking(write.connection, key_id)
    if lacking:
        raise ControlError(
            "not_loaded",
            f"key {key_id} is in the file and not used yet: {', '.join(map(_named, lacking))} has not loaded"
            " it; copy the file to that node if it is another, run there: systemctl restart relay,"
            " then here again: relay key rotate",
        )


def _reseal(store: Store, secrets: Secrets, key_id: str) -> int:
    """In small transactions, so that no client waits for them; until nothing is left."""
    resealed = 0
    for column in sealed.SEALED:
        after = None
        while True:
            with store.write() as connection:
                batch = sealed.reseal(connection, secrets, key_id, column, after)
            resealed += batch.changed
            if batch.after is None:
                break
            after = batch.after
    return resealed


# ---------------------------------------------------------------- remove


def remove(file: Path, actor: str, key_id: str, *, at_once: bool = False) -> None:
    """Take a key out of the file for good; refused while anything may still need it."""
    with _opened(file, actor) as bench:
        key = next((one for one in key_file.keys(bench.path) if one.key_id == key_id), None)
        if key is None:
            raise ControlError("not_found", f"the key file has no key {key_id}; `relay key list` shows them")
        if key.is_current:
            raise ControlError("in_use", f"key {key_id} is the current one; first run: relay key rotate")
        with bench.store() as store:
            _require_unused(store, key_id)
        if not at_once:
            # The last day of an address ends after it is so many days old.
            _require_old(key, max(_REPORT_DAYS, bench.settings.bounce.token_days + 1))
        key_file.remove(bench.path, key_id, now())
        bench.note("RemoveKey", key_id)


def _require_unused(store: Store, key_id: str) -> None:
    with store.read() as connection:
        left = sealed.count(connection, key_id) + (installation.key_in_use(connection) == key_id)
        workers = loaded_keys.running(connection)
    if left:
        raise ControlError(
            "in_use", f"{left} values are still sealed under key {key_id}; run: relay key rotate"
        )
    sealing = [one for one in workers if one.current in (key_id, None)]
    if sealing:
        raise ControlError(
            "in_use",
            f"{', '.join(map(_named, sealing))} still seals under key {key_id}; copy the file to that node"
            " if it is another, and run there: systemctl restart relay",
        )


def _require_old(key: Key, report_days: int) -> None:
    """A key that never was current has nothing to wait for."""
    if key.superseded_at is None:
        return
    days = report_days - (now() - key.superseded_at) / _DAY_MICROSECONDS
    if days > 0:
        raise ControlError(
            "in_use",
            f"reports on mail that was sent under key {key.key_id} may come for {days:.0f} days more, and"
            " would not be recognised; come again then, or run with --now",
        )
