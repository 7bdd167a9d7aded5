"""Ray Tune's asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), so that it can be played against stored sweeps.

Ray's own `ASHAScheduler`, with its own settings, decides at each report whether a trial goes on; rates are drawn evenly on a log
scale, as Ray's ``tune.loguniform`` draws them. In Ray trials run side by side, and what is decided depends on who reports first:
here ``WORKERS`` of them run at equal speed, so that the same results decide alike.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from types import SimpleNamespace

from etude.search import Decision, Standing, rungs, spacing
from etude.search.optuna import REPORTS
from etude.spec.study import Study
from etude.spec.trial import Trial

WORKERS = 2  # trials side by side
MOST = 1_000  # trials, after which nothing new can be expected of a range


@dataclass(frozen=True, kw_only=True)
class Asha:
    """Searches from ``low`` to ``high`` with the study's first seed; ``seed`` is that of the draws."""

    low: float
    high: float
    seed: int = 0

    def ask(self, study: Study, results: Mapping[Trial, Standing], budget: float | None) -> Decision:
        """See `etude.search.Searcher`."""
        from ray.tune.schedulers import ASHAScheduler, TrialScheduler

        assert study.objective is not None
        left = math.inf if budget is None else budget
        scheduler = ASHAScheduler(metric="value", mode=study.objective.direction[:3], max_t=REPORTS)
        draw, trials = random.Random(self.seed), count(1)
        running: list[tuple[int, int, int, float]] = []  # (when it reports, trial, report, rate)

        def begin(now: int) -> None:
            n = next(trials)
            scheduler.on_trial_add(None, SimpleNamespace(trial_id=str(n)))
            heapq.heappush(running, (now + 1, n, 1, spacing.rate(self.low, self.high, draw.random())))

        for _ in range(WORKERS):
            begin(0)
        while running[0][1] <= MOST:
            now, n, report, lr = heapq.heappop(running)
            epochs, before = (study.epochs * part / REPORTS for part in (report, report - 1))
            place = rungs.at(study, results, lr, study.seeds[0], epochs, before)
            if place.value is None:
                why = f"trial {n}, {report} of {REPORTS} parts of the horizon"
                if place.left > left:
                    return Decision(why=f"the budget does not carry {why}")
                return Decision(requests=(place.request("drawn at random"),), why=why)
            trial, said = SimpleNamespace(trial_id=str(n)), {"training_iteration": report, "value": place.value}
            if not math.isfinite(place.value):
                scheduler.on_trial_remove(None, trial)  # it has broken off
                begin(now)
            elif scheduler.on_trial_result(None, trial, said) == TrialScheduler.STOP:
                scheduler.on_trial_complete(None, trial, said)
                begin(now)
            else:
                heapq.heappush(running, (now + 1, n, report + 1, lr))
        return Decision(why=f"{MOST} trials were asked for")
