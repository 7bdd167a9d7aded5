"""What the results say of each rate: draws of what every rate would reach, and of where the best rate is.

With four rates or more that bear on the optimum the draws come from the rate-response curve; with fewer, each rate stands
for itself, with the noise between seeds or, with one seed, the error over the validation examples. Rates the curve
does not reach (far off to the left, over the cliff, some seeds lost) always stand for themselves.
D draws, R rates, G grid points.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import special

from etude.analysis import noise as noises
from etude.analysis import response
from etude.analysis.noise import EXAMPLES_CORRELATION, Noise
from etude.analysis.scale import Scale
from etude.analysis.values import Floats, Plateau, Response

LEVEL = 0.95
# The part of the draws that makes the 95 % interval; with one seed the noise is guessed, too, and less of them held the optimum too
# seldom (docs/validation/coverage.md).
PART, PART_AT_ONE_SEED = LEVEL, 0.97
# Standard deviation on the even scale where neither seeds nor the error over examples tell it; less where the curve itself takes
# less for likely, as for the loss of a language model, of which training moves but a part.
ASSUMED = 0.1
BEYOND = 2.0  # ranges of the scores, and standard deviations of a run, that a draw may leave the scores by
FEWEST_SHOWN = 3  # rates that most curves go through, from which on they are shown
SURE, MAYBE = 0.9, 0.1  # chances that bound the inner and the outer plateau


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Draws on the even scale (lower is better), for rates in rising order.

    ``lrs`` (R,) that have a score; ``values`` (D, R) what each would reach on average over seeds; ``candidates`` the
    indices that may be recommended; ``best`` (D,) the lowest, of the curve where there is one; ``place`` (D,) where it is
    (log10), or None. ``bounds`` are the ends of the rates searched and ``closed`` says whether each is known to be worse.
    ``on_curve`` (R,) is the share of the curves that go through each rate; ``inferred`` (R,) the variance of a run that the
    curve itself takes for likely, NaN where there is none.
    """

    lrs: tuple[float, ...]
    noise: Noise
    values: Floats
    candidates: tuple[int, ...]
    best: Floats
    place: Floats | None
    grid: Floats
    curve: Floats | None
    bounds: tuple[float, float]
    closed: tuple[bool, bool]
    why_no_curve: str
    on_curve: Floats = field(default_factory=lambda: np.empty(0))
    inferred: Floats = field(default_factory=lambda: np.empty(0))

    def regret(self) -> Floats:
        """Return the expected regret of each rate, on the even scale (R,)."""
        return np.asarray((self.values - self.best[:, None]).mean(0))

    def pick(self) -> int | None:
        """Return the index of the candidate of least expected regret; of the lower rate where two are equal."""
        if not self.candidates:
            return None
        regret = self.regret()
        return min(self.candidates, key=lambda i: (round(float(regret[i]), 12), i))

    def gaps(self, scale: Scale) -> Floats:
        """Return draws of how far each rate is from the best candidate, in the metric's unit (D, R)."""
        return np.asarray(scale.sign * (scale.metric(self._best_tried()) - scale.metric(self.values)))

    def _best_tried(self) -> Floats:
        return self.values[:, list(self.candidates)].min(1, keepdims=True) if self.candidates else self.best[:, None]

    def loss(self, scale: Scale) -> Floats:
        """Return draws of each rate's regret against the best of the curve, in the metric's unit (D, R)."""
        return np.asarray(scale.sign * (scale.metric(self.best[:, None]) - scale.metric(self.values)))

    def promising(
        self, regrets: Floats, tried: Floats, near: float, bounds: tuple[float, float] = (-np.inf, np.inf)
    ) -> list[tuple[float, float]]:
        """Return the gaps between ``tried`` rates (log10, rising) in which the best rate may lie, within ``bounds``.

        Each as how much of the ``regrets`` (D,) is due to it, the most first, and its middle as the draws see it. None where
        there is no curve, or where more regret is due to the tried rates, or to such as are ``near`` them (decades).
        """
        if self.place is None:
            return []
        untried = np.abs(self.place[:, None] - tried).min(1) > near
        untried &= (self.place >= bounds[0]) & (self.place <= bounds[1])
        if regrets[untried].sum() < regrets[~untried].sum():
            return []
        cell = np.searchsorted(tried, self.place)
        due = np.bincount(cell[untried], weights=regrets[untried], minlength=len(tried) + 1)
        order = (int(gap) for gap in np.argsort(-due, kind="stable") if due[gap] > 0)
        return [(float(due[gap]), float(np.median(self.place[untried & (cell == gap)]))) for gap in order]

    def describe(self, scale: Scale, delta: float | None) -> Response:
        """Return the curve, the optimum and its interval, and the plateau of rates within ``delta`` of the best tried."""
        if self.place is None or self.curve is None:
            return Response(located=False, reason=self.why_no_curve)
        ends, open_ends = self.interval()
        wide = len(open_ends) == 2
        told = Response(
            located=not wide,
            reason="not located: the best rate may lie anywhere among those tried" if wide else "",
            optimum=None if wide else _rate(float(np.median(self.place))),
            optimum_interval=None if wide else (_rate(ends[0]), _rate(ends[1])),
            open=open_ends,
        )
        if (self.on_curve >= 0.5).sum() < FEWEST_SHOWN:  # through two rates it may pass anywhere
            return replace(told, reason=told.reason or f"fewer than {FEWEST_SHOWN} rates stand before a cliff")
        reached = np.isfinite(self.curve)
        # Below the first rate that has a score, and beyond the last that half of the curves go through, there is nothing but
        # extrapolation.
        last = max(
            (x for x, share in zip(self.noise.x, self.on_curve, strict=False) if share >= 0.5), default=self.bounds[1]
        )
        half = 0.5 * (self.grid[1] - self.grid[0])
        shown = (reached.mean(0) >= 0.5) & (self.grid <= last + half) & (self.grid >= self.noise.x[0] - half)
        metric = np.where(reached, scale.metric(np.where(reached, self.curve, 0.0)), np.nan)[:, shown]
        # A draw that a cliff cut off says nothing of what lies beyond it. (`nanquantile` is slow.)
        ranked, count = np.sort(metric, axis=0), reached[:, shown].sum(0)
        low, mean, high = (
            ranked[np.round(q * (count - 1)).astype(int), np.arange(len(count))]
            for q in ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)
        )
        return replace(
            told,
            lrs=_rates(self.grid[shown]),
            mean=tuple(mean.tolist()),
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
            plateau=None if delta is None else self._plateau(scale, delta, shown),
        )

    def interval(self, part: float | None = None) -> tuple[tuple[float, float], tuple[str, ...]]:
        """Return the 95 % interval of the optimum (log10), and which ends are only the end of the rates tried.

        It holds the central ``part`` of the draws; if that is not given, the one that was found to be needed.
        """
        if self.place is None:
            raise ValueError("there is no curve")
        if part is None:
            part = PART if self.noise.measured else PART_AT_ONE_SEED
        half = 0.5 * (self.grid[1] - self.grid[0])
        low, high = np.quantile(self.place, [(1 - part) / 2, (1 + part) / 2])
        # Open where the best rate may be the last one itself, and so beyond it; not where it may be a little before it.
        open_ends = self._open(low, high)
        return (float(max(self.bounds[0], low - half)), float(min(self.bounds[1], high + half))), open_ends

    def _open(self, low: float, high: float, within: tuple[float, float] | None = None) -> tuple[str, ...]:
        """Return which ends of a range (log10) are only the ends of the rates tried, or of those ``within``."""
        half = 0.5 * (self.grid[1] - self.grid[0])
        first, last = within or self.bounds
        at_low = low <= first + half and not self.closed[0]
        at_high = high >= last - half and not self.closed[1]
        return tuple(end for end, is_open in (("low", at_low), ("high", at_high)) if is_open)

    def _plateau(self, scale: Scale, delta: float, shown: np.ndarray[Any, np.dtype[np.bool_]]) -> Plateau | None:
        """Return the rates around the best one that are within ``delta`` of it, as far as the curve is ``shown`` (G,)."""
        assert self.curve is not None
        reached = np.isfinite(self.curve)
        with np.errstate(invalid="ignore"):
            gap = scale.sign * (scale.metric(self._best_tried()) - scale.metric(np.where(reached, self.curve, np.inf)))
        within = ((gap < delta) & reached).mean(0) * shown
        top = int(within.argmax())
        middle = _stretch(within >= min(0.5, within[top]), top)
        inner = _stretch(within >= SURE, top) if within[top] >= SURE else None
        outer = _stretch(within >= MAYBE, top)
        ends = self.grid[middle[0]], self.grid[middle[1]]
        return Plateau(
            low=_rate(ends[0]),
            high=_rate(ends[1]),
            decades=float(ends[1] - ends[0]),
            inner=None if inner is None else (_rate(self.grid[inner[0]]), _rate(self.grid[inner[1]])),
            outer=(_rate(self.grid[outer[0]]), _rate(self.grid[outer[1]])),
            open=self._open(*ends, within=(self.grid[shown][0], self.grid[shown][-1])),
        )


