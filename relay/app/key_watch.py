"""A worker's eye on its key file: what is added to it is loaded at once, and the store is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from relay.maillog import Log
from relay.queue import loaded_keys
from relay.queue.values import Lease, StoreUnavailable
from relay.queue.writer import GroupWriter, alone
from relay.store.secrets import KeyFileError, Secrets, load_key_file

_POLL_SECONDS = 2.0


class KeyWatch:
    """Keeps ``secrets`` as the file has it; a file that cannot be used leaves them as they are."""

    def __init__(self, path: Path, secrets: Secrets, writer: GroupWriter, lease: Lease, log: Log) -> None:
        self._path = path
        self._secrets = secrets
        self._writer = writer
        self._lease = lease
        self._log = log
        self._seen: tuple[int, int] | None = None
        self._said = self._loaded  # when it registered

    @property
    def _loaded(self) -> tuple[tuple[str, ...], str]:
        return self._secrets.key_ids, self._secrets.current

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.to_thread(self._read)
            if self._loaded != self._said:
                await self._announce()
            await asyncio.sleep(_POLL_SECONDS)

    def _read(self) -> None:
        try:
            found = self._path.stat()
        except OSError:
            return  # it is gone: we have what we need
        seen = found.st_ino, found.st_mtime_ns
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._secrets.learn(load_key_file(self._path))
        except KeyFileError as error:
            self._log("key file not loaded", level="error", error=str(error))

    async def _announce(self) -> None:
        key_ids, current = loaded = self._loaded
        said = alone(lambda connection: loaded_keys.announce(connection, self._lease, key_ids, current))
        try:
            await self._writer.submit(said)
        except StoreUnavailable:
            return  # the next round tries again
        self._said = loaded
        self._log("keys loaded", keys=",".join(key_ids), current=current)
