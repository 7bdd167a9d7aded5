"""How much memory processes hold and the machine has left. Linux tells; elsewhere nothing is known, and nothing is watched."""

from __future__ import annotations

import os
from pathlib import Path

MIB = 1 << 20
GROUP = Path("/sys/fs/cgroup")


def held_bytes(pid: int) -> int:
    """Return what a process holds for itself (data in shared memory and files are not counted); 0 where it is not known."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def free_bytes() -> int | None:
    """Return what can still be taken before the kernel ends processes: the machine's, or the container's if that is less."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        most = int((GROUP / "memory.max").read_text(encoding="ascii"))  # "max" where there is no limit
        now = int((GROUP / "memory.current").read_text(encoding="ascii"))
        stats = dict(line.split() for line in (GROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        return min(free, most - now + int(stats["inactive_file"]))  # pages of files are given back first
    except (OSError, KeyError, ValueError):
        return free
