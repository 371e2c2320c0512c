"""What is asked of a store and what that costs: polls, first looks of the directory, a message."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select, text

from relay.authorization.decision import Rules
from relay.queue import revocation
from relay.queue.values import Consignment
from relay.store.changes import (
    account_subject,
    credential_subject,
    identity_subject,
    user_subject,
)
from relay.store.directory import Directory
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.store.tables import ledger, metadata
from relay.submission.headers import parse_headers
from tests.bench.load import Load
from tests.bench.measuring import measure
from tests.bench.processes import cpu_seconds
from tests.support.full_store import Tenants, settle_down
from tests.support.gateway import REGION
from tests.support.plans import explain, recorded
from tests.support.recurring import Mail, polls, register
from tests.support.signing import sign

if TYPE_CHECKING:
    from tests.bench.bench_scale import Site

_SMALL_ROWS = 1_000
_TIMES = 5
_SEALED = 200
_TENANTS = 10_000
_HEADERS = parse_headers(b"From: alerts@tenant.example\r\n")
_KEPT = ("message", "recipient", "attempt", "ledger", "usage_day", "usage_minute", "outbox", "body_chunk")
_HOT = ("quota", "usage_minute", "usage_day", "recipient", "body_chunk", "worker", "meta")


def transactions(store: Store) -> int:
    """How many the database has ended; SQLite does not count them."""
    if store.is_sqlite:
        return 0
    with store.read() as connection:
        query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.execute(text(query)).scalar_one())


def connections(connection: Connection) -> int:
    """How many there are to this database, ours not counted."""
    query = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()"
    return int(connection.execute(text(query)).scalar_one())


# ---------------------------------------------------------------- polls


def print_polls(store: Store) -> None:
    """Each alone, the fastest of some; what is read through is named."""
    print("\n## What an idle worker asks of the store")
    lease = register(store)
    small = _small_tables(store)
    asked = spent = 0.0
    for poll in polls(store, lease):
        with recorded(store) as statements:
            poll.work(store)
        ms = min(_milliseconds(poll.work, store) for _ in range(_TIMES))
        with store.read() as connection:
            scans = [found for one in statements if (found := explain(connection, one).full_scans(small))]
        if not poll.of_node:
            asked += len(statements) / poll.seconds
            spent += ms / poll.seconds
        told = f"; reads through {scans}" if scans else ""
        print(f"{poll.name}: {ms:.2f} ms, {len(statements)} statements, every {poll.seconds:g} s{told}")
    print(f"a worker in all: {asked:.1f} statements/s, {spent:.1f} ms a second")
    seconds, batches = _judge_queue(store)
    print(f"the queue looked through after a change ([delivery] revoked): {seconds:.1f} s, {batches} batches")
    print(flush=True)


def _judge_queue(store: Store) -> tuple[float, int]:
    """Every message that waits, for an owner that nobody names."""
    started, batches, after = time.perf_counter(), 0, 0
    while True:
        with store.read() as connection:
            batch = revocation.waiting(connection, {"999999999999"}, after)
        batches += 1
        if batch.after is None:
            return time.perf_counter() - started, batches
        after = batch.after


def _milliseconds(work: object, store: Store) -> float:
    started = time.perf_counter()
    work(store)  # type: ignore[operator]
    return (time.perf_counter() - started) * 1000


def _small_tables(store: Store) -> frozenset[str]:
    with store.read() as connection:
        return frozenset(
            name for name, rows in _rows(connection, metadata.tables).items() if rows < _SMALL_ROWS
        )


def _rows(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    return {
        name: connection.execute(select(func.count()).select_from(metadata.tables[name])).scalar_one()
        for name in names
    }


# ---------------------------------------------------------------- the directory


def print_directory(store: Store, secrets: Secrets, tenants: Tenants) -> None:
    """One worker's cache: first looks, the same again, and more than it holds."""
    print("\n## The directory of one worker: what a message needs of a sender and an identity")
    asyncio.run(_directory(store, secrets, tenants))


async def _directory(store: Store, secrets: Secrets, tenants: Tenants) -> None:
    feed = Directory(store, secrets, Rules(REGION))
    await feed.poll()
    await _look(feed, tenants, [0])
    before = _resident_bytes()
    few, chance = min(1_000, tenants.identities), random.Random(1)
    several = list(range(min(_TENANTS, tenants.identities)))
    for name, numbers in (
        (f"{few} for the first time", several[:few]),
        (f"{few} again", several[:few]),
        (f"{len(several)} in turn", several),
        (f"{len(several)} in turn again", several),
        (f"{len(several)} by chance", chance.choices(several, k=len(several))),
        ("of all by chance", [chance.randrange(tenants.identities) for _ in range(2 * len(several))]),
    ):
        started, cpu = time.perf_counter(), time.process_time()
        hits = await _look(feed, tenants, numbers)
        ms, cpu_ms = (
            (now - then) / len(numbers) * 1000
            for now, then in ((time.perf_counter(), started), (time.process_time(), cpu))
        )
        print(
            f"{name}: {ms:.3f} ms ({cpu_ms:.3f} ms CPU) each, {hits / len(numbers) * 100:.0f} % known;"
            f" {len(feed._entries)} entries counted as {feed._bytes / 1e6:.0f} MB,"
            f" {(_resident_bytes() - before) / 1e6:.0f} MB more in the process",
            flush=True,
        )


