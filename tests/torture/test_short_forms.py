"""The torture test, a little of each fault, on both engines: ``python -m tests.torture`` does it at length.

The gateway of an engine goes through all of them; each time everything that ever happened to it is judged.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.stores import ENGINES
from tests.torture.disk import Disk, NoDisk
from tests.torture.faults import FAULTS
from tests.torture.ground import Ground
from tests.torture.run import table, torture

# The short form of one waits for no lease, the other needs several nodes: tests/e2e/test_nodes_faults.py.
_LEFT_OUT = ("stall", "kill-node")
_CASES = [
    (engine, fault)
    for engine in ENGINES
    for fault in FAULTS
    if fault not in _LEFT_OUT and (engine, fault) != ("sqlite", "kill-server")
]


@pytest.fixture(scope="module")
def grounds() -> Iterator[dict[str, Ground]]:
    """By engine, made when it is first asked for."""
    made: dict[str, Ground] = {}
    yield made
    with ExitStack() as stack:
        for ground in made.values():
            stack.callback(_end, ground)


def _end(ground: Ground) -> None:
    code = ground.close()
    shutil.rmtree(ground.directory)
    assert code == 0


@pytest.mark.parametrize(("engine", "fault"), _CASES)
def test_every_message_is_accounted_for(grounds: dict[str, Ground], engine: str, fault: str) -> None:
    if engine not in grounds:
        # Directly under the temporary directory, and open: a database server is another user.
        directory = Path(tempfile.mkdtemp(prefix="relay-torture-"))
        directory.chmod(0o755)
        grounds[engine] = Ground(directory, engine, "short")
    ground = grounds[engine]
    before = ground.ledger.accepted
    verdict = torture(ground, [fault], seconds=1, clients=8, rate=40, drain_seconds=60)
    print(table(ground, verdict))
    if not any(event.name == fault for event in ground.events):
        pytest.skip("this machine cannot do that: see the output")
    found = set(verdict.violations) - ground.blamed  # each is told once
    ground.blamed |= found
    assert found == set()
    assert ground.ledger.accepted > before


def test_what_init_made_survives_a_power_cut_in_the_next_moment(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    try:
        disk = Disk(tmp_path / "image", tmp_path / "disk", 64 * 1024**2)
    except NoDisk as error:
        pytest.skip(f"only root with ext4 and a loop device can cut the power of a disk: {error}")
    try:
        made = Gateway(disk.directory / "relay", _Nowhere())  # type: ignore[arg-type]
        made.run("init", str(disk.directory / "relay"))
        before = {path.name: path.read_bytes() for path in (disk.directory / "relay").glob("relay.[tckp]*")}
        assert len(before) == 4  # settings, certificate, its key, ours
        disk.cut()
        disk.repower()
        for name, content in before.items():
            assert (disk.directory / "relay" / name).read_bytes() == content
        assert made.run("account", "list") == []
    finally:
        disk.close()


class _Nowhere:
    address = "127.0.0.1:9"
