"""The store that a settings file names, opened for one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.app.control import ground_on
from relay.app.owner import become_owner
from relay.app.serve import check_store
from relay.control.ground import Ground
from relay.settings import load
from relay.store.engine import Store
from relay.store.secrets import load_key_file


@contextmanager
def opened(file: Path, actor: str) -> Iterator[Ground]:
    """What control-plane operations stand on; one of ``serve.UNUSABLE`` if it cannot be had."""
    settings = load(file)
    secrets = load_key_file(settings.path(settings.store.key_file))
    become_owner(settings.directory)
    check_store(settings, secrets)
    store = Store(settings.store_url)
    try:
        yield ground_on(settings, store, secrets, actor)
    finally:
        store.dispose()
