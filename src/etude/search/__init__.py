"""Which trials to carry on next, given the results so far. A searcher is a pure function of what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from etude.spec.study import Study
from etude.spec.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Request:
    """Carry ``trial`` on until ``epochs``; short of the horizon it is paused there. ``why`` in words, for people."""

    trial: Trial
    epochs: float
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How many epochs of a trial are done; ``ended`` when it diverged. One that failed is tried again by the grid alone.

    ``scores`` are its evaluations of the objective, (epoch, value), rising; a value may be NaN.
    """

    epochs: float
    ended: bool
    failed: bool = False
    scores: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a searcher decided: requests to carry out together, or none, which ends the search; ``why`` in words."""

    requests: tuple[Request, ...] = ()
    why: str = ""


class Searcher(Protocol):
    """Decides from the study, what is stored, and what may still be spent. The same results give the same decision."""

    def ask(self, study: Study, results: Mapping[Trial, Standing], budget: float | None) -> Decision:
        """Return the next requests; ``budget`` is in epochs of training, all trials together, None for no bound."""
