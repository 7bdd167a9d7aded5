"""What can be told of a rate that was paused short of the horizon, from what the best rate did in the same time and after.

Short runs prefer higher rates than long ones, so a rate below the good ones is expected to be behind when it is paused, and
that alone says nothing. Its *pace* does: how much sooner the best rate was as good. At a small multiple of that pace it would
be, at the horizon, where the best rate was long before; if that is still short of the margin, it is too low. A rate above
the good ones only loses by a longer run. Beyond a rate that is too low or too high are only others of its kind, as long as
they are no better than it in as long. docs/validation/pauses.md has what comes of it, and of other constants.

Does not know why a rate was paused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etude.analysis.scale import Scale
from etude.analysis.slowness import mean_curve
from etude.analysis.values import Curve, Floats

CLEAR = 0.05  # of what the best rate gains until the horizon: less far behind is no evidence of anything
SPEEDUP = 3.0  # a rate may turn out to be so many times faster than its pace until the pause
KEPT = 0.2  # of its distance to the best a rate above the good ones keeps at least until the horizon
MOMENT = 0.02  # of the time until the pause: sooner than this the best rate has nothing to be compared with, and it is not told
SAME_TIME = 0.1  # of the time until the pause: an evaluation of the best rate so near to it is one at that time
TOLERANCE = 0.02  # of the best rate's gain, by which a rate may be ahead of the one it lies beyond


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Where a rate was paused, in the curves' unit of time and the metric's unit; NaN where it is not known.

    ``behind`` is how far the best rate was ahead ``at`` that time, ``gain`` what it gains until the horizon. It had this
    ``level`` when ``reached`` (inf: it had not yet), and was still ``short`` of its end at `SPEEDUP` times that pace.
    ``seen`` is whether the best rate was evaluated at about that time; else ``behind`` is read off the straight line between two
    of its evaluations, which is less than it was: what is learned at first is learned fast.
    """

    at: float
    level: float
    seen: bool = True
    behind: float = math.nan
    gain: float = math.nan
    reached: float = math.nan
    short: float = math.nan

    @property
    def is_behind(self) -> bool:
        """Whether it was clearly behind the best rate."""
        return self.behind >= CLEAR * self.gain > 0

    def is_too_slow(self, delta: float) -> bool:
        """Whether it would still be worse than the best by more than ``delta`` if it were `SPEEDUP` times as fast from now on."""
        return self.is_behind and self.short > delta

    def is_lost_above(self, delta: float) -> bool:
        """Whether, being above the good rates, it will be worse than the best by more than ``delta``."""
        return self.is_behind and KEPT * min(self.behind, self.gain) > delta


def paused(mine: Sequence[Curve], best: Sequence[Curve], metric: str, scale: Scale, horizon: float) -> Pause | None:
    """Compare the curves of a rate's paused seeds with those of the ``best`` rate; None where they have no evaluation.

    Of the paused seeds those count that got furthest; ``best`` may be empty.
    """
    t, y = furthest(mine, metric, scale, horizon)
    if not len(t) or t[-1] <= 0:
        return None
    at, level = float(t[-1]), float(scale.metric(y[-1]))
    t_best, y_best = mean_curve(best, metric, scale, horizon)
    if len(t_best) < 2 or t_best[0] > at:
        return Pause(at=at, level=level)
    there, start, end = (float(scale.metric(v)) for v in (np.interp(at, t_best, y_best), y_best[0], y_best[-1]))
    reached = when(t_best, y_best, float(y[-1]))
    later = float(scale.metric(np.interp(min(1.0, SPEEDUP * reached / at) * horizon, t_best, y_best)))
    return Pause(
        at=at,
        level=level,
        seen=bool(np.abs(t_best - at).min() <= SAME_TIME * at),
        behind=scale.sign * (there - level),
        gain=scale.sign * (end - start),
        reached=reached,
        short=scale.sign * (end - later),
    )


def furthest(curves: Sequence[Curve], metric: str, scale: Scale, horizon: float) -> tuple[Floats, Floats]:
    """Return times and the mean on the even scale of the curves that got furthest."""
    ends = [t[-1] if len(t := mean_curve([curve], metric, scale, horizon)[0]) else -math.inf for curve in curves]
    last = max(ends, default=-math.inf)
    return mean_curve([c for c, end in zip(curves, ends, strict=True) if end == last], metric, scale, horizon)


def when(t: Floats, y: Floats, level: float) -> float:
    """Return when a curve was first at ``level`` or better, between its evaluations as if it were straight; inf if never.

    A loss falls steeply at first, so this is late rather than soon, and a pace that is made of it high rather than low.
    """
    below = np.flatnonzero(y <= level)
    if not len(below):
        return math.inf
    i = int(below[0])
    return float(t[0]) if i == 0 else float(t[i - 1] + (t[i] - t[i - 1]) * (y[i - 1] - level) / (y[i - 1] - y[i]))


def is_no_better(mine: tuple[Floats, Floats], other: tuple[Floats, Floats], gain: float, scale: Scale) -> bool:
    """Whether a curve (times, even values) was no better than another one at the last time that both know, but for little."""
    (t, y), (t_other, y_other) = mine, other
    if not (len(t) and len(t_other)) or t_other[0] > t[-1] or t[0] > t_other[-1]:
        return False
    at = min(t[-1], t_other[-1])
    ahead = scale.sign * float(scale.metric(np.interp(at, t, y)) - scale.metric(np.interp(at, t_other, y_other)))
    return at > 0 and ahead <= TOLERANCE * gain


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A rate as its neighbours see it: its ``word`` so far, its mean curve on the even scale, and its pause, if it was paused."""

    word: str
    curve: tuple[Floats, Floats]
    pause: Pause | None = None
    restless: bool = False


def words(rates: Mapping[float, Beside], low: float, high: float, delta: float, scale: Scale) -> dict[float, str]:
    """Return the words of the paused rates that can be told; ``low`` to ``high`` are the good ones.

    Outwards from them, since a rate takes the word of the one that it lies beyond.
    """
    told: dict[float, str] = {}
    below = sorted((lr for lr in rates if lr < low), reverse=True)
    above = sorted(lr for lr in rates if lr > high)
    for side, kinds in ((below, ("too low",)), (above, ("too high", "unstable", "diverged"))):
        bounds: list[float] = []
        for lr in side:
            one = rates[lr]
            if one.pause is None:
                if one.word in kinds:
                    bounds.append(lr)
                continue
            gain = one.pause.gain
            is_told = one.pause.is_too_slow(delta) if side is below else one.pause.is_lost_above(delta)
            if is_told or any(is_no_better(one.curve, rates[q].curve, gain, scale) for q in bounds):
                told[lr] = "too low" if side is below else "unstable" if one.restless else "too high"
                bounds.append(lr)
    return told
