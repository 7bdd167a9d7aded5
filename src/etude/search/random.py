"""Random search (Bergstra & Bengio 2012, JMLR 13): rates drawn evenly on a log scale, each to the horizon."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from etude.search import Decision, Request, Standing, rungs, spacing
from etude.spec.study import Study
from etude.spec.trial import Trial

BATCH = 4  # trials at a time; which rates are drawn does not depend on it
MOST = 10_000  # draws, after which the range holds no rate that has not been tried


@dataclass(frozen=True, kw_only=True)
class Random:
    """Draws rates from ``low`` to ``high`` and trains each with the study's first seed, until the budget is spent.

    ``seed`` is that of the draws: the n-th rate is the same whatever the others brought.
    """

    low: float
    high: float
    seed: int = 0

    def ask(self, study: Study, results: Mapping[Trial, Standing], budget: float | None) -> Decision:
        """See `etude.search.Searcher`."""
        left = math.inf if budget is None else budget
        draw = random.Random(self.seed)
        asked: dict[Trial, Request] = {}
        for _ in range(MOST):
            lr = spacing.rate(self.low, self.high, draw.random())
            place = rungs.at(study, results, lr, study.seeds[0], study.epochs)
            if place.value is not None or place.trial in asked:
                continue
            left -= place.left
            if left < 0 or len(asked) == BATCH:
                break
            asked[place.trial] = place.request("drawn at random")
        return Decision(
            requests=tuple(asked.values()),
            why="the next rates drawn" if asked else "the budget carries no further rate to the horizon",
        )
