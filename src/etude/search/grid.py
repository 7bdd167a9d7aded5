"""The whole grid: every trial is carried to the horizon."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from etude.search import Decision, Request, Standing, rungs, spacing
from etude.spec.budget import GRID_RATES, GRID_SEEDS
from etude.spec.study import Study
from etude.spec.trial import Trial

FRESH = Standing(epochs=0.0, ended=False)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Asks once for each trial that has not ended and is short of the study's epochs; the budget is not looked at."""

    def ask(self, study: Study, results: Mapping[Trial, Standing], budget: float | None = None) -> Decision:
        """See `etude.search.Searcher`."""
        del budget
        standings = {trial: results.get(trial, FRESH) for trial in study.trials()}
        return Decision(
            requests=tuple(
                Request(trial=trial, epochs=study.epochs)
                for trial, standing in standings.items()
                if not standing.ended and standing.epochs < study.epochs
            ),
            why="every rate and seed of the study",
        )


@dataclass(frozen=True, kw_only=True)
class Full:
    """The full grid of a range: ``rates`` from ``low`` to ``high``, both ends among them, each with the first ``seeds`` seeds.

    As much of it as the budget carries, seed by seed, in an order of which any beginning is spread over the range: a small
    budget buys a coarser grid.
    """

    low: float
    high: float
    rates: int = GRID_RATES
    seeds: int = GRID_SEEDS

    def ask(self, study: Study, results: Mapping[Trial, Standing], budget: float | None) -> Decision:
        """See `etude.search.Searcher`."""
        left = math.inf if budget is None else budget
        lrs = [spacing.rate(self.low, self.high, i / (self.rates - 1)) for i in spacing.order(self.rates)]
        places = [rungs.at(study, results, lr, seed, study.epochs) for seed in study.seeds[: self.seeds] for lr in lrs]
        asked = []
        for place in places:
            left -= place.left
            if place.value is None and left >= 0:
                asked.append(place.request("of the grid"))
        whole = all(place.value is not None for place in places)
        return Decision(
            requests=tuple(asked),
            why="the grid, as much of it as the budget carries"
            if asked
            else "the grid is trained"
            if whole
            else "the budget carries no further trial",
        )
