"""Too slow, by how much: how much earlier the best rate was where this one ended, and what this one would still need.

The first is seen and needs no model. The second is an extrapolation (the level falls as a power of time, fitted to the
later half of the curve), and said only where the same extrapolation from the curve's own past would have held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude.analysis.scale import Scale
from etude.analysis.values import Curve, Floats

FEWEST_BACKTESTS, MOST_BACKTESTS = 3, 16
SAFETY = 1.5  # the interval is so much wider than the worst backtest: few of them, and of one curve
NEVER = float("nan"), float("nan")
WIDEST = 4.0  # ratio of the interval's ends from where on it says nothing


@dataclass(frozen=True, kw_only=True)
class Slowness:
    """``reached``: when the best rate was as good; ``needs``: how long this one would take. NaN where unknown (``reason``)."""

    reached: float
    needs: tuple[float, float]
    reason: str


def slowness(mine: Sequence[Curve], best: Sequence[Curve], metric: str, scale: Scale, horizon: float) -> Slowness:
    """Compare the curves of a rate's seeds with those of the best rate, up to ``horizon`` (in the curves' unit of time)."""
    t, y = mean_curve(mine, metric, scale, horizon)
    t_best, y_best = mean_curve(best, metric, scale, horizon)
    reached = float("nan")
    if len(y) and len(y_best):
        reached = _first_below(t_best, y_best, float(y[-1]))
    if len(y) < 2 or not len(y_best):
        return Slowness(reached=reached, needs=NEVER, reason="only final values are known")
    needs, reason = _extrapolate(t[t > 0], y[t > 0], float(y_best[-1]))
    return Slowness(reached=reached, needs=needs, reason=reason)


def mean_curve(curves: Sequence[Curve], metric: str, scale: Scale, horizon: float) -> tuple[Floats, Floats]:
    """Return times and the mean over seeds on the even scale, at the evaluations that all have."""
    finite: list[tuple[Floats, Floats]] = []
    for curve in curves:
        value = curve.metrics.get(metric, np.empty(0))
        ok = np.isfinite(value) & (curve.epochs <= horizon) if len(value) else np.zeros(0, bool)
        if ok.any():
            finite.append((curve.epochs[ok], scale.even(value[ok])))
    if not finite:
        return np.empty(0), np.empty(0)
    times = finite[0][0]
    if all(np.array_equal(times, t) for t, _ in finite[1:]):
        return times, np.mean([y for _, y in finite], axis=0)
    for t, _ in finite[1:]:
        times = np.intersect1d(times, t)
    return times, np.mean([y[np.isin(t, times)] for t, y in finite], axis=0) if len(times) else np.empty(0)


def _first_below(t: Floats, y: Floats, level: float) -> float:
    """Return the first evaluation that is at ``level`` or better; NaN where none is."""
    below = np.flatnonzero(y <= level)
    return float(t[below[0]]) if len(below) else float("nan")


def _extrapolate(t: Floats, y: Floats, target: float) -> tuple[tuple[float, float], str]:
    unknown = "more than twice as long, how much longer cannot be told"
    if len(t) < 6:
        return NEVER, unknown
    log_t = np.log(t)
    forecast = _when(log_t, y, target)
    if forecast is None:
        return NEVER, "it is not improving any more"
    errors = []
    last = int(np.searchsorted(log_t, log_t[-1] - np.log(1.25), side="right"))  # later ones foretell next to nothing
    cuts = np.unique(np.geomspace(4, last, MOST_BACKTESTS).astype(int)) if last >= 4 else np.empty(0, int)
    for cut in cuts:
        past = _when(log_t[:cut], y[:cut], float(y[-1]))
        if past is not None:
            errors.append(abs(past - log_t[-1]) / (log_t[-1] - log_t[cut - 1]))
    ahead = forecast - log_t[-1]
    farthest = log_t[-1] - log_t[3]
    if len(errors) < FEWEST_BACKTESTS or ahead > farthest:
        return NEVER, unknown
    spread = SAFETY * max(errors) * max(ahead, 0.05)
    if 2 * spread > np.log(WIDEST):
        return NEVER, unknown
    return (float(np.exp(max(forecast - spread, log_t[-1]))), float(np.exp(forecast + spread))), ""


def _when(log_t: Floats, y: Floats, level: float) -> float | None:
    """Return the log time at which a line through the later half of (log t, y) is at ``level``; None if it does not fall."""
    half = log_t >= 0.5 * (log_t[0] + log_t[-1])
    if half.sum() < 3:
        half = np.arange(len(log_t)) >= len(log_t) - 3
    t, v = log_t[half], y[half]
    slope = float(((t - t.mean()) * (v - v.mean())).sum() / ((t - t.mean()) ** 2).sum())
    return float(t.mean() + (level - v.mean()) / slope) if slope < -1e-9 else None
