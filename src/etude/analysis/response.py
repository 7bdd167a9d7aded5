"""The rate-response curve: the final result over log η, with its uncertainty, and what follows from it.

A quadratic trend plus a Gaussian process with a Matérn-5/2 kernel (Rasmussen & Williams 2006, sections 2.7 and 4.2.1),
its hyper-parameters and the noise's scale weighted by their evidence. It may have a kink, where its slope changes at once,
which no smooth curve follows. To the right of some tried rate there may be a cliff, beyond which the curve says nothing.
Where they stand are unknowns, too, weighted like the others; so a broken rate neither bends the curve nor goes unseen.
Draws of the curve come by Matheron's rule (Wilson et al. 2020, arXiv 2002.09309): a draw of the prior, moved by what it
misses of the data.

Everything here is on the even scale (`etude.analysis.scale`): lower is better. Many tables over the same rates are done
at once, which is how the intervals are validated (docs/validation.md). N tables, R rates, G grid points, P = G + R of both,
H hyper-parameters, K of them with a kink in one of C places, M noise levels, D draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import special

from etude.analysis.noise import Noise
from etude.analysis.values import Floats

LENGTHS = (0.3, 0.6, 1.2, 2.4)  # decades
HEIGHTS = (0.05, 0.12, 0.3, 0.8)  # of the span: how far the curve may leave its trend
TREND_SD = 10.0  # of the span, for each coefficient of the quadratic: vague
KINK = 0.1  # prior probability that there is a kink
KINK_SD = 3.0  # spans a decade: by how much it changes the slope
KINKED = ((0.6, 0.05), (1.2, 0.12))  # lengths and heights of a curve that has one: what it leaves to the smooth part
CLIFF = 0.7  # prior probability that there is a cliff to the right of the best rate
JUMP = 0.5  # spans from the second rate to the third that may be a cliff
REACH = 2.0  # spans above the best rate, to its left, from where on a rate is too far off to bend the curve
UNMEASURED = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)  # noise variances where there is one seed a rate, of the largest
MOST_UNMEASURED = 0.25  # which is a span², or this on the even scale: a run is not off by half of its level
MEASURED = 5  # quantiles of the noise's own uncertainty, where there are more
FEWEST = 4  # rates that a curve needs
STEP, MOST_POINTS = 0.04, 200  # of the grid: decades, and points
IGNORED = 1e5  # variance of a rate that does not bend the curve
DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Draws of N curves: ``grid`` (G,), ``curve`` (N, D, G) with inf where a draw's curve does not reach, ``rates`` (N, D, R).

    ``reach`` (N, D) is the rate (log10) up to which a draw's curve goes; a rate beyond it is over the cliff. ``levels``
    (N, R) are the variances of the rates' means that the draws took, on average.
    """

    grid: Floats
    curve: Floats
    rates: Floats
    reach: Floats
    levels: Floats


