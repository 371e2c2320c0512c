"""CPU and memory of a process and of all below it, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    ticks: int  # its own, and those of its children that ended
    resident_bytes: int


def tree(root: int) -> list[Process]:
    """The process ``root`` and everything below it."""
    below: dict[int, list[Process]] = {}
    found = []
    for process in _processes():
        below.setdefault(process.parent, []).append(process)
        if process.pid == root:
            found.append(process)
    for process in found:  # grows as it is read
        found += below.get(process.pid, ())
    return found


def cpu_seconds(root: int) -> float:
    """What ``root`` and everything below it has used since it began, those that ended included."""
    return sum(process.ticks for process in tree(root)) / _TICKS


def memory_bytes(root: int) -> int:
    """The largest resident set among ``root`` and everything below it."""
    return max((process.resident_bytes for process in tree(root)), default=0)


def all_memory_bytes(root: int) -> int:
    """The memory of ``root`` and everything below it; what several share counts once (PSS)."""
    return sum(_kilobytes(process.pid, "smaps_rollup", "Pss:") for process in tree(root)) * 1024


def peak_memory_bytes(root: int) -> int:
    """The most that any of ``root`` and everything below it has ever had resident."""
    return max((_kilobytes(process.pid, "status", "VmHWM:") for process in tree(root)), default=0) * 1024


def _processes() -> list[Process]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        ticks = sum(int(field) for field in fields[11:15])
        found.append(Process(int(stat.parent.name), int(fields[1]), ticks, int(fields[21]) * _PAGE_BYTES))
    return found


def _kilobytes(pid: int, file: str, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0  # it ended meanwhile
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)
