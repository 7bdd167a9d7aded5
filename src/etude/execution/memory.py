"""How much memory processes hold, and how much the machine, or the container, has left."""

from __future__ import annotations

from pathlib import Path

import psutil

MIB = 1 << 20
GROUP = Path("/sys/fs/cgroup")


def held_bytes(pid: int) -> int:
    """Return what a process holds for itself (on Linux without what is in shared memory and files); 0 for one that is gone."""
    try:
        seen = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(seen.rss - getattr(seen, "shared", 0))


def free_bytes() -> int:
    """Return what can still be taken before the kernel ends processes: the machine's, or the container's if that is less."""
    free = int(psutil.virtual_memory().available)
    try:
        most = int((GROUP / "memory.max").read_text(encoding="ascii"))  # "max" where there is no limit
        now = int((GROUP / "memory.current").read_text(encoding="ascii"))
        stats = dict(line.split() for line in (GROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        return min(free, most - now + int(stats["inactive_file"]))  # pages of files are given back first
    except (OSError, KeyError, ValueError):
        return free
