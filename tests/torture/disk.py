"""A disk of the test's own whose power can be cut: an ext4 file system on a file, mounted as a loop device.

``cut`` is the file system's own emergency shutdown without a flush of its journal, what file system
developers test with: from then on every call fails, and what was not synced (or written back by the kernel
in the meantime) is gone.  ``repower`` mounts it again, which replays the journal as after a real loss of
power.

What it does not show: the loop device never lies.  A real disk may lose what it said it had flushed, or write
sectors by half; whoever fears that buys another disk.  Needs root and ext4.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path

# EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (linux/ext4.h).
_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSH = struct.pack("I", 2)
_UNMOUNT_SECONDS = 20.0


class NoDisk(Exception):
    """This machine lets us mount none."""


class Disk:
    """Mounted at ``directory`` from construction until ``close``; the image is sparse."""

    def __init__(self, image: Path, directory: Path, size_bytes: int) -> None:
        self.directory = directory
        self._image = image
        with image.open("wb") as file:
            file.truncate(size_bytes)
        try:
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True, capture_output=True)
            self._mount()
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoDisk(getattr(error, "stderr", b"").decode() or str(error)) from error

    def _mount(self) -> None:
        command = ["mount", "-o", "loop", str(self._image), str(self.directory)]
        subprocess.run(command, check=True, capture_output=True)

    def cut(self) -> None:
        """Power is lost."""
        fd = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _WITHOUT_FLUSH)
        finally:
            os.close(fd)

    def repower(self) -> None:
        """Power is back; nobody may have a file open."""
        self._unmount()
        self._mount()

    def fill(self) -> None:
        """Leave no room."""
        with (self.directory / "filler").open("wb") as file:
            size = self.free()
            while size:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
                except OSError:
                    size //= 2

    def free(self) -> int:
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize

    def empty(self) -> None:
        """Give the room back."""
        (self.directory / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        self._unmount()
        self._image.unlink()

    def _unmount(self) -> None:
        give_up_at = time.monotonic() + _UNMOUNT_SECONDS
        while subprocess.run(["umount", str(self.directory)], capture_output=True).returncode:
            # Processes that were killed a moment ago close their files in their own time.
            assert time.monotonic() < give_up_at, "something keeps the disk busy"
            time.sleep(0.05)
