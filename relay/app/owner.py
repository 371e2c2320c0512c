"""Root's commands on a directory that belongs to the service's user.

What root makes there (SQLite's log, lock files) would be root's, and the service could not open it any
more: so commands become the directory's owner once they have read the key file, which may be root's alone.
"""

from __future__ import annotations

import os
from pathlib import Path


def become_owner(directory: Path) -> None:
    """Give up root for the owner of the directory, if that is another."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def hand_over(directory: Path) -> None:
    """Give the owner of the directory what root has just made in it."""
    owner = directory.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for file in directory.iterdir():
        if file.lstat().st_uid == 0:
            os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)
