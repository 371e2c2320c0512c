"""``file``: a line of JSON for each notification, appended to a file below the operator's directory.

What waits is written together: opened, locked for other workers, written, synced and closed once, so that
whoever rotates logs may move the file away at any time.  Nothing counts as posted before it is synced.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from relay.feedback import envelope
from relay.feedback.posting import NotPosted, Post
from relay.queue.values import NewMessage


@dataclass(frozen=True, slots=True)
class File:
    """The protocol; ``directory`` None lets nothing be written.  It is its own lane: nothing is kept open."""

    directory: Path | None
    threads: Executor
    at_once: ClassVar[int] = 100

    def lane(self, connections: int) -> File:
        return self

    async def post(self, these: Sequence[Post]) -> NewMessage | None:
        if self.directory is None:
            raise NotPosted("files are not written: [webhooks] file_directory is empty")
        path = self.directory / these[0].to.row.endpoint
        lines = b"".join([line(one) for one in these])
        try:
            await asyncio.get_running_loop().run_in_executor(self.threads, append, path, lines)
        except OSError as error:
            raise NotPosted(f"{path}: {error.strerror or error}") from error
        return None

    async def aclose(self) -> None:
        pass


def line(one: Post) -> bytes:
    """The event, with what tells a repeat unless it shall be raw."""
    event = envelope.document(one.notification.body)
    if one.to.row.raw_delivery:
        return event + b"\n"
    at = envelope.timestamp(one.notification.created_at)
    head = f'{{"MessageId":"{one.message_id}","TopicArn":"{one.topic_arn}","Timestamp":"{at}","Message":'
    return head.encode() + event + b"}\n"


def append(path: Path, octets: bytes) -> None:
    """All of it, durable, or nothing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A pipe without a reader must not hold us: it is refused below, and so is what a link points to.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is no regular file")
        fcntl.flock(fd, fcntl.LOCK_EX)
        before = os.fstat(fd).st_size
        try:
            _write(fd, octets)
        except OSError:
            os.ftruncate(fd, before)
            raise
    finally:
        os.close(fd)


def _write(fd: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(fd, octets) :]
    os.fdatasync(fd)
