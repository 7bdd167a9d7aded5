"""Coarse rates first and briefly, then only what may be best to the horizon."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from etude.notation import rounded
from etude.search import Decision, Request, Standing
from etude.spec.study import Study
from etude.spec.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Searches from ``low`` to ``high``; ``bracket``, from a range test, is where it looks first."""

    low: float
    high: float
    bracket: tuple[float, float] | None = None

    def ask(self, study: Study, results: Mapping[Trial, Standing], budget: float | None) -> Decision:
        """See `etude.search.Searcher`."""
        count = max(2, round(math.log10(self.high / self.low)) + 1)
        rates = [rounded(self.low * (self.high / self.low) ** (i / (count - 1))) for i in range(count)]
        seed, rung = study.seeds[0], study.epochs / 8
        left = math.inf if budget is None else budget
        if not results:
            few = rates[: max(0, int(left / rung))]
            return Decision(
                requests=tuple(
                    Request(trial=study.trial(lr, seed, rung), epochs=rung, why="a first look") for lr in few
                ),
                why="a first look at the whole range",
            )
        sign = 1.0 if study.objective is not None and study.objective.direction == "maximize" else -1.0
        known = {trial: standing for trial, standing in results.items() if not standing.ended and standing.scores}
        best = sorted(known, key=lambda trial: -sign * known[trial].scores[-1][1])[:3]
        wanted = [trial for trial in best if known[trial].epochs < study.epochs]
        asked = []
        for trial in wanted:
            left -= study.epochs - known[trial].epochs
            if left >= 0:
                full = study.trial(trial.lr, trial.seed, study.epochs)
                asked.append(Request(trial=full, epochs=study.epochs, why="among the best so far"))
        return Decision(
            requests=tuple(asked), why="the best so far to the horizon" if asked else "nothing is left to ask"
        )
