"""Two nodes on one PostgreSQL behind HAProxy: each may be killed, and the database, and nothing is lost.

What clients were told is judged against what the next hop took, as in the torture test.
"""

from __future__ import annotations

import shutil
import smtplib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from relay.queue.workers import HEARTBEAT_SECONDS, LEASE_SECONDS, SILENT_SECONDS
from relay.store.engine import Store
from relay.store.tables import recipient, worker
from tests.support.gateway import Gateway, transact
from tests.support.peers import require
from tests.torture.ground import Ground
from tests.torture.judge import judge
from tests.torture.ledger import read
from tests.torture.run import table
from tests.torture.values import Event, Kind

# HAProxy looks every second, and believes the second failure.
_NOTICED_SECONDS = 5.0
_CLIENTS = 8


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    require("haproxy")
    directory = Path(tempfile.mkdtemp(prefix="relay-nodes-"))
    directory.chmod(0o755)  # a database server is another user
    one = Ground(directory, "postgresql", "nodes", nodes=2)
    yield one
    code = one.close()
    logs = "".join(node.log() for node in one.nodes)
    shutil.rmtree(directory)
    assert code == 0
    assert "Traceback" not in logs, logs


def under_load(ground: Ground, name: str, kind: Kind, harm: Callable[[], None]) -> Counter[int | None]:
    """Do harm while clients send through HAProxy, and find nothing amiss; how often they were told which
    code, None for a connection that was lost."""
    before = ground.ledger.accepted
    told_before = len(read(ground.ledger.path)[1])
    load = ground.load(_CLIENTS, rate=25)
    try:
        time.sleep(1)
        at = time.time()
        harm()
        ground.events.append(Event(name, kind, at, time.time()))
        time.sleep(1)
    finally:
        load.stop()
    assert ground.drain(60)
    verdict = judge(ground.evidence())
    print(table(ground, verdict))
    assert verdict.violations == []
    assert ground.ledger.accepted > before
    return Counter(one.code for one in read(ground.ledger.path)[1][told_before:])


class Held:
    """What one node has in hand at this moment."""

    def __init__(self, ground: Ground, node: Gateway) -> None:
        self._store = Store(ground.url)
        of_node = worker.c.node == node.environment["RELAY_RELAY__NODE"]
        with self._store.read() as connection:
            running = select(worker.c.id).where(of_node, worker.c.running)
            self._workers = connection.execute(running).scalars().all()

    def count(self) -> int:
        of_these = recipient.c.worker_id.in_(self._workers)
        query = select(func.count()).select_from(recipient).where(of_these, recipient.c.state == "leased")
        with self._store.read() as connection:
            return connection.execute(query).scalar_one()

    def kill(self, node: Gateway) -> int:
        """kill -9 of the node while it holds mail; how much it held."""
        give_up_at = time.monotonic() + 20
        while not self.count():
            assert time.monotonic() < give_up_at
        node.kill()
        return self.count()

    def seconds_until_taken(self, patience: float) -> float:
        began = time.monotonic()
        while self.count():
            assert time.monotonic() < began + patience, f"{self.count()} recipients are still the dead node's"
            time.sleep(0.05)
        return time.monotonic() - began

    def close(self) -> None:
        self._store.dispose()


def test_nodes_restarted_one_after_another_cost_clients_nothing(ground):
    def restart() -> None:
        for node in ground.nodes:
            assert node.stop() == 0
            ground.restart(node)
            ground.await_ready()

    told = under_load(ground, "restart", Kind.NOTHING, restart)
    # Who was about to send as its session ended finds the connection closed instead of reading the 421.
    assert told.keys() <= {250, 421, 451, None}
    figures = judge(ground.evidence()).figures  # nothing was killed before: this is the first test
    assert figures["accepted twice, the client being told nothing"] == 0
    assert figures["queued, the client being told nothing"] == 0


def test_mail_of_a_killed_node_goes_out_from_the_other_within_the_lease_time(ground):
    first, second = ground.nodes

    def kill_and_wait() -> None:
        held = Held(ground, first)
        assert held.kill(first) > 0
        noticed = ground.balancer.await_ready(second, seconds=_NOTICED_SECONDS)
        taken = held.seconds_until_taken(LEASE_SECONDS - noticed)
        held.close()
        print(f"HAProxy noticed after {noticed:.1f} s, its mail was taken after {noticed + taken:.1f} s")
        assert noticed + taken > SILENT_SECONDS - HEARTBEAT_SECONDS - 1, "it might have lived"

    told = under_load(ground, "kill-node", Kind.DEATH, kill_and_wait)
    # The sessions it had were lost with it; whoever came anew was answered by the other.
    assert told.keys() <= {250, None}
    assert told[None] <= _CLIENTS
    ground.restart(first)
    ground.await_ready()


def test_node_that_is_killed_and_started_again_takes_what_it_held_at_once(ground):
    second = ground.nodes[1]

    def kill_and_start() -> None:
        held = Held(ground, second)
        assert held.kill(second) > 0
        ground.restart(second)
        held.seconds_until_taken(5)
        held.close()
        ground.await_ready()

    told = under_load(ground, "kill-node", Kind.DEATH, kill_and_start)
    assert told.keys() <= {250, None}
    assert told[None] <= _CLIENTS


def test_killed_database_is_451_until_it_is_back_and_nodes_find_it_by_themselves(ground):
    if not ground.server.is_ours:
        pytest.skip("RELAY_TEST_PG is somebody else's server")
    codes: list[int] = []

    def kill_and_return() -> None:
        ground.server.kill()
        ground.balancer.await_ready(seconds=10)  # nobody takes mail
        with ground.gateway.client(None, at=ground.balancer.starttls) as newcomer:
            codes.append(answer_without_store(newcomer, ground))
        ground.server.start_again()
        ground.await_ready()

    told = under_load(ground, "kill-server", Kind.STORE, kill_and_return)
    assert codes == [451]
    # Sessions outlive the database; 454 is of a login that has to look into it.
    assert told.keys() <= {250, 451, 454}
    assert told[451] > 0


def answer_without_store(client: smtplib.SMTP, ground: Ground) -> int:
    """To a client who comes only now: workers know its password, and take no mail."""
    client.login(ground.login.username, ground.login.password)
    return transact(client, "a@owner.example", ["user@d0.example"], "From: a@owner.example\r\n\r\nx\r\n")[0]
