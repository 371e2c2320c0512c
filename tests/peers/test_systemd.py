"""The unit: what systemd says of it, and the README's installation followed as written.

The installation runs in a mount namespace with a fresh layer over the system's directories; nothing of it is
left.  systemd itself does not run there: the test makes the unit's sandbox by the kernel's own means.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import free_ports, transact
from tests.support.multibuffer import library
from tests.support.peers import absent, require
from tests.support.sandbox import CREDENTIALS, HOLD, read_unit

REPOSITORY = Path(__file__).parents[2]
UNIT = REPOSITORY / "systemd" / "relay.service"
CONFINED = f"/opt/relay/bin/python3 {HOLD}/sandbox.py confine"


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


# A layer over each directory that the commands write to; `sudo` is root already, with the PATH that it sets,
# and `systemctl` has no systemd to talk to, so that it only enables.
PREPARE = """
set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p "$LAYERS" && mount -t tmpfs none "$LAYERS"
for directory in /etc /opt /var/lib /run; do
    layer="$LAYERS/$(echo "$directory" | tr / _)"
    mkdir -p "$layer/upper" "$layer/work"
    mount -t overlay overlay -o "lowerdir=$directory,upperdir=$layer/upper,workdir=$layer/work" "$directory"
done
sudo() { "$@"; }
systemctl() { command systemctl --quiet --root=/ "${@/--now/}" 2>/dev/null || test -e "$WANTED"; }
WANTED=/etc/systemd/system/relay.service
"""

# An owner that sends as owner.example; its credential is the last line before the service starts.
SET_UP = """
export RELAY_CONFIG=/var/lib/relay/relay.toml
relay=/opt/relay/bin/relay
$relay account create owner --id 111122223333 --production
$relay identity create owner.example --account 111122223333 --verified
$relay user create app --account 111122223333
$relay credential create --account 111122223333 --user app
test -z "$(find /var/lib/relay -not -user relay)"
test "$(stat -c '%U %a' /etc/relay/relay.key)" = "root 600"
unset RELAY_CONFIG
"""


class Service:
    """The installed service in its namespaces, started in the unit's sandbox, and its notify socket."""

    def __init__(self, directory: Path, recorder: Recorder) -> None:
        self.directory = directory
        self.port = free_ports(1)[0]
        self._recorder = recorder
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(directory / "notify"))
        self._notify.settimeout(10)
        os.chmod(directory / "notify", 0o777)
        self.unit = {key: values[-1] for key, values in read_unit(UNIT).items()}
        self._out = (directory / "out").open("wb")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--ipc", "--uts", "bash", "-c", self._script()],
            cwd=REPOSITORY,
            env={**os.environ, "LAYERS": str(directory / "layers"), "PYTHONPATH": ""},
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o022,  # as a login shell has it; commands that ran in this process narrowed ours
        )

    def _script(self) -> str:
        key = self.unit["LoadCredential"].partition(":")[2]
        name, _, value = self.unit["Environment"].partition("=")
        environment = {
            name: value.replace("%d", str(CREDENTIALS)),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "NOTIFY_SOCKET": f"{HOLD}/notify",
            "WATCHDOG_USEC": "2000000",
            "RELAY_STORE__KEY_FILE": self.unit["Environment"]
            .partition("=")[2]
            .replace("%d", str(CREDENTIALS)),
            "RELAY_SMTP__LISTEN": f"127.0.0.1:{self.port}",
            "RELAY_SMTP__LISTEN_TLS": "127.0.0.1:587",
            "RELAY_DELIVERY__SMARTHOST": self._recorder.address,
            "RELAY_DELIVERY__SMARTHOST_TLS": "none",
        }
        variables = " ".join(f"{name}={value}" for name, value in environment.items())
        sandbox = f"/opt/relay/bin/python3 {REPOSITORY}/tests/support/sandbox.py"
        return "\n".join(
            [
                PREPARE,
                *commands(),
                SET_UP,
                f"cp {REPOSITORY}/tests/support/sandbox_probe.py /run/",
                f"{sandbox} prepare {UNIT} {self.directory}/notify {key}",
                f"exec env -i {variables} {CONFINED} {self.unit['ExecStart']}",
            ]
        )

    def login(self) -> tuple[str, str]:
        """User name and password, as they were printed."""
        printed = dict(re.findall(r"^(smtp_\w+) +(\S+)$", self.output, re.MULTILINE))
        return printed["smtp_username"], printed["smtp_password"]

    def probed(self) -> dict[str, Any]:
        """What a process in the same sandbox could do."""
        namespaces = ["nsenter", f"--target={self.process.pid}", "--mount", "--ipc", "--uts"]
        probe = [*CONFINED.split(), "/opt/relay/bin/python3", "/run/sandbox_probe.py"]
        done = subprocess.run([*namespaces, *probe], capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def await_ready(self, seconds: float = 300) -> None:
        """The commands have run and the service serves."""
        give_up_at = time.monotonic() + seconds
        while True:
            try:
                self.heard("READY=1")
                return
            except TimeoutError:
                assert self.process.poll() is None, self.output
                assert time.monotonic() < give_up_at, self.output

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
def service(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Service]:
    """Installed as written, and serving."""
    if os.geteuid() != 0:
        absent("only root can make the namespace in which the service is installed")
    for program in (
        "unshare",
        "nsenter",
        "setpriv",
        "systemd-sysusers",
        "systemd-tmpfiles",
        "systemd-analyze",
    ):
        require(program)
    directory = tmp_path_factory.mktemp("service")
    for parent in (directory, *directory.parents[:-2]):
        parent.chmod(parent.stat().st_mode | 0o011)
    probe = directory / "probe"
    probe.mkdir()
    if subprocess.run(["unshare", "--mount", "sh", "-c", _PROBE, str(probe)], capture_output=True).returncode:
        pytest.skip("this kernel lets nobody put a layer over a directory")
    one = Service(directory, recorder)
    try:
        one.await_ready()
        yield one
    finally:
        one.close()


@pytest.mark.timeout(400)
def test_installed_service_takes_and_delivers_mail_in_its_sandbox(service, recorder):
    with socket.create_connection(("127.0.0.1", 587), 20):
        pass  # a port below 1024, by the one capability
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the certificate is in the directory that only the service sees
    with smtplib.SMTP("127.0.0.1", service.port, timeout=20) as client:
        assert client.ehlo("client.example")[1].startswith(b"relay.example.com")
        client.starttls(context=context)
        client.login(*service.login())
        text = "From: a@owner.example\r\nSubject: s\r\n\r\nHello.\r\n"
        code, reply = transact(client, "a@owner.example", ["user@customer.example"], text)
    assert code == 250, reply
    assert b"d=owner.example" in recorder.wait_for("user@customer.example", 20).data


# What each setting keeps the service from: what the attempt gives in its place.
KILLED, READ_ONLY, NOT_PERMITTED = "SIGSYS", "Read-only file system", "Operation not permitted"
BIND_ONLY = f"{1 << 10:016x}"  # CAP_NET_BIND_SERVICE
DEVICES = ["full", "null", "random", "shm", "tty", "urandom", "zero"]
SHOWN: dict[str, object] = {
    "UMask": "600",
    "StateDirectory": "written",
    "LoadCredential": "Permission denied",
    "CapabilityBoundingSet": [BIND_ONLY] * 4,
    "NoNewPrivileges": "1",
    "ProtectSystem": [],
    "ProtectSystem /etc": READ_ONLY,
    "ProtectSystem /usr": READ_ONLY,
    "ProtectHome": "Permission denied",
    "PrivateTmp": [],
    "PrivateDevices": DEVICES,
    "ProcSubset": ["self", "thread-self"],
    "ProtectKernelTunables": True,
    "ProtectControlGroups": True,
    "ProtectKernelModules": KILLED,
    "ProtectKernelLogs": KILLED,
    "ProtectClock": KILLED,
    "ProtectHostname": KILLED,
    "RestrictAddressFamilies": "Address family not supported by protocol",
    "RestrictAddressFamilies packet": "Address family not supported by protocol",
    "RestrictNamespaces": NOT_PERMITTED,
    "RestrictRealtime": KILLED,
    "RestrictSUIDSGID": NOT_PERMITTED,
    "LockPersonality": NOT_PERMITTED,
    "MemoryDenyWriteExecute": NOT_PERMITTED,
    "SystemCallFilter": KILLED,
    "SystemCallFilter chown": KILLED,
    "SystemCallFilter ptrace": KILLED,
    "LimitCORE": [0, 0],
    "LimitNOFILE": [65536, 65536],
}
ELSEWHERE = {"User", "PrivateIPC", "ProtectProc"}  # against what the test process itself sees
# fmt: off
MANAGER = {  # how it is started and stopped, and what other settings are set with
    "Type", "NotifyAccess", "WatchdogSec", "ExecStart", "ExecReload", "Restart", "RestartSec",
    "TimeoutStopSec", "KillMode", "Group", "StateDirectoryMode", "WorkingDirectory", "Environment",
    "AmbientCapabilities",
}
# fmt: on
NOT_HERE = {
    "RemoveIPC": "systemd itself removes the objects, after the last process of the user",
    "SystemCallArchitectures": "a program of another architecture is needed to be refused",
}


@pytest.fixture(scope="module")
def probed(service: Service) -> dict[str, Any]:
    return service.probed()


@pytest.mark.parametrize("setting", SHOWN)
def test_sandbox_keeps_the_service_from(probed, setting):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if setting == "LimitNOFILE" and hard < 65536 and probed[setting] == [hard, hard]:
        pytest.skip(f"{setting}: this machine lets nobody raise its limit of {hard}")
    assert probed[setting] == SHOWN[setting]


def test_sandbox_lets_the_service_sign_eight_at_a_time(probed):
    library()
    assert probed["signs together"] is True


def test_service_is_its_own_user_and_sees_no_other_users_processes(probed):
    user, groups = probed["User"]
    assert user != 0
    assert 0 not in groups
    assert probed["ProtectProc"] == [user]
    assert probed["PrivateIPC"] != os.readlink("/proc/self/ns/ipc")


@pytest.mark.parametrize("setting", NOT_HERE)
def test_setting_that_cannot_be_shown_here(setting):
    assert setting in read_unit(UNIT)
    pytest.skip(f"{setting}: {NOT_HERE[setting]}")


def test_every_setting_of_the_sandbox_is_shown_or_named():
    shown = {name.split()[0] for name in SHOWN} | ELSEWHERE | set(NOT_HERE)
    assert set(read_unit(UNIT)) == shown | MANAGER


def test_service_tells_the_manager_that_it_lives_and_stops_in_order(service):
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\s+0\b", status, re.MULTILINE)
    service.heard("WATCHDOG=1")
    service.process.send_signal(signal.SIGTERM)
    service.heard("STOPPING=1")
    assert service.process.wait(60) == 0, service.output
