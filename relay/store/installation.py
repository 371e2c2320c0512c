"""What a store says of itself: its region, fixed for good, and which key file is its own."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from relay.store.engine import Store, StoreError
from relay.store.secrets import KeyFileError, Secrets
from relay.store.tables import meta

_CHECK = "this key file belongs to this store"
_CHECK_PLACE = "meta/key_check"


def initialise(store: Store, region: str, secrets: Secrets) -> bool:
    """Mark an empty store as ours; False if it was marked before (then it must agree)."""
    with store.write() as connection:
        found = _read(connection)
        if not found:
            sealed = secrets.seal(_CHECK.encode(), _CHECK_PLACE).hex()
            rows = [{"name": "region", "value": region}, {"name": "key_check", "value": sealed}]
            connection.execute(insert(meta), rows)
            return True
    _check(found, region, secrets)
    return False


def verify(store: Store, region: str, secrets: Secrets) -> None:
    """StoreError or KeyFileError, with what to do, if settings or key file are not this store's."""
    with store.read() as connection:
        found = _read(connection)
    if not found:
        raise StoreError("the store was not initialised; run: relay init")
    _check(found, region, secrets)


def _read(connection: Connection) -> dict[str, str]:
    return dict(connection.execute(select(meta.c.name, meta.c.value)).all())


def _check(found: dict[str, str], region: str, secrets: Secrets) -> None:
    if found["region"] != region:
        # R14: every ARN in the store names its region; another one would orphan all of them.
        raise StoreError(
            f"the store belongs to region {found['region']}, the settings say {region}:"
            f' set [relay] region = "{found["region"]}"'
        )
    if secrets.open(bytes.fromhex(found["key_check"]), _CHECK_PLACE) != _CHECK.encode():
        raise KeyFileError("the key file is not this store's")
