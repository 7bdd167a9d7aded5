"""The values that go into the analysis and come out of it.

E evaluations, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One trial's curve, from etude's store or from elsewhere.

    ``steps`` and ``epochs`` (E,) of the evaluations, ``metrics`` and ``errors`` (standard errors, NaN where unknown) by
    name, each (E,); ``loss`` (T,) the training loss by step from step 1 on, maybe empty. ``diverged_step`` is set where
    the loss stopped being finite, ``failure`` where the trial's code raised. ``end_step`` is the last step asked for.
    """

    lr: float
    seed: int
    status: str
    steps: NDArray[np.int64]
    epochs: Floats
    metrics: Mapping[str, Floats]
    errors: Mapping[str, Floats]
    loss: Floats
    end_step: int
    diverged_step: int | None = None
    failure: str | None = None

    def at(self, name: str, step: int) -> tuple[float, float]:
        """Return the metric's value and standard error at the last evaluation up to ``step`` (NaN where there is none)."""
        upto = np.flatnonzero(self.steps <= step)
        if not len(upto) or name not in self.metrics:
            return float("nan"), float("nan")
        return float(self.metrics[name][upto[-1]]), float(self.errors[name][upto[-1]])


@dataclass(frozen=True, kw_only=True)
class TrialReading:
    """A trial's ``dynamics``, or None with the reason in ``evidence["reason"]``; its ``score`` at the horizon or NaN."""

    lr: float
    seed: int
    dynamics: str | None
    score: float
    evidence: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RateReading:
    """What is said of a rate; ``expected`` has what was expected, the outcome, and the numbers, or is None."""

    lr: float
    verdict: str
    grade: str | None
    reason: str
    evidence: Mapping[str, Any]
    n_trials: int
    expected: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """The one run that would teach most: so many ``seeds`` in all, or further ``lrs``; neither means finishing this one."""

    why: str
    seeds: int | None = None
    lrs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The rate to train with, or None with the ``reason``."""

    lr: float | None
    reason: str
    conclusion: str
    optimum_interval: tuple[float, float] | None = None
    bracket: tuple[float, float] | None = None
    within_margin: tuple[float, ...] = ()
    edge: str | None = None
    provisional: bool = True
    provisional_reason: str | None = None
    estimate: Mapping[str, Any] = field(default_factory=dict)
    next_run: NextRun | None = None


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """All that is said of a study."""

    margin: float | None
    margin_source: str
    margin_text: str
    trials: tuple[TrialReading, ...]
    rates: tuple[RateReading, ...]
    recommendation: Recommendation
