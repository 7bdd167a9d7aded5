"""What is stored of a search, as its searcher looks at it: rates on a log axis, the objective on the scale where noise is even.

x is log10 of a rate; y the objective on the even scale (`etude.analysis.scale`), lower is better; a *share* is one of the horizon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from etude.analysis import noise
from etude.analysis.answer import Answer, conclude, tabulate
from etude.analysis.scale import Scale, find_scale
from etude.search import Standing
from etude.spec.study import Study
from etude.spec.trial import Trial

FIRST, SECOND = 1 / 16, 1 / 4  # shares of the horizon at which trials are paused
TIED = 0.1  # of the best progress at a rung: rates that have made all but so much of it are as good as the best there
ABOVE, BELOW = 0.4, 0.2  # decades above a rung's best rates, and below them beyond the drift, that are searched
ANNEALED = 1.0  # decades above them where the rate has yet to decay, which calms what is restless at the rung
SAME = 1.5  # ratio of two times that count as the same: a rung ends with a whole step
MOST_STEPS = 2000  # at which a schedule is summed
DRAWS = 256  # of the rate-response curve


@dataclass(frozen=True)
class Seen:
    """What is stored, as the searcher looks at it: x is log10 of a rate, y the objective on the even scale, lower is better."""

    study: Study
    results: Mapping[Trial, Standing]
    steps_per_epoch: int = 100

    @cached_property
    def scale(self) -> Scale:
        """The scale of the objective."""
        assert self.study.objective is not None
        values = [value for standing in self.results.values() for _, value in standing.scores]
        return find_scale(
            self.study.objective.direction, values, self.study.objective.metric,
            final=[standing.scores[-1][1] for standing in self.results.values() if standing.scores],
        )  # fmt: skip

    @cached_property
    def start(self) -> float:
        """The objective before training, NaN where it was not evaluated."""
        starts = [s.scores[0][1] for s in self.results.values() if s.scores and s.scores[0][0] == 0]
        return float(self.scale.even(np.mean(starts))) if starts else math.nan

    @cached_property
    def lost(self) -> list[float]:
        """Rates of which a trial diverged, or whose code raised, or whose objective is not finite."""
        gone = [t for t, s in self.results.items() if s.ended or s.failed or not math.isfinite(_last(s))]
        return sorted({math.log10(trial.lr) for trial in gone})

    def reached(self, share: float) -> dict[float, dict[int, float]]:
        """Return y by seed of the rates that were carried to a share of the horizon, and on maybe."""
        epochs = share * self.study.epochs
        found: dict[float, dict[int, float]] = {}
        for trial, standing in self.results.items():
            if trial.horizon is not None and not math.isclose(trial.horizon, epochs):
                continue
            there = [(abs(math.log(e / epochs)), e) for e, _ in standing.scores if SAME > e / epochs > 1 / SAME]
            if not there or (standing.ended and share == 1):
                continue
            upto = [value for e, value in standing.scores if e <= min(there)[1] and (e > 0 or min(there)[1] == 0)]
            if math.isfinite(upto[-1]):
                of = found.setdefault(math.log10(trial.lr), {})
                evens = self.scale.even(np.array(upto))
                of[trial.seed] = float(np.nanmin(evens) if self.study.select == "best" else evens[-1])
        return {x: found[x] for x in sorted(found)}

    @cached_property
    def still(self) -> list[float]:
        """Rates that ended where they had started."""
        return [x for x, y in self.at(1.0).items() if y >= self.start]

    def at(self, share: float) -> dict[float, float]:
        """Return the mean y of these rates, of those that were not lost."""
        return {x: float(np.mean([*of.values()])) for x, of in self.reached(share).items() if x not in self.lost}

    def moved(self, share: float) -> bool:
        """Whether any rate is better at a rung than before training, as far as that is known."""
        return not math.isfinite(self.start) or any(y < self.start for y in self.at(share).values())

    def nearest(self, lr: float) -> float:
        """Return the x of a rate at the horizon."""
        return min(self.full, key=lambda x: abs(x - math.log10(lr)))

    def tied(self, share: float) -> list[float]:
        """Return the rates that have made nearly the best progress at a rung, rising."""
        seen = self.at(share)
        best = min(seen.values(), default=math.nan)
        worst = self.start if math.isfinite(self.start) else max(seen.values(), default=math.nan)
        return [x for x, y in seen.items() if y <= best + TIED * max(0.0, worst - best)]

    def region(self, share: float) -> tuple[float, float] | None:
        """Return where (log10) the best rate at the horizon may lie, from what a rung says; None where it says nothing."""
        tied = self.tied(share)
        if not tied:
            return None
        recipe = self.study.recipe
        anneals = recipe.schedule != "constant" and not recipe.depends_on_horizon
        return min(tied) - self.drift(share) - BELOW, max(tied) + (ANNEALED if anneals else ABOVE)

    def drift(self, share: float) -> float:
        """Return how many decades the falling side moves from a rung to the horizon: the ratio of the sums of rates."""
        recipe, per_epoch = self.study.recipe, self.steps_per_epoch
        horizon = max(1, round(self.study.epochs * per_epoch))
        if recipe.depends_on_horizon or (recipe.schedule == "constant" and not recipe.warmup):
            return math.log10(1 / share)
        picked = np.unique(np.linspace(1, horizon, MOST_STEPS).round().astype(int))
        factors = np.array(
            [recipe.factor(int(step), steps_per_epoch=per_epoch, horizon_step=horizon) for step in picked]
        )
        return math.log10(factors.sum() / max(1e-12, factors[picked <= max(1, share * horizon)].sum()))

    @cached_property
    def full(self) -> dict[float, float]:
        """The mean y at the horizon."""
        return self.at(1.0)

    def is_worse(self, x: float, than: float) -> bool:
        """Whether a rate above another is known not to be better: lost, or behind where both were last compared."""
        if x in self.lost:
            return True
        for share in (1.0, SECOND, FIRST):
            seen = self.at(share)
            if x in seen and than in seen:
                return seen[x] > seen[than] if share == 1 else x > than and x not in self.tied(share)
        return False

    def answer(self) -> Answer | None:
        """Return what the analysis says of the trials at the horizon; None where none learned."""
        learned = {x: by_seed for x, by_seed in self.reached(1.0).items() if x not in self.still}
        top = min(learned, key=lambda x: self.full.get(x, math.inf), default=math.inf)
        lost = {10**x for x in (*self.lost, *(x for x in self.still if x > top))}
        stalled = {10**x for x in self.still if x < top}
        scores = {10**x: by_seed for x, by_seed in learned.items()}
        table = tabulate(scores, barred=lost, lost=lost, stalled=stalled, examples={})
        if table is None:
            return None
        drawn = None if table.why_no_curve else table.draw(DRAWS)
        return conclude(table, drawn, draws=DRAWS)

    def margin(self, made: Answer, pick: int) -> float:
        """Return δ in the metric's unit, as the analysis would take it."""
        assert self.study.objective is not None
        best = float(self.scale.metric(made.noise.mean[pick]))
        gain = abs(best - float(self.scale.metric(self.start))) if math.isfinite(self.start) else 0.0
        return noise.margin(self.study.objective.margin, made.noise.sd(pick), self.scale, best, math.nan, gain)[0]


def _last(standing: Standing) -> float:
    """Return the last score, or 0 where there is none yet."""
    return standing.scores[-1][1] if standing.scores else 0.0
