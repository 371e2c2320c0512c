"""The gateway and everything around it: a disk of its own, a store, a clock, a next hop, a lent domain.

Of several nodes each is a gateway at an address of its own, on one PostgreSQL, behind HAProxy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import select, update

from relay.queue.outbox import DONE
from relay.store.engine import Store, StoreUnavailable
from relay.store.tables import message, outbox, recipient
from relay.submission.identifiers import ses_message_id
from tests.support.dkim_verifier import verifies
from tests.support.gateway import DELEGATE, OWNER, CommandFailed, Gateway, arn, grant, user_arn
from tests.support.nodes import Balancer, join, node
from tests.support.stores import PostgreSQL
from tests.torture.clock import Clock, NoClock
from tests.torture.disk import Disk, NoDisk
from tests.torture.judge import WAITING
from tests.torture.ledger import Ledger, read
from tests.torture.load import Load
from tests.torture.next_hop import NextHop
from tests.torture.plan import Plan
from tests.torture.values import Event, Evidence, Row

_DISK_BYTES = 4 * 1024**3
_LOW_DISK_BYTES = 32 * 1024**2
_WORKERS = 2
_LATE = 0.1
_SECONDS_TO_END = 20.0
_SETTINGS = {
    "RELAY_RELAY__WORKERS": str(_WORKERS),
    "RELAY_STORE__LOW_DISK_BYTES": str(_LOW_DISK_BYTES),
    "RELAY_DELIVERY__SMARTHOST": "",
    "RELAY_DELIVERY__SMARTHOST_TLS": "opportunistic",
    "RELAY_DELIVERY__MTA_STS": "off",
    "RELAY_DELIVERY__CONNECTIONS": "5",
    "RELAY_DELIVERY__RETRY_FIRST_SECONDS": "1",
    "RELAY_DELIVERY__RETRY_MAX_SECONDS": "2",
    "RELAY_DNS__TIMEOUT_SECONDS": "1",
}


class Ground:
    """Runs from construction until ``close``.  ``disk`` and ``clock`` are None where this machine has none,
    ``server`` is PostgreSQL, or None; a single node has no ``balancer``.  ``gateway`` is the first node."""

    def __init__(self, directory: Path, engine: str, seed: str, nodes: int = 1) -> None:
        self.seed = seed
        self.events: list[Event] = []
        self.blamed: set[str] = set()
        self.usual = Plan(late=_LATE)
        self._stack = ExitStack()
        self.directory = directory
        try:
            self._make(engine, seed, nodes)
        except BaseException:
            self._stack.close()
            raise

    def _make(self, engine: str, seed: str, nodes: int) -> None:
        self.disk = self._make_disk()
        self.clock = self._make_clock()
        self.server = self._make_server() if engine == "postgresql" else None
        self.url = self._make_url()
        self.hop = NextHop(seed)
        self._stack.callback(self.hop.close)
        self.nodes = [self._make_node(number, nodes) for number in range(1, nodes + 1)]
        self.gateway = self.nodes[0]
        self._set_up()
        self.balancer = self._make_balancer() if nodes > 1 else None
        self.await_ready()

    def close(self) -> int:
        """Stop everything; 0 if every node ended in order."""
        try:
            return max(node.stop() for node in self.nodes)
        finally:
            self._stack.close()

    # ------------------------------------------------------------ what stands around

    @property
    def state_directory(self) -> Path:
        return self.directory / "disk"

    def _make_disk(self) -> Disk | None:
        self.state_directory.mkdir()
        try:
            disk = Disk(self.directory / "disk.img", self.state_directory, _DISK_BYTES)
        except NoDisk:
            return None
        self._stack.callback(disk.close)
        return disk

    def _make_clock(self) -> Clock | None:
        try:
            return Clock(self.directory)
        except NoClock:
            return None

    def _make_server(self) -> PostgreSQL:
        server = PostgreSQL(self.state_directory / "pg")
        self._stack.callback(server.stop)
        return server

    def _make_url(self) -> str:
        if self.server is None:
            return f"sqlite:///{self.state_directory / 'relay.db'}"
        return self._stack.enter_context(self.server.database(empty=True))

    def _make_node(self, number: int, of: int) -> Gateway:
        if of == 1:
            return Gateway(self.state_directory, self.hop, **self._settings())  # type: ignore[arg-type]
        directory = self.state_directory if number == 1 else self.directory / f"node{number}"
        return node(number, directory, self.hop, **self._settings())  # type: ignore[arg-type]

    def _make_balancer(self) -> Balancer:
        (self.directory / "haproxy").mkdir()
        balancer = Balancer(self.directory / "haproxy", self.nodes)
        self._stack.callback(balancer.close)
        return balancer

    def _settings(self) -> dict[str, str]:
        return {
            **_SETTINGS,
            **(self.clock.environment if self.clock else {}),
            "RELAY_STORE__URL": self.url,
            "RELAY_DELIVERY__PORT": str(self.hop.port),
            "RELAY_DNS__SERVERS": self.hop.name_server,
        }

    def _set_up(self) -> None:
        gateway = self.gateway
        gateway.run("init", str(self.state_directory))
        for account in (OWNER, DELEGATE):
            gateway.account(account)
        gateway.identity("owner.example")
        self.login = gateway.login("app")
        gateway.policy(arn("owner.example"), grant({"AWS": user_arn("app")}, arn("owner.example")))
        # The log is no part of what is lost with the disk.
        (self.state_directory / "serve.log").symlink_to(self.directory / "serve.log")
        self.ledger = Ledger(self.directory / "ledger.jsonl")
        self._stack.callback(self.ledger.close)
        for other in self.nodes[1:]:
            join(gateway, other)
        for one in self.nodes:
            one.start()

    # ------------------------------------------------------------ the program

    def workers(self) -> list[int]:
        """The processes of the workers of all nodes, as they are now."""
        supervisors = ",".join(str(node.process.pid) for node in self.nodes if node.process is not None)
        command = ["ps", "--ppid", supervisors, "-o", "pid="]
        return [int(pid) for pid in subprocess.run(command, capture_output=True, text=True).stdout.split()]

    def restart(self, *nodes: Gateway) -> None:
        """Start them again, or all, once every process of the former start is gone."""
        for one in nodes or self.nodes:
            assert one.process is not None
            session = one.process.pid
            one.process.wait(_SECONDS_TO_END)
            give_up_at = time.monotonic() + _SECONDS_TO_END
            while _lives(session):
                assert time.monotonic() < give_up_at, "workers outlive their supervisor"
                time.sleep(0.02)
            one.start()

    def await_ready(self) -> None:
        """Until the balancer sends new sessions to every node; there may be no balancer."""
        if self.balancer is not None:
            self.balancer.await_ready(*self.nodes)

    def load(self, clients: int, rate: float) -> Load:
        """Clients that send until they are told to stop."""
        self.hop.plan = self.usual
        at = self.balancer.starttls if self.balancer else None
        name = f"{self.seed}t{len(self.events)}"
        return Load(lambda: self.gateway.client(self.login, at=at), self.ledger, name, clients, rate)

    # ------------------------------------------------------------ the end

    def drain(self, seconds: float) -> bool:
        """Let everything go out: the next hop without fault, and what waits tried at once."""
        self.hop.plan = Plan()
        give_up_at = time.monotonic() + seconds
        while not self._is_drained():
            if time.monotonic() > give_up_at:
                return False
            try:
                self._hasten_notices()
                self.gateway.run("queue", "retry", "--all")
            except (CommandFailed, StoreUnavailable):
                pass  # nothing waits, or the store is not back yet
            time.sleep(0.3)
        return True

    def _hasten_notices(self) -> None:
        """What was written while the clock was ahead is due when it is there again; nobody waits so long."""
        store = Store(self.url)
        try:
            with store.write() as connection:
                connection.execute(update(outbox).where(outbox.c.state != DONE).values(due_at=0))
        finally:
            store.dispose()

    def _is_drained(self) -> bool:
        try:
            evidence = self._of_store()
        except StoreUnavailable:
            return False
        return not evidence.untold and not any(row.state in WAITING for row in evidence.rows)

    def _of_store(self) -> Evidence:
        evidence = Evidence()
        store = Store(self.url)
        try:
            with store.read() as connection:
                joined = recipient.join(message, message.c.id == recipient.c.message_id)
                columns = (message.c.id, recipient.c.address, recipient.c.state, message.c.reverse_path)
                for row in connection.execute(select(*columns).select_from(joined)):
                    is_report = not row.reverse_path
                    evidence.rows.append(Row(ses_message_id(row.id), row.address, row.state, is_report))
                told_of = outbox.join(message, message.c.id == outbox.c.message_id)
                query = select(message.c.return_path).select_from(told_of).where(outbox.c.state != DONE)
                evidence.untold |= set(connection.execute(query).scalars())
        finally:
            store.dispose()
        evidence.untold |= {row.address for row in evidence.rows if row.is_report and row.state in WAITING}
        return evidence

    def evidence(self) -> Evidence:
        """Everything up to now; no client may be sending."""
        found = self._of_store()
        found.sent, found.told = read(self.ledger.path)
        found.copies, found.reports = list(self.hop.copies), list(self.hop.reports)
        found.refused, found.events = set(self.hop.refused), list(self.events)
        kept = list(self.hop.kept)
        found.verified = len(kept)
        found.forged = [one for one, octets in kept if not verifies(octets, self.gateway.records)]
        return found


def _lives(session: int) -> bool:
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


def kill(pid: int, number: signal.Signals) -> None:
    """A signal to a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
