"""The sandbox that systemd makes of the unit, as far as it can be had without systemd.

Run as a program, by root in a mount, IPC and UTS namespace of its own:

    sandbox.py prepare UNIT NOTIFY_SOCKET CREDENTIAL   the file system, as the service sees it
    sandbox.py confine COMMAND...                      the process: limits, umask, privileges, system calls

Standard library and libseccomp (which systemd itself needs) alone: it runs under the installed Python.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import pwd
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

HOLD = Path("/run/sandbox")
CREDENTIALS = Path("/run/credentials/relay.service")

_KILL_PROCESS, _ALLOW = 0x80000000, 0x7FFF0000
_NOT_EQUAL, _EQUAL, _AT_LEAST, _MASKED_EQUAL = 1, 4, 5, 7
_WRITE, _EXECUTE, _SHM_EXECUTE = 2, 4, 0o100000
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
_MOST_FAMILIES = 64
# Flags of clone(2) that make namespaces: time, mount, cgroup, UTS, IPC, user, PID, network.
_NAMESPACES = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
# Where each call has the mode that a file gets.
_MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "mkdir": 1, "mkdirat": 2, "mknod": 1, "mknodat": 2}
_MODES |= {"open": 2, "openat": 3, "creat": 1}

Unit = dict[str, list[str]]


def read_unit(path: Path) -> Unit:
    """The [Service] section; a key that stands several times has several values."""
    unit: Unit = {}
    section = path.read_text().split("[Service]\n")[1].split("\n[")[0]
    for line in section.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            unit.setdefault(key, []).append(value)
    return unit


def system_calls(unit: Unit) -> list[str]:
    """What SystemCallFilter= leaves, by systemd's own groups."""
    listing = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True).stdout
    groups: dict[str, list[str]] = {}
    for line in listing.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.lstrip().startswith("#"):
            members.append(line.strip())

    def within(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return set().union(*(within(member) for member in groups[name]))

    allowed = within("@default")
    for value in unit["SystemCallFilter"]:
        named = set().union(*(within(name) for name in value.removeprefix("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
    return sorted(allowed)


# ---------------------------------------------------------------- the file system


def prepare(unit_file: Path, notify: Path, credential: Path) -> None:
    """ProtectSystem=strict, StateDirectory=, PrivateTmp=, ProtectHome=, PrivateDevices=, ProtectProc=, …"""
    unit = read_unit(unit_file)
    user = pwd.getpwnam(unit["User"][0])
    HOLD.mkdir()
    shutil.copy(__file__, HOLD / "sandbox.py")
    settings = {"unit": unit, "system_calls": system_calls(unit)}
    (HOLD / "unit.json").write_text(json.dumps(settings))
    (HOLD / "notify").touch()
    _mount("--bind", notify, HOLD / "notify")
    CREDENTIALS.mkdir(parents=True)
    shutil.copy(credential, CREDENTIALS)
    os.chown(CREDENTIALS / credential.name, user.pw_uid, user.pw_gid)
    os.chmod(CREDENTIALS / credential.name, 0o400)
    state = Path("/var/lib") / unit["StateDirectory"][0]
    _mount("--bind", state, state)
    for private in ("/tmp", "/var/tmp"):
        _mount("-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "none", private)
    for hidden in ("/home", "/root", "/run/user"):
        if Path(hidden).is_dir():
            _mount("-t", "tmpfs", "-o", "mode=000,ro", "none", hidden)
    _private_devices()
    _mount("-t", "proc", "-o", "hidepid=invisible,subset=pid", "proc", "/proc")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if point not in (str(state), "/tmp", "/var/tmp", "/proc") and not point.startswith("/dev"):
            # One that another mount hides cannot be reached, by the service neither.
            subprocess.run(["mount", "-o", "remount,bind,ro", point], stderr=subprocess.DEVNULL)


def _private_devices() -> None:
    new = HOLD / "dev"
    new.mkdir()
    _mount("-t", "tmpfs", "-o", "mode=755,nosuid", "none", new)
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        found = os.stat(f"/dev/{name}")
        os.mknod(new / name, 0o666 | stat.S_IFCHR, found.st_rdev)
        os.chmod(new / name, 0o666)
    (new / "shm").mkdir()
    _mount("-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "none", new / "shm")
    _mount("--rbind", new, "/dev")


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


# ---------------------------------------------------------------- the process


def confine(command: list[str]) -> None:
    """Become what the unit says and run the command."""
    settings = json.loads((HOLD / "unit.json").read_text())
    unit = {key: values[-1] for key, values in settings["unit"].items()}
    if os.geteuid() == 0:
        _drop_privileges(unit, command)
    os.umask(int(unit["UMask"], 8))
    os.chdir(unit["WorkingDirectory"])
    _refuse(unit)
    _allow_only(settings["system_calls"])
    os.execvp(command[0], command)


def _drop_privileges(unit: dict[str, str], command: list[str]) -> None:
    for name, kind in (("LimitCORE", resource.RLIMIT_CORE), ("LimitNOFILE", resource.RLIMIT_NOFILE)):
        # Not every machine lets root raise a limit.
        most = min(int(unit[name]), _hard_limit(kind))
        resource.setrlimit(kind, (most, most))
    held = unit["CapabilityBoundingSet"].removeprefix("CAP_").lower()
    assert unit["NoNewPrivileges"] == "yes"
    assert unit["AmbientCapabilities"] == unit["CapabilityBoundingSet"]
    options = [f"--reuid={unit['User']}", f"--regid={unit['Group']}", "--init-groups", "--no-new-privs"]
    options += [f"--{which}=-all,+{held}" for which in ("inh-caps", "ambient-caps", "bounding-set")]
    again = [sys.executable, str(HOLD / "sandbox.py"), "confine", *command]
    os.execvp("setpriv", ["setpriv", *options, *again])


def _hard_limit(kind: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Filter:
    """A seccomp filter: what happens to calls without a rule, and rules."""

    def __init__(self, otherwise: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(otherwise)))

    def add(self, action: int, name: str, *comparisons: tuple[int, int, int, int]) -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # of another architecture, or newer than the library
            return
        array = (_Comparison * len(comparisons))(*(_Comparison(*one) for one in comparisons))
        done = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), array
        )
        assert done == 0, f"{name}: {os.strerror(-done)}"

    def load(self) -> None:
        done = self._library.seccomp_load(self._context)
        assert done == 0, os.strerror(-done)


def _fails(number: int) -> int:
    return 0x00050000 | number


def _allow_only(names: list[str]) -> None:
    """SystemCallFilter=, SystemCallArchitectures=: whatever else is called ends the process."""
    calls = _Filter(_KILL_PROCESS)
    for name in names:
        calls.add(_ALLOW, name)
    calls.load()


def _refuse(unit: dict[str, str]) -> None:
    """RestrictAddressFamilies=, RestrictNamespaces=, MemoryDenyWriteExecute=, …: calls that fail."""
    refused = _Filter(_ALLOW)
    allowed = {_FAMILIES[name] for name in unit["RestrictAddressFamilies"].split()}
    for family in set(range(_MOST_FAMILIES)) - allowed:
        refused.add(_fails(errno.EAFNOSUPPORT), "socket", (0, _EQUAL, family, 0))
    refused.add(_fails(errno.EAFNOSUPPORT), "socket", (0, _AT_LEAST, _MOST_FAMILIES, 0))
    for name in ("unshare", "setns"):
        refused.add(_fails(errno.EPERM), name)
    for flag in _NAMESPACES:
        refused.add(_fails(errno.EPERM), "clone", (0, _MASKED_EQUAL, flag, flag))
    refused.add(_fails(errno.ENOSYS), "clone3")  # its flags are in memory, where no filter sees them
    for name, at in _MODES.items():
        for bit in (stat.S_ISUID, stat.S_ISGID):
            refused.add(_fails(errno.EPERM), name, (at, _MASKED_EQUAL, bit, bit))
    refused.add(_fails(errno.EPERM), "personality", (0, _NOT_EQUAL, 0, 0))
    both = _WRITE | _EXECUTE
    refused.add(_fails(errno.EPERM), "mmap", (2, _MASKED_EQUAL, both, both))
    for name in ("mprotect", "pkey_mprotect"):
        refused.add(_fails(errno.EPERM), name, (2, _MASKED_EQUAL, _EXECUTE, _EXECUTE))
    refused.add(_fails(errno.EPERM), "shmat", (2, _MASKED_EQUAL, _SHM_EXECUTE, _SHM_EXECUTE))
    refused.load()


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(*map(Path, sys.argv[2:5]))
    else:
        confine(sys.argv[2:])