def answer(
    scores: Mapping[float, Mapping[int, float]], *, barred: Collection[float], lost: Collection[float],
    stalled: Collection[float], examples: Mapping[float, float],
) -> Answer | None:  # fmt: skip
    """Make the answer of ``scores[lr][seed]``, finite, on the even scale, of trials that learned; None where there are none.

    Rates in ``barred`` may not be recommended (a seed was lost); those in ``lost`` lost most of their seeds and those in
    ``stalled`` never moved: neither bends the curve, but the best rate is not beyond them. ``examples[lr]`` is the
    standard error over the validation examples on the even scale, NaN where unknown.
    """
    table = tabulate(scores, barred=barred, lost=lost, stalled=stalled, examples=examples)
    if table is None:
        return None
    return conclude(table, None if table.why_no_curve else draw([table]))


@dataclass(frozen=True, kw_only=True)
class Table:
    """What goes into the draws. Of the ``fitted`` rates those in ``keep`` bend the curve; ``height`` is the unit of its height.

    ``known`` (R,) are the variances over the validation examples; ``start`` is where the curve begins.
    """

    lrs: tuple[float, ...]
    noise: Noise
    known: Floats
    candidates: tuple[int, ...]
    fitted: np.ndarray[Any, Any]
    height: float
    keep: np.ndarray[Any, Any]
    start: float
    bounds: tuple[float, float]
    why_no_curve: str

    @property
    def x(self) -> Floats:
        """The fitted rates (log10)."""
        return np.asarray(self.noise.x[self.fitted])

    @property
    def mean(self) -> Floats:
        """Their means, in units of height."""
        return np.asarray(self.noise.mean[self.fitted] / self.height)

    @property
    def levels(self) -> tuple[Floats, Floats]:
        """Variances of these means (M, R), and how likely each is a priori (M,)."""
        part = replace(self.noise, variance=self.noise.variance[self.fitted], count=self.noise.count[self.fitted])
        levels, likely = response.noise_levels(part, self.height, self.known[self.fitted])
        levels[:, ~self.keep] = response.IGNORED
        return levels, likely


