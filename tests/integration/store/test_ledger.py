"""The owner's ledger on both engines: sealed in order, and whoever touches it is found out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from relay.store import installation, ledger
from relay.store.changes import control_write, identity_subject
from relay.store.engine import Store
from relay.store.ledger import ACCEPTED, CHANGE, Entry, Verified, entry
from relay.store.secrets import Secrets
from tests.support.stores import PostgreSQL

OWNER = "111122223333"
NEWS, SHOP = (f"arn:aws:ses:us-east-1:{OWNER}:identity/{name}.example" for name in ("news", "shop"))


def happened(arn: str = NEWS, **detail: Any) -> Entry:
    return entry(arn, 1_795_000_000_000_000, ACCEPTED, detail)


def append(store: Store, *entries: Entry) -> None:
    with store.write() as connection:
        ledger.append(connection, entries)


def seal(store: Store, limit: int = 1000) -> int:
    with store.write() as connection:
        return ledger.seal(connection, limit)


def chain(store: Store, arn: str = NEWS) -> list[tuple[int | None, Any]]:
    return [(one.seq, json.loads(one.entry.detail)) for one in ledger.chain(store, arn)]


def verify(store: Store, arn: str = NEWS) -> Verified:
    return ledger.verify(ledger.chain(store, arn))


def filled(store: Store, count: int = 5) -> None:
    append(store, *(happened(n=n) for n in range(1, count + 1)))
    seal(store)


def test_entries_are_numbered_by_identity_in_the_order_of_sealing(store: Store) -> None:
    append(store, happened(n=1), happened(SHOP, n=1), happened(n=2))
    assert seal(store) == 3
    append(store, happened(n=3), happened(SHOP, n=2))
    assert seal(store) == 2
    assert chain(store) == [(1, {"n": 1}), (2, {"n": 2}), (3, {"n": 3})]
    assert chain(store, SHOP) == [(1, {"n": 1}), (2, {"n": 2})]
    assert verify(store).fault is verify(store, SHOP).fault is None
    assert seal(store) == 0


def test_batches_are_bounded_and_one_chain(store: Store) -> None:
    append(store, *(happened(n=n) for n in range(25)))
    assert [seal(store, 10) for _ in range(4)] == [10, 10, 5, 0]
    assert verify(store).seq == 25


def test_long_chain_is_read_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_PAGE", 3)
    filled(store, 10)
    assert [seq for seq, _ in chain(store)] == list(range(1, 11))


def test_sealers_and_writers_at_once_make_one_chain(store: Store) -> None:
    done = threading.Event()

    def write() -> None:
        for n in range(30):
            append(store, happened(n=n), happened(SHOP, n=n))

    def keep_sealing() -> None:
        while not done.is_set():
            seal(store, 7)

    writers = [threading.Thread(target=write) for _ in range(2)]
    sealers = [threading.Thread(target=keep_sealing) for _ in range(2)]
    for thread in (*writers, *sealers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in sealers:
        thread.join()
    while seal(store):
        pass
    assert (verify(store).seq, verify(store).fault) == (60, None)
    assert (verify(store, SHOP).seq, verify(store, SHOP).fault) == (60, None)


def test_sealer_leaves_it_to_the_one_that_is_at_it(postgresql: PostgreSQL) -> None:
    """On SQLite there is one writer at a time anyway."""
    with postgresql.database() as url:
        store = Store(url)
        append(store, happened(n=1))
        with store.write() as connection:
            assert ledger.seal(connection, 10) == 1
            assert seal(store) == 0
        store.dispose()


def test_newest_come_first_and_those_that_wait_before_them(store: Store) -> None:
    filled(store, 3)
    append(store, happened(n=4), happened(SHOP, n=1), happened(n=5))
    with store.read() as connection:
        found = ledger.newest(connection, NEWS, 4)
        assert [(one.seq, one.entry.detail) for one in found] == [
            (None, '{"n":5}'),
            (None, '{"n":4}'),
            (3, '{"n":3}'),
            (2, '{"n":2}'),
        ]
        assert ledger.newest(connection, NEWS, 4, since=1_795_000_000_000_001) == []
        assert ledger.count_unsealed(connection, NEWS) == 2


# ---------------------------------------------------------------- tampering

UNLOCK = {
    "sqlite": ("DROP TRIGGER ledger_refuses_update", "DROP TRIGGER ledger_refuses_delete"),
    "postgresql": (
        "DROP TRIGGER ledger_refuses_update ON ledger",
        "DROP TRIGGER ledger_refuses_delete ON ledger",
    ),
}


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE ledger SET detail = '{}'", "the ledger is"),
        ("UPDATE ledger SET seq = NULL, hash = NULL", "the ledger is"),
        ("DELETE FROM ledger", "the ledger is append-only"),
    ],
)
def test_database_refuses_to_touch_a_sealed_entry(store: Store, statement: str, said: str) -> None:
    filled(store)
    with pytest.raises(Exception, match=said), store.write() as connection:
        connection.execute(text(statement))
    assert verify(store) == Verified(5, verify(store).hash)


def test_unsealed_entry_cannot_be_deleted(store: Store) -> None:
    append(store, happened(n=1))
    with pytest.raises(Exception, match="append-only"), store.write() as connection:
        connection.execute(text("DELETE FROM ledger"))


@pytest.mark.parametrize(
    ("statement", "intact", "fault"),
    [
        ("""UPDATE ledger SET detail = '{"n":30}' WHERE seq = 3""", 2, "entry 3 is not as it was sealed"),
        ("UPDATE ledger SET at = at + 1 WHERE seq = 1", 0, "entry 1 is not as it was sealed"),
        ("UPDATE ledger SET kind = 'refused' WHERE seq = 5", 4, "entry 5 is not as it was sealed"),
        (f"UPDATE ledger SET hash = '{'0' * 64}' WHERE seq = 4", 3, "entry 4 is not as it was sealed"),
        ("DELETE FROM ledger WHERE seq = 2", 1, "entry 2 is missing: entry 3 follows 1"),
        ("DELETE FROM ledger WHERE seq = 1", 0, "entry 1 is missing: entry 2 follows 0"),
    ],
)
def test_tampering_is_found_where_it_was_done(
    store: Store, engine: str, statement: str, intact: int, fault: str
) -> None:
    filled(store)
    with store.write() as connection:
        for unlock in UNLOCK[engine]:
            connection.execute(text(unlock))
        connection.exec_driver_sql(statement.replace("%", "%%"))
    found = verify(store)
    assert found.seq == intact
    assert found.fault is not None
    assert found.fault.startswith(fault)


def test_altered_entry_with_a_fitting_hash_breaks_the_next(store: Store, engine: str) -> None:
    filled(store)
    before = list(ledger.chain(store, NEWS))
    forged = ledger.link(before[1].hash or "", 3, happened(n=30))
    with store.write() as connection:
        for unlock in UNLOCK[engine]:
            connection.execute(text(unlock))
        change = "UPDATE ledger SET detail = :d, hash = :h WHERE seq = 3"
        connection.execute(text(change), {"d": '{"n":30}', "h": forged})
    assert (verify(store).seq, (verify(store).fault or "")[:7]) == (3, "entry 4")


def test_entry_that_was_put_between_is_refused_by_the_database(store: Store) -> None:
    filled(store)
    row = {"arn": NEWS, "h": "0" * 64}
    add = "INSERT INTO ledger (identity_arn, at, kind, detail, seq, hash) VALUES (:arn, 1, 'x', '{}', 3, :h)"
    with pytest.raises(Exception, match="(?i)unique"), store.write() as connection:
        connection.execute(text(add), row)


# ---------------------------------------------------------------- the form that others verify

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4), TEXTS, st.integers(1, 2**40))
def test_form_is_what_any_json_library_makes_with_sorted_keys(
    detail: dict[str, Any], name: str, seq: int
) -> None:
    one = entry(name, 5, CHANGE, detail)
    plain = {"at": 5, "detail": detail, "identity_arn": name, "kind": CHANGE, "seq": seq}
    expected = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert ledger.canonical(seq, one) == expected


def documented_verifier() -> str:
    page = (Path(__file__).parents[3] / "docs" / "ledger.md").read_text()
    found = re.search(r"<!-- verifier -->\n```python\n(.*?)```\n<!-- /verifier -->", page, re.S)
    assert found is not None
    assert len(found[1].splitlines()) <= 12
    return found[1]


def judged_by_others(lines: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", documented_verifier()]
    return subprocess.run(
        command, input="".join(f"{line}\n" for line in lines), capture_output=True, text=True
    )


def test_documented_program_verifies_an_export_without_us(store: Store) -> None:
    append(store, happened(subject="Grüße \U0001f600", n=1), happened(ä=[1, None, True], a='\x1b"\\'))
    seal(store)
    lines = [ledger.exported(one) for one in ledger.chain(store, NEWS)]
    done = judged_by_others(lines)
    assert (done.returncode, done.stdout) == (0, f"2 entries, the last hash is {verify(store).hash}\n")
    forged = judged_by_others([lines[0].replace('"n":1', '"n":2'), lines[1]])
    assert (forged.returncode, forged.stderr) == (1, "entry 1 is not as it was sealed\n")
    assert judged_by_others(lines[1:]).returncode == 1


# ---------------------------------------------------------------- control writes


def test_change_of_an_identity_is_in_its_ledger_and_only_with_its_transaction(
    store: Store, secrets: Secrets
) -> None:
    installation.initialise(store, "us-east-1", secrets)
    with pytest.raises(RuntimeError), control_write(store, "cli:ann") as write:
        write.record(identity_subject(OWNER, "news.example"), "PutIdentityPolicy", name="never")
        raise RuntimeError
    with control_write(store, "cli:ann") as write:
        write.record(identity_subject(OWNER, "news.example"), "PutIdentityPolicy", name="lend")
        write.note(identity_subject(OWNER, "shop.example"), "Noted")
        write.record("account:111122223333", "UpdateAccount")
    seal(store)
    told = {"action": "PutIdentityPolicy", "actor": "cli:ann", "detail": {"name": "lend"}}
    assert chain(store) == [(1, told)]
    assert [detail["action"] for _, detail in chain(store, SHOP)] == ["Noted"]
    with store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM ledger")).scalar() == 2
