"""What a store says of itself, and what it says to settings and a key file that are not its own."""

from __future__ import annotations

import os

import pytest
from sqlalchemy import select

from relay.store import installation
from relay.store.engine import Store, StoreError
from relay.store.secrets import KeyFileError, Secrets
from relay.store.tables import meta

REGION = "us-east-1"


def rows(store: Store) -> dict[str, str]:
    with store.read() as connection:
        return dict(connection.execute(select(meta.c.name, meta.c.value)).all())


@pytest.fixture
def marked(store: Store, secrets: Secrets) -> Store:
    assert installation.initialise(store, REGION, secrets)
    return store


def test_store_that_was_not_initialised_says_what_to_run(store: Store, secrets: Secrets) -> None:
    with pytest.raises(StoreError, match=r"^the store was not initialised; run: relay init$"):
        installation.verify(store, REGION, secrets)


def test_r14_another_region_is_refused_and_named(marked: Store, secrets: Secrets) -> None:
    with pytest.raises(StoreError) as caught:
        installation.verify(marked, "eu-west-1", secrets)
    assert str(caught.value) == (
        'the store belongs to region us-east-1, the settings say eu-west-1: set [relay] region = "us-east-1"'
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param({"1": b"z" * 32}, "does not open meta/key_check", id="another-key-of-the-same-name"),
        pytest.param({"2": b"z" * 32}, "has no key '1'", id="another-name"),
    ],
)
def test_another_key_file_is_refused(marked: Store, keys: dict[str, bytes], message: str) -> None:
    with pytest.raises(KeyFileError, match=message):
        installation.verify(marked, REGION, Secrets(keys, next(iter(keys))))


def test_key_file_with_a_newer_key_beside_the_old_one_is_still_the_stores(store: Store) -> None:
    old, new = os.urandom(32), os.urandom(32)
    installation.initialise(store, REGION, Secrets({"1": old}, "1"))
    installation.verify(store, REGION, Secrets({"1": old, "2": new}, "2"))


def test_second_initialisation_must_agree_and_changes_nothing(marked: Store, secrets: Secrets) -> None:
    before = rows(marked)
    assert not installation.initialise(marked, REGION, secrets)
    with pytest.raises(StoreError, match="belongs to region"):
        installation.initialise(marked, "eu-west-1", secrets)
    with pytest.raises(KeyFileError):
        installation.initialise(marked, REGION, Secrets({"1": b"z" * 32}, "1"))
    assert rows(marked) == before


def test_mark_holds_nothing_of_the_key(marked: Store, secrets: Secrets) -> None:
    stored = " ".join(rows(marked).values())
    for secret in (secrets._keys[secrets.current], secrets.derive("store")):
        assert secret.hex() not in stored
