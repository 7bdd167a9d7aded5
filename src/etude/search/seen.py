"""What is stored of a search, as its searcher looks at it: rates on a log axis, the objective on the scale where noise is even.

x is log10 of a rate; y the objective on the even scale (`etude.analysis.scale`), lower is better; a *share* is one of the horizon.
It does not know what to try next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from etude.analysis import noise
from etude.analysis.answer import Answer, conclude, draw, tabulate
from etude.analysis.scale import Scale, find_scale
from etude.engine.history import step_of
from etude.search import Standing
from etude.spec.study import Study
from etude.spec.trial import Trial

FIRST, SECOND = 1 / 16, 1 / 4  # shares of the horizon at which trials are paused
TIED = 0.1  # of the best progress at a rung: rates that have made all but so much of it are as good as the best there
ABOVE, BELOW = 0.4, 0.2  # decades above a rung's best rates, and below them beyond the drift, that are searched
ANNEALED = 1.0  # decades above them where the rate has yet to decay, which calms what is restless at the rung
SAME = 1.5  # ratio of two times that count as the same, for a trial that was not evaluated at the rung itself
MOVED = 1e-6  # on the even scale: less is rounding
MOST_STEPS = 500  # at which a schedule is summed
DRAWS = 256  # of the rate-response curve


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The study that is searched, and what is stored of it."""

    study: Study
    results: Mapping[Trial, Standing]
    steps_per_epoch: int

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
    def starts(self) -> dict[int, float]:
        """The objective before training, by seed, where it was evaluated."""
        values: dict[int, list[float]] = {}
        for trial, standing in self.results.items():
            if standing.scores and standing.scores[0][0] == 0 and math.isfinite(standing.scores[0][1]):
                values.setdefault(trial.seed, []).append(standing.scores[0][1])
        return {seed: float(self.scale.even(np.median(values[seed]))) for seed in sorted(values)}

    @cached_property
    def start(self) -> float:
        """Its mean over seeds, NaN where it was not evaluated."""
        return float(np.mean([*self.starts.values()])) if self.starts else math.nan

    @cached_property
    def lrs(self) -> dict[float, float]:
        """The rates of which there is a trial, by x."""
        return {math.log10(lr): lr for lr in sorted({trial.lr for trial in self.results})}

    @cached_property
    def lost(self) -> list[float]:
        """Rates of which a trial diverged, or whose code raised, or whose objective is not finite."""
        gone = {t.lr for t, s in self.results.items() if s.ended or s.failed or not math.isfinite(_last(s))}
        return sorted(map(math.log10, gone))

    def until(self, share: float) -> float:
        """Return the epochs with which a rung ends: whole steps."""
        return step_of(share * self.study.epochs, self.steps_per_epoch) / self.steps_per_epoch

    def is_done(self, trial: Trial, share: float) -> bool:
        """Whether a trial was carried to a share of the horizon, or can be carried no further."""
        standing = self.results.get(trial)
        return standing is not None and (standing.ended or standing.failed or self._is_past(standing, share))

    def _is_past(self, standing: Standing, share: float) -> bool:
        return standing.epochs >= min(self.until(share), share * self.study.epochs) * (1 - 1e-9)

    def reached(self, share: float) -> dict[float, dict[int, float]]:
        """Return y by seed of the rates that were carried to a share of the horizon, and on maybe.

        At the horizon that is their last evaluation up to it; at a rung the one nearest to where trials were evaluated there.
        """
        epochs = share * self.study.epochs
        of = {
            trial: standing
            for trial, standing in self.results.items()
            if trial.horizon is None or math.isclose(trial.horizon, epochs)
        }
        # A pause falls on a whole step, and where a table is replayed on its next evaluation.
        late = epochs * SECOND / FIRST / SAME  # from there on it is the next rung
        times = {e for standing in of.values() for e, _ in standing.scores if epochs / SAME < e < late}
        rung = min(times, key=lambda e: (abs(math.log(e / epochs)), e), default=epochs)
        found: dict[float, dict[int, float]] = {}
        for trial, standing in sorted(of.items(), key=lambda one: one[0].seed):
            after = [e for e, _ in standing.scores if e > 0]
            if share < 1:
                after = [e for e in after if rung / SAME < e < rung * SAME]
            elif not standing.ended and self._is_past(standing, 1.0):
                after = [e for e in after if e <= max(epochs, self.until(1.0)) * (1 + 1e-9)]
            else:
                continue
            if not after:
                continue
            at = min(after, key=lambda e: (abs(math.log(e / rung)), e)) if share < 1 else max(after)
            upto = [value for e, value in standing.scores if 0 < e <= at]
            if math.isfinite(upto[-1]):
                evens = self.scale.even(np.array(upto))
                y = float(np.nanmin(evens) if self.study.select == "best" else evens[-1])
                found.setdefault(math.log10(trial.lr), {})[trial.seed] = y
        return {x: found[x] for x in sorted(found)}

    def at(self, share: float) -> dict[float, float]:
        """Return the mean y of these rates; at a rung without those of which more is known: that they end where they began."""
        gone = {*self.lost, *(self.still if share < 1 else ())}
        return {x: float(np.mean([*of.values()])) for x, of in self.reached(share).items() if x not in gone}

    @cached_property
    def full(self) -> dict[float, float]:
        """The mean y at the horizon."""
        return self.at(1.0)

    @cached_property
    def still(self) -> list[float]:
        """Rates that ended where they had started, or worse."""
        return [x for x in self._unmoved(1.0) if x not in self.lost]

    def moved(self, share: float) -> bool:
        """Whether any rate is better at a rung than before training, as far as that is known."""
        return not {*self.at(share)} <= {*self._unmoved(share)}

    def _unmoved(self, share: float) -> list[float]:
        """Return the rates that are no better than before training; each seed began elsewhere."""
        found = []
        for x, of in self.reached(share).items():
            gains = [self.starts[seed] - y for seed, y in of.items() if seed in self.starts]
            if gains and np.mean(gains) <= MOVED:
                found.append(x)
        return found

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
        whole, rung = (self._sum_of_factors(of) for of in (1.0, share))
        if min(whole, rung) <= 0:  # a schedule that has not begun by the rung
            return math.log10(1 / share)
        return max(0.0, math.log10(whole / rung))

    def _sum_of_factors(self, share: float) -> float:
        """Return the sum of the schedule's factors up to a rung, which ends its own horizon where the schedule has one."""
        recipe = self.study.recipe
        if recipe.schedule == "constant" and not recipe.warmup:
            return share
        last, horizon = (step_of(of * self.study.epochs, self.steps_per_epoch) for of in (share, 1.0))
        picked = np.unique(np.linspace(1, last, MOST_STEPS).round().astype(int))
        factors = [
            recipe.factor(
                int(step),
                steps_per_epoch=self.steps_per_epoch,
                horizon_step=last if recipe.depends_on_horizon else horizon,
            )
            for step in picked
        ]
        return last * float(np.mean(factors))

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
        drawn = None if table.why_no_curve else draw([table], DRAWS)
        return conclude(table, drawn, draws=DRAWS)

    def margin(self, made: Answer, pick: int) -> float:
        """Return δ in the metric's unit, as the analysis would take it."""
        assert self.study.objective is not None
        best = float(self.scale.metric(made.noise.mean[pick]))
        gain = abs(best - float(self.scale.metric(self.start))) if math.isfinite(self.start) else 0.0
        return noise.margin(self.study.objective.margin, made.noise.sd(pick), self.scale, best, math.nan, gain)[0]


def _last(standing: Standing) -> float:
    """Return the last score, or 0 where there is none since training began (a loss over training steps has none before)."""
    return standing.scores[-1][1] if standing.scores and standing.scores[-1][0] > 0 else 0.0
