"""This machine among those that share the store: its name, and the settings in which all must agree."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping

from relay.settings import Settings

# Of these every setting; the rest of a machine's settings is its own affair.
_SHARED_SECTIONS = ("verification", "quota", "reputation", "sandbox", "simulator", "retention")
_SHARED = (
    ("relay", "hostname"),
    ("relay", "dialect"),
    ("http", "public_url"),
    ("bounce", "domain"),
    ("bounce", "token_days"),
    ("delivery", "expire_seconds"),
    ("delivery", "delay_notice_seconds"),
    ("delivery", "revoked"),
)
_ID_BYTES = 16


def node_name(settings: Settings) -> str:
    return settings.relay.node or socket.gethostname()[:64]


def shared(settings: Settings) -> Mapping[str, str]:
    """What clients, owners and delegates must find the same at whichever node, as text."""
    names = [
        *_SHARED,
        *(
            (section, key)
            for section in _SHARED_SECTIONS
            for key in type(getattr(settings, section)).model_fields
        ),
    ]
    return {f"[{section}] {key}": str(getattr(getattr(settings, section), key)) for section, key in names}


def installation_id(lock: int) -> str:
    """The id of a state directory, kept in its lock file; made at the first start, by who holds the lock."""
    found = os.pread(lock, 2 * _ID_BYTES, 0)
    if len(found) < 2 * _ID_BYTES:
        found = secrets.token_hex(_ID_BYTES).encode()
        os.pwrite(lock, found, 0)
        os.fsync(lock)
    return found.decode()