def span(mean: Floats) -> float:
    """Return the unit of height: from the best rate to the one at two thirds of the ranks; never 0."""
    ranked = np.sort(mean)
    return float(max(ranked[len(mean) * 2 // 3] - ranked[0], 1e-9 * max(1.0, abs(ranked[0])), 1e-12))


def near_enough(mean: Floats, height: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which rates may bend the curve: not those far off to the left of the best, but always the best four."""
    keep = (mean <= mean.min() + REACH * height) | (np.arange(len(mean)) > mean.argmin())
    keep[np.argsort(mean)[:FEWEST]] = True
    return np.asarray(keep)


def noise_levels(noise: Noise, height: float, least: Floats) -> tuple[Floats, Floats]:
    """Return variances of the rates' means, in span² (M, R), and how likely each is a priori (M,).

    Equally, where seeds measured the noise. Where they did not, any standard deviation of a run is as likely as any other
    (Gelman 2006, *Bayesian Analysis* 1(3), section 5), and so the variances, even on a logarithmic scale, by their root;
    ``least`` (R,) is the variance below which it cannot be, that over the validation examples.
    """
    if noise.measured:
        quantile = (np.arange(MEASURED) + 0.5) / MEASURED
        factor = noise.df / (2 * special.gammaincinv(noise.df / 2, 1 - quantile))
        levels, likely = factor[:, None] * noise.variance / noise.count, np.ones(MEASURED)
    else:
        guessed, likely = np.array(UNMEASURED) * min(height**2, MOST_UNMEASURED), np.sqrt(UNMEASURED)
        levels = np.maximum(guessed[:, None], least) * np.ones(len(least))
    return np.minimum(levels / height**2 + 1e-8, 0.5 * IGNORED), likely / likely.sum()


def points(low: float, high: float) -> Floats:
    """Return a grid of log10 rates."""
    count = int(np.clip(round((high - low) / STEP), 40, MOST_POINTS))
    return np.linspace(low, high, count + 1)


def draw(
    x: Floats, mean_NR: Floats, levels_NMR: Floats, grid: Floats, *, low: Floats, beyond: float | None = None,
    likely_M: Floats | None = None, draws: int = DRAWS,
) -> Draws:  # fmt: skip
    """Draw curves through tables of means, all in spans.

    ``x`` (R,) the rates (log10), ``levels_NMR`` variances of the means (`IGNORED` and more: not used), ``likely_M`` how likely
    each is a priori (equally, if not given), ``low`` (N,) where each curve begins, ``beyond`` a rate above all of ``x`` that is
    known to be lost. Seeded by the rates alone: the same table always gets the same draws, whatever the unit of its metric.
    """
    N, M, R = levels_NMR.shape
    G = len(grid)
    prior = _prior(x.tobytes(), grid.tobytes(), draws)
    cov_HRR, centre = prior.covariance[:, G:], np.median(mean_NR, 1, keepdims=True)
    y_NR = mean_NR - centre
    H = len(cov_HRR)
    total = cov_HRR[None, :, None] + levels_NMR[:, None, :, :, None] * np.eye(R)  # (N, H, M, R, R)
    lower = np.linalg.cholesky(total)
    z = np.linalg.solve(lower, np.broadcast_to(y_NR[:, None, None, :, None], (N, H, M, R, 1)))[..., 0]
    used_NR = levels_NMR[:, 0] < IGNORED
    terms = -0.5 * z**2 - np.log(np.diagonal(lower, axis1=-2, axis2=-1)) - 0.5 * np.log(2 * np.pi)
    # The factor of the first rates is the first part of the factor of all: every place of the cliff for one price.
    smooth = np.where(used_NR[:, None, None], terms, 0.0).cumsum(-1) + _cliffs(y_NR, used_NR)[:, None, None]
    if likely_M is not None:
        smooth += np.log(likely_M)[:, None]
    gained = _kinks(lower[:, prior.kinked], z[:, prior.kinked], used_NR, prior.bend[G:])
    kinked = smooth[:, prior.kinked, ..., None] + gained + np.log(KINK / (gained.shape[1] * gained.shape[-1]))
    smooth += np.log((1 - KINK) / H)
    values, reach, taken = np.empty((N, draws, G + R)), np.empty((N, draws)), np.zeros((N, R))
    top = x[-1] if beyond is None else beyond
    for n in range(N):
        h_D, m_D, last_D, kink_D = _choose(smooth[n], kinked[n], prior.kinked, draws)
        group = np.ravel_multi_index((kink_D >= 0, h_D, m_D, last_D), (2, H, M, R))
        for one in np.unique(group):
            d = np.flatnonzero(group == one)
            h, m, last = h_D[d[0]], m_D[d[0]], last_D[d[0]]
            taken[n] += levels_NMR[n, m] * len(d) / draws
            known = slice(0, last + 1)
            f_PD = prior.rough[h][:, d] + prior.trend[:, d]
            bend_PD = prior.bend[:, kink_D[d]] if kink_D[d[0]] >= 0 else None
            if bend_PD is not None:
                f_PD += bend_PD * prior.slope[d]
            seen = f_PD[G:][known] + prior.noise[known][:, d] * np.sqrt(levels_NMR[n, m, known])[:, None]
            covariance, missed = total[n, h, m][known, known], y_NR[n][known, None] - seen
            if bend_PD is None:
                f_PD += prior.covariance[h][:, known] @ np.linalg.solve(covariance, missed)
            else:  # the kink adds the outer product of its bend to the covariance (Sherman & Morrison 1950)
                bend = bend_PD[G:][known]
                solved = np.linalg.solve(covariance, np.concatenate([missed, bend], 1))
                pull, along = solved[:, : len(d)], solved[:, len(d) :]
                pull = pull - along * ((bend * pull).sum(0) / (1 + (bend * along).sum(0)))
                f_PD += prior.covariance[h][:, known] @ pull + bend_PD * (bend * pull).sum(0)
            values[n, d] = f_PD.T
            end = x[last + 1] if last < R - 1 else top
            reach[n, d] = x[last] + prior.where[d] * (end - x[last])
    values += centre[:, :, None]
    cell = grid[1] - grid[0]
    inside = (grid >= low[:, None, None] - 0.5 * cell) & (grid <= reach[..., None] + 0.5 * cell)
    return Draws(
        grid=grid, curve=np.where(inside, values[..., :G], np.inf), rates=values[..., G:], reach=reach, levels=taken
    )


@dataclass(frozen=True, kw_only=True)
class _Prior:
    """Draws of the prior at P = G + R points.

    ``covariance`` (H, P, R) and ``rough`` H × (P, D), ``kinked`` (K,) the hyper-parameters that go with a kink, ``bend`` (P, C)
    what a kink adds that changes the slope by one standard deviation, ``slope`` (D,) by how many, ``trend`` (P, D), ``noise``
    (R, D), ``where`` (D,) a cliff is in its gap.
    """

    covariance: Floats
    rough: list[Floats]
    kinked: np.ndarray[Any, np.dtype[np.intp]]
    bend: Floats
    slope: Floats
    trend: Floats
    noise: Floats
    where: Floats


@lru_cache(maxsize=8)
def _prior(x_bytes: bytes, grid_bytes: bytes, draws: int) -> _Prior:
    x, grid = np.frombuffer(x_bytes), np.frombuffer(grid_bytes)
    at = np.concatenate([grid, x])
    rng = np.random.default_rng(0)
    basis = np.vander(at - x.mean(), 3)
    trend_cov = TREND_SD**2 * basis @ basis[len(grid) :].T
    covariance, rough = [], []
    for length in LENGTHS:
        kernel = matern52(at, at, length)
        shape = np.linalg.cholesky(kernel + 1e-8 * np.eye(len(at))) @ rng.standard_normal((len(at), draws))
        for height in HEIGHTS:
            covariance.append(height**2 * kernel[:, len(grid) :] + trend_cov)
            rough.append(height * shape)
    kinks = grid[(grid > x[0]) & (grid < x[-1])]
    return _Prior(
        covariance=np.array(covariance),
        rough=rough,
        kinked=np.array([LENGTHS.index(length) * len(HEIGHTS) + HEIGHTS.index(height) for length, height in KINKED]),
        bend=KINK_SD * np.maximum(at[:, None] - kinks, 0.0),
        trend=TREND_SD * basis @ rng.standard_normal((3, draws)),
        noise=rng.standard_normal((len(x), draws)),
        where=rng.random(draws),
        slope=rng.standard_normal(draws),
    )


def _choose(
    smooth: Floats, kinked: Floats, kinds: np.ndarray[Any, Any], draws: int
) -> tuple[np.ndarray[Any, Any], ...]:
    """Choose for each draw the hyper-parameters, the noise level, the last rate and the kink (or -1), by their evidence.

    ``smooth`` (H, M, R) is that without a kink, ``kinked`` (K, M, R, C) with one, of the hyper-parameters ``kinds`` (K,).
    """
    evidence = np.concatenate([smooth.ravel(), kinked.ravel()])
    cumulative = np.exp(evidence - evidence.max()).cumsum()
    stratum = (np.arange(draws) + 0.5) / draws
    chosen = np.minimum(np.searchsorted(cumulative / cumulative[-1], stratum), len(evidence) - 1)
    has_kink = chosen >= smooth.size
    without = np.unravel_index(np.where(has_kink, 0, chosen), smooth.shape)
    k, m, last, kink = np.unravel_index(np.where(has_kink, chosen - smooth.size, 0), kinked.shape)
    pairs = zip((kinds[k], m, last, kink), (*without, np.array(-1)), strict=True)
    return tuple(np.where(has_kink, bent, smooth_one) for bent, smooth_one in pairs)


def _kinks(lower: Any, z: Floats, used_NR: np.ndarray[Any, Any], bend_RC: Floats) -> Floats:
    """Return what the log evidence up to each rate gains by a kink in each place, (N, K, M, R, C): a rank-one update.

    ``lower`` (N, K, M, R, R) are the factors of the covariance without it, ``z`` (N, K, M, R) the whitened results.
    """
    u = np.where(used_NR[:, None, None, :, None], np.linalg.solve(lower, bend_RC), 0.0)
    length, along = (u * u).cumsum(-2), (u * z[..., None]).cumsum(-2)
    return np.asarray(0.5 * along**2 / (1 + length) - 0.5 * np.log1p(length))


def matern52(a: Floats, b: Floats, length: float) -> Floats:
    """Return the Matérn kernel of smoothness 5/2 between points ``a`` and ``b`` (Rasmussen & Williams 2006, eq. 4.17)."""
    d = np.sqrt(5) * np.abs(a[:, None] - b) / length
    return np.asarray((1 + d + d * d / 3) * np.exp(-d))


def _cliffs(y_NR: Floats, used_NR: np.ndarray[Any, Any]) -> Floats:
    """Return the log prior that the last rate before the cliff is r, plus the log density of what lies over it (N, R).

    The last place stands for no cliff among the rates. Beyond it results are spread evenly over the range seen; before it
    there are the best of all and three rates, or two with a `JUMP` behind them. (Else the third were never over the cliff, and
    an optimum between the second and it were missed; without a jump, a curve through two rates may dip by anything.) A steep
    slope passes for a cliff: asking for a jump everywhere (of a quarter or half of a span) narrowed the interval a little and
    cost a third to a half of the gain on real tables.
    """
    R = y_NR.shape[1]
    seen = np.where(used_NR, y_NR, np.nan)
    spread = np.nanmax(seen, 1, keepdims=True) - np.nanmin(seen, 1, keepdims=True)
    over = used_NR[:, ::-1].cumsum(1)[:, ::-1] - used_NR
    place = np.arange(R)
    before, jump = used_NR.cumsum(1), np.diff(seen, axis=1, append=np.inf)
    enough = (before >= 3) | ((before == 2) & (jump >= JUMP))
    possible = (place >= np.nanargmin(seen, 1)[:, None]) & enough & used_NR
    possible[:, -1] = False
    count = np.maximum(possible.sum(1, keepdims=True), 1)
    with np.errstate(divide="ignore"):
        prior = np.where(possible, np.log(CLIFF / count), -np.inf)
    prior[:, -1] = np.log(1 - CLIFF)
    return np.asarray(prior - over * np.log(spread + 1.0))
