"""What the service could do to the machine, tried in its place: one line of JSON, a key of the unit each.

A value is what the attempt gave, or the signal that ended it.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)


def _called(result: int) -> str:
    return "done" if result >= 0 else os.strerror(ctypes.get_errno())


def _write(path: str) -> str:
    Path(path).write_text("x")
    return "written"


def _names(path: str) -> list[str]:
    return sorted(os.listdir(path))


def _status(field: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


def _set_user_id() -> str:
    Path("probe").write_text("")
    os.chmod("probe", 0o4755)
    return "done"


def _made_mode() -> str:
    Path("new").write_text("")
    return f"{os.stat('new').st_mode & 0o777:o}"


def _is_read_only(path: str) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _signs_together() -> bool:
    from relay.signer import multibuffer  # installed beside this interpreter

    return multibuffer.load() is not None


PROBES: dict[str, Callable[[], object]] = {
    "signs together": _signs_together,
    "User": lambda: [os.geteuid(), os.getgroups()],
    "UMask": _made_mode,
    "StateDirectory": lambda: _write("/var/lib/relay/probe"),
    "LoadCredential": lambda: Path("/etc/relay/relay.key").read_text(),
    "CapabilityBoundingSet": lambda: [_status(name) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
    "NoNewPrivileges": lambda: _status("NoNewPrivs"),
    "ProtectSystem /etc": lambda: _write("/etc/relay-probe"),
    "ProtectSystem /usr": lambda: _write("/usr/relay-probe"),
    "ProtectSystem": lambda: [
        path for path in ("/", "/etc", "/usr", "/opt", "/var/lib", "/run") if not _is_read_only(path)
    ],
    "ProtectHome": lambda: _names("/root"),
    "PrivateTmp": lambda: _names("/tmp"),
    "PrivateDevices": lambda: _names("/dev"),
    "PrivateIPC": lambda: os.readlink("/proc/self/ns/ipc"),
    "ProtectProc": lambda: sorted(
        {os.stat(f"/proc/{pid}").st_uid for pid in _names("/proc") if pid.isdigit()}
    ),
    "ProcSubset": lambda: [name for name in _names("/proc") if not name.isdigit()],
    "ProtectKernelTunables": lambda: _is_read_only("/sys"),
    "ProtectControlGroups": lambda: _is_read_only("/sys/fs/cgroup"),
    "ProtectKernelModules": lambda: _called(LIBC.delete_module(b"none", 0)),
    "ProtectKernelLogs": lambda: _called(LIBC.klogctl(3, None, 0)),
    "ProtectClock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "ProtectHostname": lambda: _called(LIBC.sethostname(b"probe", 5)),
    "RestrictAddressFamilies": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "RestrictAddressFamilies packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "RestrictNamespaces": lambda: _called(LIBC.unshare(0x10000000)),
    "RestrictRealtime": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "RestrictSUIDSGID": _set_user_id,
    "LockPersonality": lambda: _called(LIBC.personality(0x0040000)),
    "MemoryDenyWriteExecute": lambda: mmap.mmap(
        -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ).close(),
    "SystemCallFilter chown": lambda: os.chown("/var/lib/relay", 0, 0),
    "SystemCallFilter ptrace": lambda: _called(LIBC.ptrace(0, 0, None, None)),
    "SystemCallFilter": lambda: _called(LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    "LimitCORE": lambda: resource.getrlimit(resource.RLIMIT_CORE),
    "LimitNOFILE": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
}


def _in_child(probe: Callable[[], object]) -> object:
    """What the probe gave; an error by its text, a signal by its name."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            given = probe()
        except OSError as error:
            given = os.strerror(error.errno or 0)
        os.write(write_end, json.dumps(given).encode())
        os._exit(0)
    os.close(write_end)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(read_end, "rb") as read:
        said = read.read()
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else json.loads(said)


if __name__ == "__main__":
    json.dump({name: _in_child(probe) for name, probe in PROBES.items()}, sys.stdout)
