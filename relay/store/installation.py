"""What a store says of itself: its region, fixed for good, and which key file is its own."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, text, update

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


def require_key(connection: Connection, secrets: Secrets) -> None:
    """KeyFileError unless the key file is the store's, also while ``use_key`` is under way elsewhere."""
    row = select(meta.c.value).where(meta.c.name == "key_check").with_for_update(read=True)
    _open_check(connection.execute(row).scalar_one(), secrets)


def use_key(connection: Connection, secrets: Secrets, key_id: str) -> None:
    """From now on no process starts on this store whose key file lacks the key."""
    row = meta.c.name == "key_check"
    found = connection.execute(select(meta.c.value).where(row).with_for_update()).scalar_one()
    _open_check(found, secrets)
    sealed = secrets.seal(_CHECK.encode(), _CHECK_PLACE, key_id).hex()
    connection.execute(update(meta).where(row).values(value=sealed))


def key_in_use(connection: Connection) -> str:
    """The key under which a process must be able to open the store."""
    found = _read(connection)["key_check"]
    return bytes.fromhex(found).partition(b"\0")[0].decode()


def region(connection: Connection) -> str:
    """The region that the store belongs to."""
    return _read(connection)["region"]


def not_durable(connection: Connection) -> list[str]:
    """What is switched off of a PostgreSQL server's that a commit needs to outlast a power cut."""
    query = text(
        "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'"
    )
    return sorted(connection.execute(query).scalars())


def _read(connection: Connection) -> dict[str, str]:
    return dict(connection.execute(select(meta.c.name, meta.c.value)).all())


def _check(found: dict[str, str], region: str, secrets: Secrets) -> None:
    if found["region"] != region:
        # R14: every ARN in the store names its region; another one would orphan all of them.
        raise StoreError(
            f"the store belongs to region {found['region']}, the settings say {region}:"
            f' set [relay] region = "{found["region"]}"'
        )
    _open_check(found["key_check"], secrets)


def _open_check(value: str, secrets: Secrets) -> None:
    if secrets.open(bytes.fromhex(value), _CHECK_PLACE) != _CHECK.encode():
        raise KeyFileError("the key file is not this store's")
