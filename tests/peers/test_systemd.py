"""The unit: what systemd says of it, and the README's installation followed as written.

The installation runs in a mount namespace with a fresh layer over the system's directories; nothing of it is
left.  systemd itself does not run there: the test starts the service as the unit says.
"""

from __future__ import annotations

import configparser
import os
import re
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import free_ports
from tests.support.peers import absent, require

REPOSITORY = Path(__file__).parents[2]
UNIT = REPOSITORY / "systemd" / "relay.service"


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    relay = tmp_path / "relay"
    relay.write_text("#!/bin/sh\n")
    relay.chmod(0o755)
    unit = tmp_path / "relay.service"
    unit.write_text(UNIT.read_text().replace("/opt/relay/bin/relay", str(relay)))
    done = subprocess.run([require("systemd-analyze"), "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_exposure_is_at_most_two():
    command = [require("systemd-analyze"), "security", "--offline=true", "--threshold=20", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"exposure level for relay\.service: [01]\.\d|2\.0", done.stdout)


def commands() -> list[str]:
    """The five of the README."""
    text = (REPOSITORY / "README.md").read_text()
    block = text.split("<!-- service -->\n```sh\n")[1].split("```")[0]
    return block.strip().splitlines()


def test_installation_has_five_commands():
    assert len(commands()) == 5


# A layer over each directory that the commands write to; `sudo` is root already, and `systemctl` has no
# systemd to talk to, so that it only enables.
PREPARE = """
set -euo pipefail
mkdir -p "$LAYERS" && mount -t tmpfs none "$LAYERS"
for directory in /etc /opt /var/lib; do
    layer="$LAYERS/$(echo "$directory" | tr / _)"
    mkdir -p "$layer/upper" "$layer/work"
    mount -t overlay overlay -o "lowerdir=$directory,upperdir=$layer/upper,workdir=$layer/work" "$directory"
done
sudo() { "$@"; }
systemctl() { command systemctl --quiet --root=/ "${@/--now/}" 2>/dev/null || test -e "$WANTED"; }
WANTED=/etc/systemd/system/relay.service
"""


class Service:
    """The installed service in its namespace, started as the unit says, and its notify socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.next_hop = free_ports(2)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(directory / "notify"))
        self._notify.settimeout(60)
        os.chmod(directory / "notify", 0o777)
        unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(UNIT)
        self.unit = dict(unit["Service"])
        self._out = (directory / "out").open("wb")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", self._script()],
            cwd=REPOSITORY,
            env={**os.environ, "LAYERS": str(directory / "layers"), "PYTHONPATH": ""},
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o022,  # as a login shell has it; commands that ran in this process narrowed ours
        )

    def _script(self) -> str:
        command = self.unit["ExecStart"]
        user, capability = self.unit["User"], self.unit["AmbientCapabilities"].removeprefix("CAP_").lower()
        return (
            PREPARE
            + "\n".join(commands())
            + textwrap.dedent(
                f"""
            export RELAY_CONFIG=/var/lib/relay/relay.toml
            /opt/relay/bin/relay account create owner --id 111122223333
            test -z "$(find /var/lib/relay -not -user {user})"
            test "$(stat -c '%U %a' /etc/relay/relay.key)" = "root 600"
            # LoadCredential=
            install -d -m 755 "$LAYERS/credentials"
            install -m 400 -o {user} /etc/relay/relay.key "$LAYERS/credentials/relay.key"
            unset RELAY_CONFIG
            cd /var/lib/relay
            exec env -i PATH="$PATH" NOTIFY_SOCKET={self.directory}/notify WATCHDOG_USEC=2000000 \\
                RELAY_STORE__KEY_FILE="$LAYERS/credentials/relay.key" \\
                RELAY_SMTP__LISTEN=127.0.0.1:{self.port} RELAY_SMTP__LISTEN_TLS=127.0.0.1:587 \\
                setpriv --reuid={user} --regid={user} --init-groups --no-new-privs \\
                --inh-caps=-all,+{capability} --ambient-caps=-all,+{capability} \\
                --bounding-set=-all,+{capability} {command}
            """
            )
        )

    def heard(self, word: str) -> str:
        """Wait until the service tells the manager so."""
        while True:
            said = self._notify.recv(4096).decode()
            if word in said:
                return said

    @property
    def output(self) -> str:
        return (self.directory / "out").read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._notify.close()
        self._out.close()


_PROBE = """
mount -t tmpfs none "$0" && mkdir "$0/upper" "$0/work" &&
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$0/upper,workdir=$0/work" /etc
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if os.geteuid() != 0:
        absent("only root can make the namespace in which the service is installed")
    for program in ("unshare", "setpriv", "systemd-sysusers", "systemd-tmpfiles"):
        require(program)
    directory = tmp_path_factory.mktemp("service")
    for parent in (directory, *directory.parents[:-2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    probe = directory / "probe"
    probe.mkdir()
    if subprocess.run(["unshare", "--mount", "sh", "-c", _PROBE, str(probe)], capture_output=True).returncode:
        pytest.skip("this kernel lets nobody put a layer over a directory")
    one = Service(directory)
    yield one
    one.close()


@pytest.mark.timeout(400)
def test_installed_service_runs_as_the_unit_says(service):
    """Installed as written, started without privileges; it tells systemd, reloads and stops in order."""
    give_up_at = time.monotonic() + 300
    while True:
        try:
            service.heard("READY=1")
            break
        except TimeoutError:
            assert service.process.poll() is None, service.output
            assert time.monotonic() < give_up_at, service.output
    with socket.create_connection(("127.0.0.1", service.port), 20) as sock:
        assert sock.recv(100).startswith(b"220 relay.example.com ESMTP")
    with socket.create_connection(("127.0.0.1", 587), 20):
        pass  # a port below 1024, by the one capability
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0*400$", status, re.MULTILINE), "CAP_NET_BIND_SERVICE and nothing else"
    assert not re.search(r"^Uid:\s+0\b", status, re.MULTILINE)
    service.heard("WATCHDOG=1")
    service.process.send_signal(signal.SIGTERM)
    service.heard("STOPPING=1")
    assert service.process.wait(60) == 0, service.output
