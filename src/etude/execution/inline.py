"""Carries slices out in the caller's own process, one at a time."""

from __future__ import annotations

import torch

from etude.engine.session import Setup
from etude.execution.carrier import Carrier, Outcome, Slice


class Inline:
    """The executor without processes: for one trial, for a GPU, for debugging."""

    slots = 1

    def __init__(self, setup: Setup, *, threads: int) -> None:
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)
        self._stopping = False
        self._carrier = Carrier(setup, lambda: self._stopping)
        self._work: Slice | None = None

    def submit(self, work: Slice) -> None:
        """Take the one slice; it is carried out in `wait`."""
        self._work = work

    def wait(self) -> list[Outcome]:
        """Carry the slice out. A KeyboardInterrupt within it passes through, and the slice is lost as in a crash."""
        work, self._work = self._work, None
        return [] if work is None else [self._carrier.carry(work)]

    def stop(self) -> None:
        """End after the current step."""
        self._stopping = True

    def close(self, *, kill: bool = False) -> None:  # noqa: ARG002 - there is nothing to kill
        """Put the caller's thread count back."""
        torch.set_num_threads(self._threads_before)