def draw(tables: Sequence[Table], draws: int = response.DRAWS) -> response.Draws:
    """Draw curves through N tables over the same rates and bounds, all with measured noise or none."""
    first, levels = tables[0], [table.levels for table in tables]
    return response.draw(
        first.x, np.array([table.mean for table in tables]), np.array([of for of, _ in levels]), response.points(*first.bounds),
        low=np.array([table.start for table in tables]), beyond=first.bounds[1], likely_M=levels[0][1], draws=draws,
    )  # fmt: skip


def tabulate(
    scores: Mapping[float, Mapping[int, float]], *, barred: Collection[float], lost: Collection[float],
    stalled: Collection[float], examples: Mapping[float, float],
) -> Table | None:  # fmt: skip
    """Set out what `answer` is given; ``why_no_curve`` says why no curve can be drawn, where that is so."""
    if not scores:
        return None
    noise = noises.measure(scores)
    lrs = tuple(sorted(scores))
    known = np.nan_to_num(np.array([examples.get(lr, np.nan) for lr in lrs]) ** 2 * (1 - EXAMPLES_CORRELATION))
    fitted = np.array([i for i, lr in enumerate(lrs) if lr not in lost], int)
    made = Table(
        lrs=lrs, noise=noise, known=known, candidates=tuple(i for i, lr in enumerate(lrs) if lr not in barred),
        fitted=fitted, height=1.0, keep=np.ones(len(fitted), bool), start=float(noise.x[0]),
        bounds=(float(noise.x[0]), float(noise.x[-1])), why_no_curve="",
    )  # fmt: skip
    if len(fitted) < response.FEWEST:
        there = f"there {'is' if len(fitted) == 1 else 'are'} {len(fitted)}"
        return replace(made, why_no_curve=f"not located: a curve needs {response.FEWEST} rates that learned, {there}")
    height = response.span(noise.mean[fitted])
    if height <= 1e-8 * max(1.0, float(np.abs(noise.mean).max())):
        alike = "all" if np.ptp(noise.mean) <= 1e-8 * max(1.0, float(np.abs(noise.mean).max())) else "most"
        return replace(made, why_no_curve=f"not located: {alike} rates end alike")
    x = noise.x[fitted]
    keep = response.near_enough(noise.mean[fitted], height)
    first = int(np.flatnonzero(keep)[0])
    below = [np.log10(lr) for lr in (*stalled, *lost) if np.log10(lr) < x[0]]
    above = [np.log10(lr) for lr in lost if np.log10(lr) > x[-1]]
    start = float(x[first - 1] if first else max(below, default=x[0]))
    bounds = min(float(x[0]), start), float(min(above, default=x[-1]))
    return replace(made, height=height, keep=keep, start=start, bounds=bounds)


