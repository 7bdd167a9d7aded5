"""Where sessions run. An executor carries slices of trials and says what came of each; it never chooses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from etude.execution.carrier import Outcome, Slice

EXECUTORS = ("auto", "inline", "processes")


class Executor(Protocol):
    """Carries slices of trials; at most `slots` at a time."""

    slots: int

    def submit(self, work: Slice) -> None:
        """Take a slice; there must be a free slot."""

    def wait(self) -> list[Outcome]:
        """Block until at least one of the slices taken is done, and return those that are."""

    def stop(self) -> None:
        """End the slices under way after their current step; `wait` then returns them."""

    def close(self, *, kill: bool = False) -> None:
        """Leave nothing behind: no process, no setting changed. ``kill`` does not wait for slices under way."""