async def _look(feed: Directory, tenants: Tenants, numbers: Iterable[int]) -> int:
    """How many were known whole."""
    hits = 0
    for number in numbers:
        user = tenants.user((number + 1) % tenants.accounts)
        owner, name = tenants.account_id(number), tenants.name(number)
        rounds = (
            [credential_subject(tenants.access_key_id((number + 1) % tenants.accounts))],
            [account_subject(user.account_id), user_subject(user.unique_id)],
            [
                identity_subject(owner, name),
                identity_subject(owner, f"alerts@{name}"),
                account_subject(owner),
            ],
        )
        hits += all(subject in feed._entries for subjects in rounds for subject in subjects)
        for subjects in rounds:
            found, _ = await feed._get(subjects)
        for entry in found[identity_subject(owner, name)]:
            sign(_HEADERS, bytes(32), entry.keys, 1)  # a key that has signed takes more
    return hits


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# ---------------------------------------------------------------- a message


def print_costs(site: Site, tenants: Tenants, program: Path, load: Load) -> None:
    """Of the site's store: statements, rows and octets, and PostgreSQL's log, for each message."""
    print(f"\n## What a message of {load.message.stat().st_size} octets to one recipient costs the store")
    _print_statements(site.store, tenants)
    settle_down(site.store)
    with site.store.read() as connection:
        before, size = _rows(connection, _KEPT), _used_bytes(connection)
    wal, ended = _wal_bytes(site.store), transactions(site.store)
    cpu = cpu_seconds(site.db) if site.db else 0.0
    with site.serving():
        measured = measure(site, program, load)
        time.sleep(5)  # bodies go, the ledger is sealed, statistics are told
        cpu = (cpu_seconds(site.db) if site.db else 0.0) - cpu
        ended = transactions(site.store) - ended
        wal = _wal_bytes(site.store) - wal
    with site.store.read() as connection:
        rows = {name: more - before[name] for name, more in _rows(connection, _KEPT).items()}
    settle_down(site.store)
    with site.store.read() as connection:
        kept = _used_bytes(connection) - size
    count = load.count
    told = ", ".join(f"{name} {more / count:.2f}" for name, more in rows.items() if more)
    print(f"at {measured.delivered_rate:.0f}/s: {kept / count:.0f} octets kept; rows: {told}")
    with site.store.read() as connection:
        print(f"  of these in the ledger, for good: {_ledger_bytes(connection):.0f} octets an entry")
    if not site.store.is_sqlite:
        print(
            f"{wal / count:.0f} octets of WAL, {ended / count:.3f} transactions,"
            f" {cpu / count * 1000:.3f} ms CPU of the database server a message"
        )
        _print_hot_rows(site.store)


def _print_statements(store: Store, tenants: Tenants) -> None:
    """Of each transaction that mail causes, in batches of one and of twenty messages of as many accounts."""
    mail = Mail(store, tenants, register(store))
    for count in (1, 20):
        asked, fastest = {}, dict.fromkeys(_STEPS, float("inf"))
        for _ in range(_TIMES):
            batch: list[Consignment] = []
            for name in _STEPS:
                with recorded(store) as statements:
                    started = time.perf_counter()
                    batch = _step(mail, name, count, batch)
                    fastest[name] = min(fastest[name], (time.perf_counter() - started) * 1000)
                asked[name] = len(statements)
        told = ", ".join(f"{name} {asked[name]} ({fastest[name]:.1f} ms)" for name in _STEPS)
        print(f"statements of a batch of {count}: {told}")
    for _ in range(_SEALED // 20):
        batch = mail.accept(20)
        mail.settle(batch)
        mail.remove_bodies(batch)
    print(f"{_SEALED} entries of the ledger sealed: {_milliseconds(lambda _: mail.seal(), store):.1f} ms")


_STEPS = ("accept", "settle", "remove bodies", "seal")


def _step(mail: Mail, name: str, count: int, batch: list[Consignment]) -> list[Consignment]:
    if name == "accept":
        return mail.accept(count)
    if name == "settle":
        mail.settle(batch)
    elif name == "remove bodies":
        mail.remove_bodies(batch)
    else:
        mail.seal()
    return batch


def _wal_bytes(store: Store) -> int:
    if store.is_sqlite:
        return 0
    with store.read() as connection:
        return int(connection.execute(text("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")).scalar_one())


def _used_bytes(connection: Connection) -> int:
    """What rows and indexes take, without what is free again."""
    if connection.dialect.name == "sqlite":
        pages, free, size = (
            int(connection.execute(text(f"PRAGMA {name}")).scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size
    kept = [name for name in _KEPT if name != "body_chunk"]
    sizes = " + ".join(f"pg_total_relation_size('{name}')" for name in kept)
    return int(connection.execute(text(f"SELECT {sizes}")).scalar_one())


def _ledger_bytes(connection: Connection) -> float:
    rows = _rows(connection, ["ledger"])["ledger"]
    if connection.dialect.name == "sqlite":
        size = func.avg(func.length(ledger.c.detail) + 2 * func.length(ledger.c.identity_arn) + 64 + 40)
        return float(connection.execute(select(size)).scalar_one())  # text, hash, and the key of the index
    return int(connection.execute(text("SELECT pg_total_relation_size('ledger')")).scalar_one()) / rows


def _print_hot_rows(store: Store) -> None:
    """Rows that are written again and again: whether they stay on their page, and what is left of them."""
    query = text(
        "SELECT relname, n_tup_upd, n_tup_hot_upd, n_live_tup, n_dead_tup, autovacuum_count,"
        " pg_total_relation_size(relid) AS size FROM pg_stat_user_tables WHERE relname = ANY(:names)"
    )
    with store.read() as connection:
        for row in connection.execute(query, {"names": list(_HOT)}):
            print(
                f"  {row.relname}: {row.n_tup_upd} updates, {row.n_tup_hot_upd} of them in place (HOT),"
                f" {row.n_live_tup} live rows, {row.n_dead_tup} dead, {row.autovacuum_count} autovacuums,"
                f" {row.size / 1e6:.1f} MB"
            )
