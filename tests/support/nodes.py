"""Several nodes on one PostgreSQL, behind HAProxy as ``config/haproxy.cfg`` has it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from relay.app.recorder import Recorder
from tests.support.gateway import Gateway, free_ports
from tests.support.haproxy import HAProxy

_CONFIGURATION = Path(__file__).parents[2] / "config" / "haproxy.cfg"
_BALANCER = "127.0.0.1"
# Clients of a node itself are none of the balancer's.
_ELSEWHERE = ("127.0.0.99", 0)
# What docs/nodes.md has an operator copy.
_SHARED = ("relay.toml", "relay.key", "relay.crt", "relay.pem")


def address(number: int) -> str:
    return f"127.0.0.{10 + number}"


def node(number: int, directory: Path, recorder: Recorder, **settings: str) -> Gateway:
    """The node of that number, not started: an address, a name and a state directory of its own."""
    settings = {
        "RELAY_RELAY__NODE": f"node{number}",
        "RELAY_SMTP__PROXY_FROM": _BALANCER,
        "RELAY_HTTP__PROXY_FROM": _BALANCER,
        **settings,
    }
    one = Gateway(directory, recorder, address(number), **settings)
    one.environment["RELAY_HTTP__LISTEN_TLS"] = f"{one.host}:{one.https_port}"
    one.preface, one.source = b"PROXY UNKNOWN\r\n", _ELSEWHERE
    return one


def join(first: Gateway, other: Gateway) -> None:
    """Give another node what the first one was set up with."""
    other.directory.mkdir(exist_ok=True)
    for name in _SHARED:
        shutil.copy(first.directory / name, other.directory / name)
    other.records = first.records


class Balancer(HAProxy):
    """``config/haproxy.cfg`` with the addresses and ports of these nodes; clients go to ``starttls``."""

    def __init__(self, directory: Path, nodes: Sequence[Gateway]) -> None:
        starttls, starttls_too, tls, tls_too, api = ((_BALANCER, port) for port in free_ports(5))
        self.starttls, self.tls, self.api = starttls, tls, api
        others = {
            "192.0.2.10:587": starttls,
            "192.0.2.10:2587": starttls_too,
            "192.0.2.10:465": tls,
            "192.0.2.10:2465": tls_too,
            "192.0.2.10:443": api,
        }
        changes = {f"bind {before}\n": f"bind {host}:{port}\n" for before, (host, port) in others.items()}
        changes["/run/haproxy/admin.sock mode 660"] = f"{directory}/stats mode 660"
        text = _CONFIGURATION.read_text()
        for number, one in enumerate(nodes, 1):
            for before, port in ((587, one.port), (465, one.tls_port), (8443, one.https_port)):
                # The port of the checks is the same everywhere; here each node has its own.
                changes[f" 192.0.2.{10 + number}:{before} "] = f" {one.host}:{port} port {one.https_port} "
        for before, after in changes.items():
            assert before in text, before
            text = text.replace(before, after)
        super().__init__(directory, text, others.values())

    def ready(self) -> set[str]:
        """The names of the nodes that are sent new sessions."""
        rows = [row for row in self.servers() if row["pxname"] == "starttls" and row["bck"] == "0"]
        return {row["svname"] for row in rows if row["status"].startswith("UP")}

    def await_ready(self, *nodes: Gateway, seconds: float = 20) -> float:
        """Until these nodes are sent new sessions and no other; how many seconds it took."""
        began = time.monotonic()
        wanted = {one.environment["RELAY_RELAY__NODE"] for one in nodes}
        while self.ready() != wanted:
            assert time.monotonic() < began + seconds, self.log()
            time.sleep(0.02)
        return time.monotonic() - began


def stop(*nodes: Gateway) -> None:
    """All that were started, in order and without an error that nobody expected."""
    codes = [one.stop() for one in nodes if one.process is not None]
    for one in nodes:
        assert "Traceback" not in one.log(), one.log()
    assert not any(codes), codes
