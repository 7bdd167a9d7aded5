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
    the loss stopped being finite (in ``diverged_unit``: curves from elsewhere may know the epoch alone), ``failure`` where the
    trial's code raised. ``end_step`` is the last step asked for.
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
    diverged_step: float | None = None
    diverged_unit: str = "step"
    failure: str | None = None

    def at(self, name: str, step: int) -> tuple[float, float]:
        """Return the metric's value and standard error at the last evaluation up to ``step`` (NaN where there is none)."""
        upto = np.flatnonzero(self.steps <= step)
        if not len(upto) or name not in self.metrics:
            return float("nan"), float("nan")
        return float(self.metrics[name][upto[-1]]), float(self.errors[name][upto[-1]])

    def best_step(self, name: str, step: int, sign: float) -> int:
        """Return the step up to ``step`` at which ``sign`` times the metric is largest; ``step`` where it is nowhere finite."""
        values = sign * np.where(self.steps <= step, self.metrics.get(name, np.full(len(self.steps), np.nan)), np.nan)
        return int(self.steps[np.nanargmax(values)]) if np.isfinite(values).any() else step


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
    """The one run that would teach most: so many ``seeds`` in all, or further ``lrs``; neither means finishing this one.

    Of a search both are named: these rates, trained to the end with so many seeds.
    """

    why: str
    seeds: int | None = None
    lrs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The rate to train with, or None with the ``reason``.

    ``optimum_interval`` holds the best rate with 95 %; where ``interval_open`` names an end (``low``, ``high``), that end
    is only the end of the rates tried. ``estimate`` is what the rate will reach, without the winner's curse.
    """

    lr: float | None
    reason: str
    conclusion: str
    optimum_interval: tuple[float, float] | None = None
    interval_open: tuple[str, ...] = ()
    bracket: tuple[float, float] | None = None
    within_margin: tuple[float, ...] = ()
    edge: str | None = None
    provisional: bool = True
    provisional_reason: str | None = None
    estimate: Mapping[str, Any] = field(default_factory=dict)
    next_run: NextRun | None = None


@dataclass(frozen=True, kw_only=True)
class NoiseReading:
    """What is known of the scatter between runs; ``sd`` in the metric's unit at the best rate, or None with the ``reason``.

    ``df`` are its degrees of freedom; ``correlation`` is that between rates through the seed, None where it cannot be told.
    """

    sd: float | None
    df: float | None
    correlation: float | None
    scale: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """The contiguous rates within δ of the best: an estimate, the part that surely belongs, and the part that may."""

    low: float
    high: float
    decades: float
    inner: tuple[float, float] | None
    outer: tuple[float, float]
    open: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Response:
    """The rate-response curve: the objective at the horizon over log η.

    ``lrs``, ``mean``, ``low``, ``high`` (G,) in the metric's unit: the curve where it can be told, and its pointwise 95 %
    band. ``located`` says whether the optimum has an interval; ``reason`` says why it has none, or why no curve is shown.
    """

    located: bool
    reason: str
    lrs: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    optimum: float | None = None
    optimum_interval: tuple[float, float] | None = None
    open: tuple[str, ...] = ()
    plateau: Plateau | None = None


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """LR sensitivity (Wortsman et al. 2023, arXiv 2309.14322) with its 95 % interval, or None with the ``reason``.

    The mean over log η in ``range`` of min(ℓ(η), ℓ₀) − ℓ*, in the metric's unit; ``covered`` is the share of the range
    (in decades) that the tried rates span.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    range: tuple[float, float] | None = None
    covered: float = 0.0
    start: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class SeedPlan:
    """How many ``more`` seeds a rate would tell ``lrs`` (the best and its closest rival) apart; 0: stop; None: too many."""

    lrs: tuple[float, float]
    more: int | None
    why: str


@dataclass(frozen=True, kw_only=True)
class SecondOpinion:
    """What another metric would choose; ``disagrees`` where its choice is not as good by the objective."""

    metric: str
    direction: str
    lr: float | None
    optimum_interval: tuple[float, float] | None
    disagrees: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """All that is said of a study.

    ``summary`` says the main of it in lines; ``binned`` how rates were put together where there are very many, else None;
    ``notes`` what else is to be known.
    """

    margin: float | None
    margin_source: str
    margin_text: str
    trials: tuple[TrialReading, ...]
    rates: tuple[RateReading, ...]
    recommendation: Recommendation
    noise: NoiseReading
    response: Response
    sensitivity: Sensitivity
    seed_plan: SeedPlan | None = None
    second_opinion: SecondOpinion | None = None
    binned: str | None = None
    summary: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
