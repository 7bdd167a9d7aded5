"""Where sessions run. An executor carries slices of trials and says what came of each; it never chooses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from etude.engine.session import Setup
    from etude.execution.carrier import Failure, Outcome, Slice
    from etude.spec.trial import Trial

T = TypeVar("T")
EXECUTORS = ("auto", "inline", "processes")


class Executor(Protocol):
    """Carries slices of trials; at most `slots` at a time."""

    slots: int

    def aside(self, work: Callable[[Setup], T], seconds: float) -> T:
        """Return what ``work`` makes of the setup, while no slice is under way.

        Raises `TrainingError` where it takes longer than ``seconds``, or its process dies. `inline` waits for as long as it
        takes.
        """

    def submit(self, work: Slice) -> None:
        """Take a slice; there must be a free slot."""

    def wait(self, timeout: float = math.inf) -> list[Outcome]:
        """Block until at least one of the slices taken is done, and return those that are; none after ``timeout`` seconds.

        `inline` waits for as long as its slice takes.
        """

    def stop(self) -> None:
        """End the slices under way after their current step; `wait` then returns them."""

    def stop_at(self, moment: float) -> None:
        """Do that at a time (``time.monotonic()``)."""

    def give_up(self, trial: Trial, failure: Failure) -> None:
        """End the process that has a slice of ``trial`` under way; `wait` returns it with ``failure``. `inline` cannot."""

    def held(self) -> dict[Trial, int]:
        """Return the bytes of memory that each trial under way holds, those in processes of their own that have started."""

    def close(self, *, kill: bool = False) -> None:
        """Leave nothing behind: no process, no setting changed. ``kill`` does not wait for slices under way."""
