"""How much a result scatters from run to run, and the margin δ that counts as a practical difference.

The scatter is measured on the scale where it is even (`etude.analysis.scale`), around each rate's mean after taking out
what all rates of a seed share, and pooled over neighbouring rates: a rate's own few seeds say little, and noise grows to
the right of the optimum. With one seed a rate it is not measured. R rates, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from etude.analysis.scale import Scale
from etude.analysis.values import Floats
from etude.notation import share_text

EXAMPLES_CORRELATION = 0.5  # of two rates evaluated on the same examples; measured by `make validate`
GUESS = 0.02  # of what training gained, where nothing else is known
NEIGHBOURHOOD = 0.8  # decades: standard deviation of the weights with which a rate's neighbours lend it their noise
OWN_DF = 4  # degrees of freedom that the neighbours' pool weighs beside a rate's own
FEWEST_AWAY = 6  # deviations from the middle seed, three rates of three seeds: fewer tell no usual spread
SWEEPS, SETTLED = 1000, 1e-10  # of the alternating fit of rates and seeds, where some cells are missing; of the scatter
OUTLYING, OUTLYING_SHARE = 6.0, 0.5  # robust standard deviations below the rate's middle seed, and of the way to worst


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Means and noise on the even scale, a rate: ``mean`` (R,), ``variance`` (R,) of one run, ``count`` (R,) of seeds.

    ``variance`` is without what the rates of a seed share, so it is the noise of differences between rates; ``total`` (R,) is
    with it. ``df`` are degrees of freedom of the former, 0 where it was not measured (both are then NaN). ``correlation`` is
    that between rates through the seed, None where they share fewer than two seeds.
    """

    x: Floats
    mean: Floats
    variance: Floats
    total: Floats
    count: Floats
    df: float
    correlation: float | None = None

    @property
    def measured(self) -> bool:
        """Whether any rate has two seeds."""
        return self.df > 0

    @property
    def shared(self) -> Floats:
        """How much of a run's variance comes with the seed and is no noise of differences (R,)."""
        return np.fmax(self.total - self.variance, 0.0)  # and 0 where it was not measured

    def sd(self, rate: int) -> float:
        """Return the standard deviation of a run of a rate, on the even scale; NaN where it was not measured."""
        return math.sqrt(self.total[rate])


def measure(scores: Mapping[float, Mapping[int, float]]) -> Noise:
    """Measure the noise of ``scores[lr][seed]``, finite values on the even scale of trials that learned.

    Rates are in rising order. Seeds that only one rate has cannot tell what they share, and are not centred.
    """
    lrs = sorted(scores)
    seeds = sorted({seed for by_seed in scores.values() for seed in by_seed})
    y_RS = np.full((len(lrs), len(seeds)), np.nan)
    column = {seed: i for i, seed in enumerate(seeds)}
    for i, lr in enumerate(lrs):
        for seed, score in scores[lr].items():
            y_RS[i, column[seed]] = score
    return measure_table(np.log10(np.array(lrs, float)), y_RS)


def measure_table(x: Floats, y_RS: Floats) -> Noise:
    """Measure the noise of a table, NaN where a cell is missing; every rate has at least one seed."""
    have = np.isfinite(y_RS)
    count = have.sum(1).astype(float)
    R, n = len(x), int(have.sum())
    paired = (have.sum(0) >= 2) & (R > 1)
    own_R = np.where(have, y_RS, 0.0).sum(1) / count
    if R == 0 or n == R:
        unknown = np.full(R, np.nan)
        return Noise(x=x, mean=own_R, variance=unknown, total=unknown, count=count, df=0.0)
    group_S = _groups(have, paired)
    mean_R, seed_S = _additive(y_RS, have, group_S)
    residual = np.where(have, y_RS - mean_R[:, None] - seed_S, 0.0)
    free = n - R
    spent = int(paired.sum()) - int(group_S.max(initial=-1) + 1)
    df = free - spent
    if df <= 0:  # all that the seeds scatter could be what they share
        seed_S, paired, spent = np.zeros_like(seed_S), np.zeros_like(paired), 0
        mean_R, residual, df = own_R, np.where(have, y_RS - own_R[:, None], 0.0), free
    squares = (residual**2).sum(1) * free / df
    # With what seeds share, and at each rate for itself: seeds share more where a model learns than where it hardly does.
    whole = (np.where(have, y_RS - own_R[:, None], 0.0) ** 2).sum(1)
    own_df = count - 1
    near = np.exp(-0.5 * ((x[:, None] - x) / NEIGHBOURHOOD) ** 2) + 1e-3
    variance, total = (
        (OWN_DF * (near @ sums) / (near @ own_df) + sums) / (OWN_DF + own_df) for sums in (squares, whole)
    )
    local_df = (near @ own_df) ** 2 / (near**2 @ own_df) * df / free
    correlation = None
    if spent:
        rates = have[:, paired].sum() / paired.sum()
        typical = float(squares.sum() / own_df.sum())
        shared = max(0.0, float((seed_S**2).sum()) / spent - typical / rates)
        correlation = float(shared / (shared + typical)) if shared + typical > 0 else None
    return Noise(
        x=x, mean=mean_R, variance=variance, total=total, count=count, df=max(1.0, float(np.median(local_df))),
        correlation=correlation,
    )  # fmt: skip


