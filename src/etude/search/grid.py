"""The whole grid: every trial of the study is carried to the horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from etude.search import Decision, Request, Standing
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
