"""The change feed: one writer at a time, numbers in commit order, and every change under its subject."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import select

from relay.control import accounts, credentials, dkim, identities, policies, users
from relay.control.ground import ControlError, Ground
from relay.store import changes
from relay.store.changes import ControlWrite, control_write
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.store.tables import change
from tests.support.gateway import DELEGATE, OWNER, REGION, arn, grant, user_arn
from tests.support.stores import PostgreSQL

SECONDS = 10.0
OWN = "owner.example"


def newest(store: Store) -> int:
    with store.read() as connection:
        return changes.newest(connection)


def since(store: Store, seq: int, limit: int = 10_000) -> list[tuple[int, str]]:
    with store.read() as connection:
        return changes.since(connection, seq, limit)


def test_feed_of_an_empty_store_is_empty(store: Store) -> None:
    assert newest(store) == 0
    assert since(store, 0) == []


def test_change_says_what_was_done_and_by_whom(store: Store) -> None:
    with control_write(store, "cli:root") as write:
        write.record("account:1", "PauseAccount")
    with store.read() as connection:
        [row] = connection.execute(select(change)).all()
    assert (row.subject, row.action, row.actor) == ("account:1", "PauseAccount", "cli:root")
    assert row.at > 1_700_000_000_000_000


def test_feed_is_read_oldest_first_and_in_portions(store: Store) -> None:
    with control_write(store, "test") as write:
        for number in range(5):
            write.record(f"account:{number}", "UpdateAccount")
    first = since(store, 0, limit=2)
    assert [subject for _, subject in first] == ["account:0", "account:1"]
    rest = since(store, first[-1][0])
    assert [subject for _, subject in rest] == ["account:2", "account:3", "account:4"]
    assert since(store, newest(store)) == []


def test_write_that_fails_is_in_no_feed(store: Store) -> None:
    with pytest.raises(RuntimeError), control_write(store, "test") as write:
        write.record("account:1", "PauseAccount")
        raise RuntimeError
    assert newest(store) == 0


def test_number_is_never_given_twice(store: Store) -> None:
    """Who has read up to a number would never see the change that got it second."""
    numbers = []
    for _ in range(3):
        with pytest.raises(RuntimeError), control_write(store, "test") as write:
            write.record("account:1", "PauseAccount")
            raise RuntimeError
        with control_write(store, "test") as write:
            write.record("account:1", "ResumeAccount")
        numbers.append(newest(store))
    assert numbers == sorted(set(numbers))


def test_writes_are_one_at_a_time_so_that_numbers_are_in_commit_order(store: Store) -> None:
    """A reader that saw the second number has seen the first one's change too."""
    began, inside, found = threading.Event(), threading.Event(), []

    def second() -> None:
        began.set()
        with control_write(store, "second") as write:
            inside.set()
            found.append(changes.newest(write.connection))
            write.record("account:2", "PauseAccount")

    thread = threading.Thread(target=second)
    with control_write(store, "first") as write:
        write.record("account:1", "PauseAccount")
        thread.start()
        assert began.wait(SECONDS)
        assert not inside.wait(0.3), "two control-plane writes at once"
    thread.join(SECONDS)
    [(first, _), (last, _)] = since(store, 0)
    assert first < last
    assert found == [first]


def test_listeners_on_postgresql_are_told_after_the_commit(postgresql: PostgreSQL) -> None:
    with postgresql.database() as url:
        store = Store(url)
        with psycopg.connect(url, autocommit=True) as listener:
            listener.execute(f"LISTEN {changes.CHANNEL}")
            with control_write(store, "test") as write:
                write.record("account:1", "PauseAccount")
                assert list(listener.notifies(timeout=0)) == []
            told = list(listener.notifies(timeout=SECONDS, stop_after=1))
            assert [one.channel for one in told] == [changes.CHANNEL]
        store.dispose()


# ---------------------------------------------------------------- what each operation touches


@pytest.fixture
def ground(store: Store, secrets: Secrets) -> Ground:
    ground = Ground(store, secrets, REGION, "test")
    accounts.create(ground, "owner", OWNER, production=True)
    accounts.create(ground, "delegate", DELEGATE)
    identities.create(ground, OWN, OWNER, verified=True)
    users.create(ground, "app", DELEGATE)
    policies.put(ground, arn(OWN), "lend", json.dumps(grant({"AWS": user_arn("app")}, arn(OWN))))
    return ground


