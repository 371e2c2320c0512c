"""Suppression lists in the store, on both engines."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import insert, update

from relay.store import suppression
from relay.store.engine import Store
from relay.store.suppression import BOUNCE, COMPLAINT, Entry
from relay.store.tables import account, configuration_set

ONE, OTHER = "111122223333", "222222222222"


def entry(address: str, reason: str = BOUNCE, at: int = 1, account_id: str = ONE) -> Entry:
    return Entry(account_id, address, reason, at)


def add(store: Store, *entries: Entry) -> None:
    with store.write() as connection:
        suppression.add(connection, entries)


def matching(store: Store, *keys: tuple[str, str]) -> dict[tuple[str, str], str]:
    with store.read() as connection:
        return suppression.matching(connection, keys)


def listed(store: Store, account_id: str = ONE, **filters) -> list[tuple[str, str]]:
    return [(one.address, one.reason) for one in suppression.entries(store, account_id, **filters)]


def test_address_is_found_whatever_its_letter_case(store: Store) -> None:
    add(store, entry("Bob@X.example"))
    folded = suppression.folded("bOB@x.example")
    assert matching(store, (ONE, folded)) == {(ONE, "bob@x.example"): BOUNCE}
    assert listed(store) == [("Bob@X.example", BOUNCE)]


def test_lists_are_the_accounts_own(store: Store) -> None:
    add(store, entry("a@x.example"), entry("b@x.example", COMPLAINT, account_id=OTHER))
    keys = [(who, what) for who in (ONE, OTHER) for what in ("a@x.example", "b@x.example")]
    assert matching(store, *keys) == {(ONE, "a@x.example"): BOUNCE, (OTHER, "b@x.example"): COMPLAINT}


def test_many_recipients_are_looked_up(store: Store) -> None:
    add(store, *(entry(f"u{n}@x.example") for n in range(0, 3000, 3)))
    keys = [(ONE, f"u{n}@x.example") for n in range(1500)]
    assert len(matching(store, *keys)) == 500


@pytest.mark.parametrize("at_once", [True, False])
def test_newer_entry_wins_in_any_order(store: Store, at_once: bool) -> None:
    entries = [entry("a@x.example", COMPLAINT, at=5), entry("A@x.example", BOUNCE, at=3)]
    for batch in [entries] if at_once else [[one] for one in entries]:
        add(store, *batch)
    assert listed(store) == [("a@x.example", COMPLAINT)]
    add(store, entry("A@x.example", BOUNCE, at=6))
    assert listed(store) == [("A@x.example", BOUNCE)]


def test_removed_address_is_gone_and_told_if_there_was_none(store: Store) -> None:
    add(store, entry("a@x.example"))
    with store.write() as connection:
        assert not suppression.remove(connection, OTHER, "a@x.example")
        assert suppression.remove(connection, ONE, "A@X.example")
        assert not suppression.remove(connection, ONE, "a@x.example")
    assert listed(store) == []


def test_list_is_read_in_pages_with_every_filter(store: Store) -> None:
    add(store, *(entry(f"u{n:04}@x.example", (BOUNCE, COMPLAINT)[n % 2], at=n) for n in range(2500)))
    assert len(set(listed(store))) == 2500
    assert len(listed(store, reason=COMPLAINT)) == 1250
    assert len(listed(store, since=2000)) == 500
    assert listed(store, limit=1200) == listed(store)[:1200]
    assert listed(store, limit=1000) == listed(store)[:1000]


def test_two_that_add_the_same_addresses_never_wait_for_each_other(store: Store) -> None:
    addresses = [f"u{n}@x.example" for n in range(200)]
    failures: list[Exception] = []

    def work(order: list[str]) -> None:
        try:
            for _ in range(10):
                add(store, *(entry(one) for one in order))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(order,)) for order in (addresses, addresses[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert len(listed(store)) == 200


def test_reasons_are_the_sets_own_or_the_accounts(store: Store) -> None:
    row = {"name": "x", "production": True, "paused": False, "created_at": 1}
    sets = [(1, "follows", None), (2, "off", "[]"), (3, "complaints", '["COMPLAINT"]')]
    with store.write() as connection:
        connection.execute(insert(account), [{"account_id": one, **row} for one in (ONE, OTHER)])
        connection.execute(
            update(account).where(account.c.account_id == OTHER).values(suppressed_reasons='["BOUNCE"]')
        )
        connection.execute(
            insert(configuration_set),
            [
                {
                    "id": key,
                    "account_id": ONE,
                    "name": name,
                    "sending_enabled": True,
                    "created_at": 1,
                    "suppressed_reasons": reasons,
                }
                for key, name, reasons in sets
            ],
        )
        asked = [(ONE, None), *((ONE, name) for _, name, _ in sets), (ONE, "gone"), (OTHER, "off")]
        found = suppression.reasons_of(connection, asked)
    assert found == {
        (ONE, None): {BOUNCE, COMPLAINT},
        (ONE, "follows"): {BOUNCE, COMPLAINT},
        (ONE, "off"): frozenset(),
        (ONE, "complaints"): {COMPLAINT},
        (ONE, "gone"): {BOUNCE, COMPLAINT},
        (OTHER, "off"): {BOUNCE},
    }
