"""Root's commands on a directory that belongs to the service's user.

What root makes there (SQLite's log, lock files) would be root's, and the service could not open it any
more: so commands become the directory's owner once they have read the key file, which may be root's alone.
Those that write files of root's as well (the key file, a backup) become the owner for a while.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def become_owner(directory: Path) -> None:
    """Give up root for the owner of the directory, if that is another."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


@contextmanager
def acting_as_owner(directory: Path) -> Iterator[None]:
    """Make files as the owner of the directory would, and be root again afterwards."""
    owner = directory.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def hand_over(directory: Path) -> None:
    """Give the owner of the directory what root has just made in it."""
    owner = directory.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for file in directory.iterdir():
        if file.lstat().st_uid == 0:
            os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)
