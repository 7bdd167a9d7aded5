"""Work on two cores: half of it in a process forked for that.

Matplotlib draws under the interpreter's lock, so threads would not help, and a process started afresh would first read and
analyse the run again. A fork is safe only where nothing else of the program is under way; so only the command line, which has
the process to itself, asks for it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

Made = TypeVar("Made")


def beside(work: Callable[[], Made], *, fork: bool) -> Callable[[], Made]:
    """Begin ``work`` in another process, if ``fork`` asks for it and there is a core, and return what waits for its value.

    What that process could not make is made by the caller's after all: an error is raised as without it, and the lack of memory
    costs only time.
    """
    if not fork or cores() < 2:
        return work
    forking = multiprocessing.get_context("fork")
    receiver, sender = forking.Pipe(duplex=False)
    process = forking.Process(target=_send, args=(sender, work), daemon=True)
    with warnings.catch_warnings():  # NumPy's threads are idle, and what they need is put right after a fork
        warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
        process.start()
    sender.close()

    def wait() -> Made:
        try:
            made: Made = receiver.recv()
        except (EOFError, OSError):  # it has sent nothing, or not all
            made = work()
        process.join()
        return made

    return wait


def cores() -> int:
    """Return on how many cores this process may run; 1 where there is no fork that can be trusted (macOS, Windows)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _send(sender: Connection, work: Callable[[], Made]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to tell of; its end is this one's, too
    try:
        sender.send(work())
    except Exception:  # noqa: BLE001  # the parent tries it itself, and raises what there is to raise
        sender.close()
