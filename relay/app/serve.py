"""Everything that must be right before the first connection is taken."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

from relay.app.listen import ListenError
from relay.app.node import installation_id
from relay.app.supervisor import StartError, Supervisor, take_instance_lock
from relay.app.tls import files, load_pair
from relay.app.token import metrics_token
from relay.settings import Settings, SettingsError, load
from relay.store import installation, schema
from relay.store.backup import BackupError
from relay.store.engine import Store, StoreError, StoreUnavailable
from relay.store.secrets import KeyFileError, Secrets, load_key_file

# What keeps us from a store or from starting; each says what to do.
UNUSABLE = (SettingsError, StartError, StoreError, StoreUnavailable, KeyFileError, BackupError, ListenError)


def serve(file: Path) -> str | None:
    """Run until told to stop.  None after an orderly stop, else what kept us from starting."""
    # Every part of the gateway; commands need none of them.
    from relay.api import models
    from relay.app.worker import worker_main

    models.load()  # before there are workers, which share it
    os.umask(0o077)
    try:
        settings = load_checked(file)
        check_store(settings, load_key_file(settings.path(settings.store.key_file)))
        # Held by this process and its workers, so that the file's lock outlives neither.
        lock = take_instance_lock(settings.directory)
        count = settings.relay.workers or len(os.sched_getaffinity(0))
        Supervisor(settings, lambda: load_checked(file), worker_main, count, installation_id(lock)).run()
    except UNUSABLE as error:
        return str(error)
    return None


def load_checked(file: Path) -> Settings:
    """The settings, and what they point to, fit to serve with."""
    settings = load(file)
    problems = list(_problems(settings, file))
    if problems:
        raise SettingsError(problems)
    return settings


def _problems(settings: Settings, file: Path) -> list[str]:
    problems: list[str] = []
    problems += _delivery_problems(settings, file)
    problems += _http_problems(settings, file)
    certificate, key = files(settings)
    try:
        load_pair(certificate, key)
    except (OSError, ValueError) as error:
        problems.append(f"{file}: [smtp] certificate, private_key: {certificate}, {key}: {error}")
    return problems


def _delivery_problems(settings: Settings, file: Path) -> Iterator[str]:
    """Files that are named and are not there, or not what they should be."""
    delivery = settings.delivery
    named = [("smarthost_password_file", delivery.smarthost_password_file)]
    named += [(f"routes.{at}.password_file", one.password_file) for at, one in enumerate(delivery.routes)]
    for key, name in named:
        if name and not settings.path(name).is_file():
            yield f"{file}: [delivery] {key}: {settings.path(name)}: no such file"
    for section, ca_file in (("delivery", delivery.ca_file), ("webhooks", settings.webhooks.ca_file)):
        try:
            if ca_file:
                ssl.create_default_context().load_verify_locations(settings.path(ca_file))
        except (OSError, ssl.SSLError) as error:
            yield f"{file}: [{section}] ca_file: {settings.path(ca_file)}: {error}"


def _http_problems(settings: Settings, file: Path) -> Iterator[str]:
    try:
        metrics_token(settings)
    except (OSError, ValueError) as error:
        yield f"{file}: [http] metrics_token_file: {error}"


def check_store(settings: Settings, secrets: Secrets) -> None:
    """The store is there, has our schema, our region and our key."""
    store = Store(settings.store_url)
    try:
        schema.require_current(store)
        installation.verify(store, settings.relay.region, secrets)
    finally:
        store.dispose()
