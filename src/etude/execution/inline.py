"""Carries slices out in the caller's own process, one at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from etude.engine.session import Setup
from etude.execution import T
from etude.execution.carrier import Carrier, Failure, Outcome, Slice
from etude.spec.trial import Trial


class Inline:
    """The executor without processes: for one trial, for a GPU, for debugging. A trial that hangs holds it up."""

    slots = 1

    def __init__(self, setup: Setup, *, threads: int) -> None:
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)
        self._stop_at = math.inf
        self._carrier = Carrier(setup, lambda: time.monotonic() >= self._stop_at)
        self._work: Slice | None = None

    def aside(self, work: Callable[[Setup], T], seconds: float) -> T:  # noqa: ARG002 - nobody else is there to end it
        """Have ``work`` done here."""
        return work(self._carrier.setup)

    def submit(self, work: Slice) -> None:
        """Take the one slice; it is carried out in `wait`."""
        self._work = work

    def wait(self, timeout: float = math.inf) -> list[Outcome]:  # noqa: ARG002 - nobody else is there to end it
        """Carry the slice out. A KeyboardInterrupt within it passes through, and the slice is lost as in a crash."""
        work, self._work = self._work, None
        return [] if work is None else [self._carrier.carry(work)]

    def stop(self) -> None:
        """End after the current step."""
        self._stop_at = -math.inf

    def stop_at(self, moment: float) -> None:
        """End after the step under way at that time."""
        self._stop_at = min(self._stop_at, moment)

    def give_up(self, trial: Trial, failure: Failure) -> None:
        """Do nothing: there is no process to end."""

    def held(self) -> dict[Trial, int]:
        """Return nothing: the memory is the caller's own."""
        return {}

    def close(self, *, kill: bool = False) -> None:  # noqa: ARG002 - there is nothing to kill
        """Put the caller's thread count back."""
        torch.set_num_threads(self._threads_before)