def _groups(have: np.ndarray, paired: np.ndarray) -> np.ndarray:
    """Return the group of each seed (S,), -1 where it is not ``paired``: rates and seeds that nothing links cannot be compared.

    A grid that was refined with other seeds makes two of them.
    """
    if have.all() or not paired.any():
        return np.where(paired, 0, -1)
    from scipy.sparse import csgraph  # a quarter of a second, and few studies have gaps

    linked = have[:, paired].astype(int)
    group_R = csgraph.connected_components(linked @ linked.T, directed=False)[1]
    group_S = np.full(len(paired), -1)
    group_S[paired] = np.unique(group_R[linked.argmax(0)], return_inverse=True)[1]
    return group_S


def _additive(y_RS: Floats, have: np.ndarray, group_S: np.ndarray) -> tuple[Floats, Floats]:
    """Fit y = rate + seed by alternating means, the seeds of a group centred; those of none (-1) stay 0.

    One sweep where no cell is missing.
    """
    filled = np.where(have, y_RS, 0.0)
    in_rate, in_seed = have.sum(1), np.maximum(have.sum(0), 1)
    groups = [group_S == group for group in range(group_S.max(initial=-1) + 1)]
    seed_S = np.zeros(y_RS.shape[1])
    mean_R = filled.sum(1) / in_rate
    least = SETTLED * float(np.abs(np.where(have, y_RS - mean_R[:, None], 0.0)).max())
    for _ in range(1 if have.all() else SWEEPS):
        before = seed_S
        seed_S = np.where(group_S >= 0, (filled - np.where(have, mean_R[:, None], 0.0)).sum(0) / in_seed, 0.0)
        for group in groups:
            seed_S[group] -= seed_S[group].mean()
        mean_R = (filled - np.where(have, seed_S, 0.0)).sum(1) / in_rate
        if np.abs(seed_S - before).max() <= least:
            break
    return mean_R, seed_S


def outlying(scores: Mapping[float, Mapping[int, float]]) -> set[tuple[float, int]]:
    """Return the (lr, seed) that ended far worse than the rate's other seeds: a dead seed, where no curve shows its death.

    ``scores`` on the even scale. Needs three seeds. Measured from the rate's middle seed against the worst score and a
    robust spread, the larger of that near the rate and that of all: noise grows to the right. In a simulation ordinary
    scatter is taken for a dead seed in 1 to 4 % of studies (`tests/analysis/test_noise.py`).
    """
    several = {lr: s for lr, s in scores.items() if len(s) >= 3}
    middle = {lr: sorted(s.values())[(len(s) - 1) // 2] for lr, s in several.items()}
    # The middle seed itself is no deviation.
    away = [(lr, d) for lr, s in several.items() for d in sorted(abs(y - middle[lr]) for y in s.values())[1:]]
    if len(away) < FEWEST_AWAY:
        return set()
    x, size = np.array(sorted(away, key=lambda pair: pair[1])).T
    x = np.log10(x)
    worst = max(y for s in scores.values() for y in s.values())
    found = set()
    for lr, s in several.items():
        weight = np.exp(-0.5 * ((x - math.log10(lr)) / NEIGHBOURHOOD) ** 2).cumsum()
        spread = 1.4826 * max(float(size[np.searchsorted(weight, 0.5 * weight[-1])]), float(np.median(size)))
        if spread > 0:
            least = max(OUTLYING * spread, OUTLYING_SHARE * (worst - middle[lr]))
            found |= {(lr, seed) for seed, y in s.items() if y - middle[lr] > least}
    return found


def margin(
    given: float | None, between: float, scale: Scale, best: float, best_error: float, gained: float
) -> tuple[float, str]:
    """Return (δ in the metric's unit, where it comes from); ``between`` is a run's standard deviation on the even scale."""
    if given is not None:
        return given, "given"
    if math.isfinite(between) and between > 0:
        return float(between * scale.level(best)), "standard deviation between seeds"
    if np.isfinite(best_error) and best_error > 0:
        return best_error, "standard error over the validation examples"
    return GUESS * abs(gained), f"a guess: {share_text(GUESS)} of what training gained"
