"""The inside of a worker process: prepares the process once, then carries slices.

Known to no one but `processes`. The forkserver imports this module (and torch with it) before it forks.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable

import torch
import torch._dynamo  # making the first optimizer imports it, which takes seconds: once here, before the fork
from torch import Tensor

from etude.engine.session import Setup
from etude.execution import T, sharing
from etude.execution.carrier import Carrier, Outcome, Slice

_carrier: Carrier | None = None


def prepare(threads: int) -> None:
    """Set the process up: Ctrl-C is the parent's affair, and a worker does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if "fork" in multiprocessing.get_all_start_methods():
        # For a DataLoader's own workers: as in a script, what they read need not be picklable.
        multiprocessing.set_start_method("fork", force=True)
    quiet_allocator()
    torch.set_num_threads(threads)


def begin(pickled: bytes, shared: list[Tensor], stop: Tensor) -> None:
    """Receive the setup; ``stop`` is a flag in shared memory, shape (1,)."""
    global _carrier
    _carrier = Carrier(sharing.load(pickled, shared), lambda: bool(stop[0]))


def carry(work: Slice) -> Outcome:
    """Carry a slice out with the setup that was received."""
    assert _carrier is not None
    return _carrier.carry(work)


def aside(work: Callable[[Setup], T]) -> T:
    """Have something else done with the setup that was received."""
    assert _carrier is not None
    return work(_carrier.setup)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def quiet_allocator() -> bool:
    """Tell glibc to keep freed memory instead of returning it to the kernel and faulting it in again at each step.

    The constants are those of malloc.h; 32 MiB is the largest mmap threshold that glibc accepts. Returns whether it was
    done: elsewhere than on glibc nothing is.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    m_trim_threshold, m_top_pad, m_mmap_threshold, mib = -1, -2, -3, 1 << 20
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((m_mmap_threshold, 32 * mib), (m_trim_threshold, 512 * mib), (m_top_pad, 64 * mib))
    return all([mallopt(which, size) for which, size in settings])  # noqa: C419 - all of them are to be called