def conclude(table: Table, drawn: response.Draws | None, n: int = 0, draws: int = response.DRAWS) -> Answer:
    """Make the answer of a table and the ``n``-th of the curves drawn, or of its rates alone where there are none."""
    on_curve, inferred, assumed = np.zeros(len(table.lrs)), np.full(len(table.lrs), np.nan), ASSUMED**2
    if drawn is not None:
        levels = np.where(table.keep, drawn.levels[n], np.nan)
        inferred[table.fitted] = levels * table.height**2 * table.noise.count[table.fitted]
        assumed = min(assumed, float(np.nanmean(inferred)))
    values = _alone(table.noise, table.known, assumed, draws)
    place = curve = None
    grid = np.empty(0)
    closed = (False, False)
    best = values[:, list(table.candidates) or slice(None)].min(1)
    if drawn is not None:
        grid, curve = drawn.grid, drawn.curve[n] * table.height
        index = curve.argmin(1)
        place, lowest = grid[index], curve[np.arange(len(curve)), index]
        bent = table.keep & (table.x <= drawn.reach[n][:, None])
        values[:, table.fitted] = np.where(bent, drawn.rates[n] * table.height, values[:, table.fitted])
        on_curve[table.fitted] = bent.mean(0)
        best = lowest
        if table.candidates:  # a rate that stands for itself may be the best, too
            own = values[:, list(table.candidates)]
            best = np.minimum(lowest, own.min(1))
            place = np.where(own.min(1) < lowest, table.noise.x[list(table.candidates)][own.argmin(1)], place)
        closed = table.start < table.x[0] or not table.keep[0], table.bounds[1] > table.x[-1]
    return Answer(
        lrs=table.lrs, noise=table.noise, values=values, candidates=table.candidates, best=best, place=place, grid=grid,
        curve=curve, bounds=table.bounds, closed=closed, on_curve=on_curve, inferred=inferred, why_no_curve=table.why_no_curve,
    )  # fmt: skip


def _alone(noise: Noise, known: Floats, assumed: float, draws: int) -> Floats:
    """Draw what each rate reaches from its own mean (D, R): normal, and Student's t where seeds measured the noise.

    ``assumed`` is the variance of a run where neither seeds nor the error over examples (``known``) tell it.

    The noise is pooled over neighbours, so a draw stretches all rates alike.
    """
    strata = (np.arange(draws) + 0.5) / draws
    rng = np.random.default_rng(0)
    normal = rng.permuted(np.repeat(special.ndtri(strata)[:, None], len(noise.mean), 1), axis=0)
    if noise.measured:
        sd = np.sqrt(noise.variance / noise.count)
        stretch = np.sqrt(noise.df / (2 * special.gammaincinv(noise.df / 2, rng.permutation(strata))))
        away = sd * normal * stretch[:, None]
    else:
        sd = np.sqrt(np.where(known > 0, known, assumed) / noise.count)
        away = sd * normal
    # Student's t has no mean on a logarithmic scale: a draw far from all scores is cut.
    most = BEYOND * (float(np.ptp(noise.mean)) + sd)
    return np.asarray(noise.mean + np.clip(away, -most, most))


def _stretch(inside: np.ndarray, at: int) -> tuple[int, int]:
    """Return the first and last index of the unbroken run of true around ``at``."""
    low = high = at
    while low > 0 and inside[low - 1]:
        low -= 1
    while high < len(inside) - 1 and inside[high + 1]:
        high += 1
    return low, high


def _rate(x: float) -> float:
    return float(f"{10**x:.3g}")


def _rates(x: Floats) -> tuple[float, ...]:
    return tuple(float(f"{rate:.6g}") for rate in 10**x)
