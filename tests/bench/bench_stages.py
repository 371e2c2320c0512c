"""CPU of one process by stage, a message of 4 KB for one recipient, on SQLite in a temporary directory.

    python tests/bench/bench_stages.py

Each figure is CPU time of the process (both threads), not wall time; commits are of 20 messages.  What is
missing to the CPU per message of ``bench_relay`` is the session, the sockets and the event loop.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from relay.authorization.decision import Allowed, Rules, decide
from relay.authorization.send import send_of
from relay.control import accounts, credentials, identities, policies, users
from relay.control.ground import Ground
from relay.outcome.outcome import Delivered
from relay.queue import workers
from relay.queue.ids import Ids
from relay.queue.settlement import Settlement
from relay.queue.spool import Spool
from relay.queue.values import Consignment, NewMessage, QueuedRecipient
from relay.queue.writer import GroupWriter, alone
from relay.quotas.check import Charge
from relay.quotas.window import UNLIMITED, Quota
from relay.signer import multibuffer
from relay.signer.multibuffer import LANES, lane_of
from relay.signing.dkim import SimpleBodyHash, unsigned
from relay.signing.rewrite import TraceFacts, rewrite
from relay.store import ledger, schema
from relay.store.directory import Directory
from relay.store.engine import Store
from relay.store.secrets import create_key_file, load_key_file
from relay.store.suppression import REASONS
from relay.submission.address import parse_mailbox
from relay.submission.envelope import Envelope
from relay.submission.headers import LineCheck, parse_headers
from relay.submission.submission import Body, Client, Submission
from tests.support.gateway import DELEGATE, OWNER, arn, grant, user_arn
from tests.support.mail import queued_message, settled
from tests.support.signing import sign

ROUNDS = 2_000
BATCH = 20
SEALED = 200
BODY = b"0123456789" * 7 + b"\r\n"
BODY = BODY * (3_500 // len(BODY))
HEADER = (
    b"From: Alerts <alerts@owner.example>\r\nTo: b@customer.example\r\nSubject: Hello\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@app.example>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain\r\nX-SES-SOURCE-ARN: " + arn("owner.example").encode() + b"\r\n"
)
ADDRESS = parse_mailbox("bounces@owner.example")
ENVELOPE = Envelope(ADDRESS, (parse_mailbox("b@customer.example"),))
CLIENT = Client("127.0.0.1", "app", "ESMTPSA", "TLSv1.3")
RULES = Rules("us-east-1")


def show(name: str, seconds: float, count: int) -> None:
    print(f"{name:<44} {seconds / count * 1e6:9.1f} us")


def measure(name: str, work: Callable[[], object], per_round: int = 1) -> None:
    work()
    rounds = ROUNDS // per_round
    began = time.process_time()
    for _ in range(rounds):
        work()
    show(name, time.process_time() - began, rounds * per_round)


async def measure_async(name: str, work: Callable[[], Awaitable[object]], per_round: int = 1) -> None:
    await work()
    rounds = ROUNDS // per_round
    began = time.process_time()
    for _ in range(rounds):
        await work()
    show(name, time.process_time() - began, rounds * per_round)


async def main(directory: Path) -> None:
    store = Store(f"sqlite:///{directory}/relay.db")
    schema.migrate(store)
    create_key_file(directory / "key")
    secrets = load_key_file(directory / "key")
    login = lend(Ground(store, secrets, "us-east-1", "bench"))
    feed = Directory(store, secrets, RULES)
    await feed.poll()
    credential = await feed.credential(login.access_key_id)
    assert credential is not None
    at = time.time_ns() // 1000
    headers = parse_headers(HEADER)
    submission = Submission(1, at, credential.principal, CLIENT, ENVELOPE, headers, body())
    await measure_stages(feed, submission)
    await measure_queue(store)
    store.dispose()


def lend(ground: Ground) -> credentials.NewCredential:
    """An owner, a delegate, a policy, a credential."""
    for account in (OWNER, DELEGATE):
        accounts.create(ground, account, account, production=True, max_24h_send=-1, max_send_rate=-1)
    identities.create(ground, "owner.example", OWNER, verified=True)
    users.create(ground, "app", DELEGATE)
    document = grant({"AWS": user_arn("app")}, arn("owner.example"))
    policies.put(ground, arn("owner.example"), "lend", json.dumps(document))
    return credentials.create_for_user(ground, DELEGATE, "app")


def body() -> Body:
    lines, digest = LineCheck(), SimpleBodyHash()
    lines.feed(BODY)
    digest.update(BODY)
    lines.end()
    return Body(len(BODY), digest.digest(), (BODY,))


async def measure_stages(feed: Directory, submission: Submission) -> None:
    measure("body: lines checked, hashed", body)
    measure("header: parsed", lambda: parse_headers(HEADER))
    measure("header: originators and control fields", lambda: send_of(submission))
    send = send_of(submission)
    await measure_async("directory: ground", lambda: feed.ground(send))
    found = await feed.ground(send)
    assert found is not None
    ground, keys_of, *_ = found
    measure("decision", lambda: decide(send, ground, RULES))
    decision = decide(send, ground, RULES)
    assert isinstance(decision, Allowed)
    assert decision.signer is not None
    facts = TraceFacts("relay.example", "app", "ESMTPSA", "TLSv1.3", "0100-id", 1_795_000_000, "us-east-1")

    def rewritten():
        return rewrite(
            submission.headers, facts, signing_domain="owner.example", replaces_identity_fields=False
        )

    measure("rewrite", rewritten)
    headers, keys = rewritten().headers, keys_of(decision.signer)
    digest, at = submission.body.simple_digest, 1_795_000_000
    measure("DKIM headers and RSA", lambda: sign(headers, digest, keys, at))
    library = multibuffer.load()
    if library is not None:
        lane = lane_of(keys[0].private_key)
        assert lane is not None
        eight = [(lane, one.digest) for one in unsigned(headers, digest, keys, at) * LANES]
        measure("RSA, eight at a time", lambda: library.sign(eight), LANES)


CHARGE = Charge(DELEGATE, Quota(UNLIMITED, UNLIMITED), 1, 1)


def ledger_entry() -> ledger.Entry:
    """As intake tells the owner of a message that a statement allowed."""
    granted = {"address": "alerts@owner.example", "policy": "lend", "statement": 0, "sid": "LendAlerts"}
    detail = {
        "account": DELEGATE,
        "user": user_arn("app"),
        "from": "alerts@owner.example",
        "return_path": "bounces@owner.example",
        "recipients": 1,
        "message_id": "0100019b2c3d4e5f-1f0c2d3e-1111-4222-a333-444444444444-000000",
        "size_bytes": 5_000,
        "grants": [{"role": role, **granted} for role in ("From", "Return-Path")],
    }
    return ledger.entry(arn("owner.example"), 1_795_000_000_000_000, ledger.ACCEPTED, detail)


async def measure_queue(store: Store) -> None:
    writer = GroupWriter(store)
    writer.start()
    with store.write() as connection:
        lease = workers.register(connection, "bench")
    ids = Ids(lease.worker_id)
    spool, settlement = Spool(store, writer, ids.next), Settlement(writer, ids.next)
    queued: list[Consignment] = []

    def new() -> NewMessage:
        message = queued_message(id=ids.next(), header=HEADER * 2, body=(BODY,), size_bytes=5_000)
        recipients = (QueuedRecipient(0, "b@customer.example", "customer.example"),)
        queued.append(Consignment(message, recipients, lease))
        return NewMessage(
            message,
            recipients,
            "{}" * 500,
            lease,
            charge=CHARGE,
            suppressed_reasons=frozenset(REASONS),
            entries=(ledger_entry(),),
        )

    async def seal() -> None:
        await writer.submit(alone(lambda connection: ledger.seal(connection, SEALED)))

    async def commit() -> None:
        await asyncio.gather(*(spool.enqueue(new()) for _ in range(BATCH)))

    async def settle() -> None:
        batch, queued[:BATCH] = queued[:BATCH], []
        done = [settled(one, Delivered()) for one in batch]
        await asyncio.gather(*(settlement.settle([one]) for one in done))

    measure("ledger entry composed", ledger_entry)
    await measure_async(f"commit, {BATCH} at once", commit, BATCH)
    await measure_async(f"ledger sealed, {SEALED} at once", seal, SEALED)
    await measure_async(f"settlement, {BATCH} at once", settle, BATCH)
    await writer.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))
