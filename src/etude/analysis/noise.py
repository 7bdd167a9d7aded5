"""How much a result scatters from run to run, and the margin δ that counts as a practical difference.

With two seeds or more: the standard deviation between seeds, pooled over the rates that learned, on the scale where it
is even, seeds centred where every rate has the same ones (df (R−1)(S−1), else Σ(S_r−1)). With one seed run-to-run noise
is not measured; the standard error over the validation examples stands in and is called by its name. R rates, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from etude.analysis.scale import Scale

EXAMPLES_CORRELATION = 0.5  # of two rates evaluated on the same examples; measured by `make validate`
GUESS = 0.02  # of what training gained, where nothing else is known


@dataclass(frozen=True, kw_only=True)
class Noise:
    """``relative`` is the standard deviation between runs as a share of `Scale.level`; ``df`` its degrees of freedom (∞: known)."""

    relative: float | None
    df: float
    paired: float | None = None  # without what the rates of a seed share; None where they do not have the same seeds

    def sd(self, scale: Scale, mean: float) -> float | None:
        """Return the standard deviation of one run whose mean is ``mean``, in the metric's unit."""
        return None if self.relative is None else self.relative * scale.level(mean)


def pooled(scores: Mapping[float, Mapping[int, float]], scale: Scale) -> Noise:
    """Pool the noise of ``scores[lr][seed]``, finite scores of trials that learned."""
    rates = {lr: by_seed for lr, by_seed in scores.items() if len(by_seed) > 1}
    if not rates:
        return Noise(relative=None, df=float("inf"))
    seeds = set.intersection(*(set(by_seed) for by_seed in rates.values()))
    balanced = len(rates) > 1 and all(set(by_seed) == seeds for by_seed in rates.values())
    deviations, df = [], 0
    for by_seed in rates.values():
        values = np.array([by_seed[seed] for seed in sorted(by_seed)])
        deviations.append((values - values.mean()) / scale.level(float(values.mean())))
        df += len(values) - 1
    if balanced:
        centred_RS = np.array(deviations)
        centred_RS = centred_RS - centred_RS.mean(0)
        df = (centred_RS.shape[0] - 1) * (centred_RS.shape[1] - 1)
        total = float((centred_RS**2).sum())
        # Centring takes away what all rates of a seed share. A new run brings its share back: add it for δ and errors.
        shared = float((np.array(deviations).mean(0) ** 2).sum()) / (centred_RS.shape[1] - 1)
        paired = float(np.sqrt(total / df))
        variance = total / df + max(0.0, shared - total / df / centred_RS.shape[0])
    else:
        paired = None
        variance = sum(float((d**2).sum()) for d in deviations) / df
    return Noise(relative=float(np.sqrt(variance)), df=float(df), paired=paired)


def error_of_mean(spread: Noise, scale: Scale, mean: float, count: int, examples: float) -> float:
    """Return the standard error of a rate's mean over ``count`` seeds; ``examples`` is that over validation examples."""
    between = spread.sd(scale, mean) if math.isfinite(mean) else None
    if between is not None and count:
        return between / math.sqrt(count)
    return examples if math.isfinite(examples) else 0.0


def error_of_gap(spread: Noise, scale: Scale, one: tuple[float, int, float], other: tuple[float, int, float]) -> float:
    """Return the standard error of the difference of two rates, each (mean, seeds, error over examples).

    What they share cancels: with the same seeds the part of the scatter that comes with the seed, with one seed the
    examples that both see.
    """
    if spread.relative is None:
        both = [examples if math.isfinite(examples) else 0.0 for _, _, examples in (one, other)]
        return math.hypot(*both) * math.sqrt(1 - EXAMPLES_CORRELATION)
    relative = spread.relative if spread.paired is None else spread.paired
    return math.hypot(*(relative * scale.level(mean) / math.sqrt(count) for mean, count, _ in (one, other)))


def margin(
    given: float | None, noise: Noise, scale: Scale, best: float, best_error: float, gained: float
) -> tuple[float, str]:
    """Return (δ in the metric's unit, where it comes from)."""
    if given is not None:
        return given, "given"
    between = noise.sd(scale, best)
    if between is not None and between > 0:
        return between, "standard deviation between seeds"
    if np.isfinite(best_error) and best_error > 0:
        return best_error, "standard error over the validation examples"
    return GUESS * abs(gained), f"a guess: {GUESS:.0%} of what training gained"


def probability_below(gap: float, error: float, limit: float, df: float) -> float:
    """Return P(true gap < limit) for a gap measured with a standard error: Student's t with ``df``, normal for ∞."""
    if error <= 0:
        return float(gap < limit)
    t = (limit - gap) / error
    return float(special.ndtr(t) if np.isinf(df) else special.stdtr(df, t))