@pytest.fixture
def touched(ground: Ground) -> Callable[[], set[str]]:
    """The subjects named since the ground was laid."""
    before = newest(ground.store)
    return lambda: {subject for _, subject in since(ground.store, before)}


DOCUMENT = json.dumps(
    {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}
)
LENT = f"identity:{OWNER}:{OWN}"


def _row(ground: Ground) -> identities.IdentityRow:
    return identities.show(ground, OWN, OWNER).row


@pytest.mark.parametrize(
    ("operation", "subject"),
    [
        pytest.param(lambda g: accounts.pause(g, OWNER, "unpaid"), f"account:{OWNER}", id="pause"),
        pytest.param(lambda g: accounts.resume(g, OWNER), f"account:{OWNER}", id="resume"),
        pytest.param(lambda g: accounts.update(g, OWNER, production=False), f"account:{OWNER}", id="sandbox"),
        pytest.param(lambda g: identities.delete(g, OWN, OWNER), LENT, id="identity-delete"),
        pytest.param(lambda g: policies.delete(g, arn(OWN), "lend"), LENT, id="policy-delete"),
        pytest.param(
            lambda g: policies.put(g, arn(OWN), "lend", json.dumps(grant("*", arn(OWN), Effect="Deny"))),
            LENT,
            id="policy-put",
        ),
        pytest.param(lambda g: dkim.set_enabled(g, _row(g), False), LENT, id="dkim-off"),
        pytest.param(lambda g: dkim.set_algorithm(g, _row(g), "both"), LENT, id="dkim-second-key"),
        pytest.param(
            lambda g: identities.create(g, "new.example", OWNER),
            f"identity:{OWNER}:new.example",
            id="identity-create",
        ),
        # Whoever was granted through the deleted user's name must lose it: the policy is written anew.
        pytest.param(lambda g: users.delete(g, "app", DELEGATE), LENT, id="user-delete-in-policies"),
    ],
)
def test_operation_names_what_it_touched(
    ground: Ground, touched: Callable[[], set[str]], operation: Callable[[Ground], object], subject: str
) -> None:
    operation(ground)
    assert subject in touched()


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda g: users.put_policy(g, "app", DELEGATE, "own", DOCUMENT), id="put-policy"),
        pytest.param(
            lambda g: users.delete_policy(g, "app", DELEGATE, users.FIRST_POLICY_NAME), id="delete-policy"
        ),
        pytest.param(lambda g: users.delete(g, "app", DELEGATE), id="delete"),
    ],
)
def test_operation_on_a_user_names_its_immutable_id(
    ground: Ground, touched: Callable[[], set[str]], operation: Callable[[Ground], object]
) -> None:
    unique_id = users.get(ground, "app", DELEGATE).unique_id
    operation(ground)
    assert f"user:{unique_id}" in touched()


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda g, key: credentials.set_active(g, key, False), id="deactivate"),
        pytest.param(lambda g, key: credentials.delete(g, key), id="delete"),
        pytest.param(lambda g, key: users.delete(g, "app", DELEGATE, force=True), id="delete-its-user"),
    ],
)
def test_operation_on_a_credential_names_it(
    ground: Ground, touched: Callable[[], set[str]], operation: Callable[[Ground, str], object]
) -> None:
    key = credentials.create_for_user(ground, DELEGATE, "app").access_key_id
    assert f"credential:{key}" in touched()
    between = newest(ground.store)
    operation(ground, key)
    assert f"credential:{key}" in {subject for _, subject in since(ground.store, between)}


def test_operation_that_is_refused_records_nothing(ground: Ground) -> None:
    before = newest(ground.store)
    with pytest.raises(ControlError, match="exists already"):
        accounts.create(ground, "again", OWNER)
    assert newest(ground.store) == before


def test_record_is_made_in_the_transaction_of_its_change(ground: Ground) -> None:
    """A change that is seen before its record, or a record before its change, would leave a stale cache."""

    class Stop(Exception):
        pass

    before = newest(ground.store)
    real = ControlWrite.record

    def refuse(self: ControlWrite, subject: str, action: str, **detail: object) -> None:
        real(self, subject, action, **detail)
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ControlWrite, "record", refuse)
        with pytest.raises(Stop):
            accounts.pause(ground, OWNER, "unpaid")
    assert not accounts.get(ground, OWNER).paused
    assert since(ground.store, before) == []
