"""LR sensitivity: what it costs on average not to know the best rate (Wortsman et al. 2023, arXiv 2309.14322, section 2.2).

S = E over log η in [a, b] of min(ℓ(η), ℓ₀) − ℓ*, with ℓ₀ the loss before training and ℓ* that of the best rate; anchored
at [η*/30, 30 η*], so that studies over different rates compare. D draws, R rates.
"""

from __future__ import annotations

import math

import numpy as np

from etude.analysis.answer import Answer
from etude.analysis.scale import Scale
from etude.analysis.values import Floats, Sensitivity

ANCHOR = 30.0
LEAST_COVERED = 0.5  # of the range: with less of it tried, nothing is said


def sensitivity(
    answer: Answer | None, pick: float | None, lost: dict[float, bool], start: float, scale: Scale
) -> Sensitivity:
    """Measure the sensitivity around ``pick``.

    ``lost`` has every rate judged, and whether it counts as ℓ₀ (it never learned, or was lost); ``start`` is ℓ₀ in the
    metric's unit, NaN where unknown.
    """
    if answer is None or pick is None:
        return Sensitivity(value=None, reason="no rate is recommended")
    if len(lost) < 3:
        return Sensitivity(value=None, reason=f"three rates are needed, {len(lost)} tried")
    if not math.isfinite(start) and any(lost.values()):
        return Sensitivity(value=None, reason="a rate was lost, and the metric before training is not known")
    rates = sorted(lost)
    x = np.log10(rates)
    best = math.log10(pick) if answer.place is None else float(np.median(answer.place))
    low, high = best - math.log10(ANCHOR), best + math.log10(ANCHOR)
    covered = max(0.0, min(high, x[-1]) - max(low, x[0])) / (high - low)
    ends = float(f"{10**low:.3g}"), float(f"{10**high:.3g}")
    if covered < LEAST_COVERED:
        why = f"the rates tried span {100 * covered:.0f} % of {ends[0]:g} to {ends[1]:g}, 30 times below to 30 times above the best"
        return Sensitivity(value=None, range=ends, covered=covered, reason=why)
    level_DR = _levels(answer, rates, lost, start, scale)
    least = _level(scale, answer.best)
    at = np.unique(np.clip(np.concatenate([x, [low, high]]), max(low, x[0]), min(high, x[-1])))
    right = np.clip(np.searchsorted(x, at, side="right"), 1, len(x) - 1)
    share = (at - x[right - 1]) / (x[right] - x[right - 1])
    cost = level_DR[:, right - 1] * (1 - share) + level_DR[:, right] * share - least[:, None]
    cost = np.maximum(cost, 0.0)  # a cap at the worst rate seen may lie below a draw of the best
    draws = (cost[:, 1:] + cost[:, :-1]) @ np.diff(at) / (2 * (at[-1] - at[0]))  # the trapezoidal rule
    bottom, top = np.quantile(draws, [0.025, 0.975])
    return Sensitivity(
        value=float(np.median(draws)), low=float(bottom), high=float(top), range=ends, covered=covered,
        start=start if math.isfinite(start) else None, reason="",
    )  # fmt: skip


def _levels(answer: Answer, rates: list[float], lost: dict[float, bool], start: float, scale: Scale) -> Floats:
    """Return ℓ at each rate, capped at ℓ₀ (D, R)."""
    column = {lr: i for i, lr in enumerate(answer.lrs)}
    # Where ℓ₀ is not known nothing is worse than the worst seen.
    cap = _level(scale, scale.even(start) if math.isfinite(start) else answer.noise.mean.max())
    made = np.full((len(answer.best), len(rates)), cap)
    for i, lr in enumerate(rates):
        if lr in column and not lost[lr]:
            made[:, i] = np.minimum(_level(scale, answer.values[:, column[lr]]), cap)
    return made


def _level(scale: Scale, even: Floats) -> Floats:
    """Return what is to be made small, in the metric's unit: the error, the loss, or the negated metric."""
    return np.asarray(even * scale.unit if scale.kind == "linear" else np.exp(np.minimum(even, 300.0)))
