"""Optuna's searcher (Akiba et al. 2019, arXiv 1907.10902): a tree-structured Parzen estimator, with a pruner.

Nothing of Optuna is stored. At each question its study is played again from the results: it asks for the rates that it asked
for (the n-th sampler has the n-th seed), is told what they brought, and the first thing that is not known yet is what is to be
trained. So the search goes on after a crash as if there had been none, and depends on nothing but the results.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from etude.counted import derive
from etude.errors import SpecError, nearest
from etude.notation import rounded
from etude.search import Decision, Standing, rungs
from etude.spec.study import Study
from etude.spec.trial import Trial

PRUNERS = ("median", "hyperband")
REPORTS = 9  # of a whole trial, after each of which it may be pruned
ETA = 3  # Hyperband's reduction factor, Optuna's default; it prunes at 1/9 and 1/3, at 1/3, or not at all
MOST = 1_000  # trials, after which nothing new can be expected of a range


@dataclass(frozen=True, kw_only=True)
class Optuna:
    """Searches from ``low`` to ``high`` with Optuna's own settings, one trial after another, with the study's first seed.

    A pruned trial is one that is not carried on; one that diverged counts as pruned where it did. With a schedule that
    depends on the horizon there are three rungs, a ninth, a third and the whole of it, each a trial of its own.

    Raises `SpecError` for a pruner that there is not, and where Optuna is not installed.
    """

    low: float
    high: float
    pruner: str = "median"
    seed: int = 0
    # Rates by what had been told before they were drawn; to draw one again would give the same, and takes milliseconds.
    _drawn: dict[Any, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.pruner not in PRUNERS:
            raise SpecError(f"optuna: no pruner is named {self.pruner!r}{nearest(self.pruner, PRUNERS)}")
        _optuna()

    def ask(self, study: Study, results: Mapping[Trial, Standing], budget: float | None) -> Decision:
        """See `etude.search.Searcher`."""
        assert study.objective is not None
        left = math.inf if budget is None else budget
        fixed = study.trial(self.low, study.seeds[0], study.epochs).horizon is None
        reports = range(1, REPORTS + 1) if fixed else [REPORTS // ETA**2, REPORTS // ETA, REPORTS]
        with _quiet(_optuna()) as optuna:
            played = optuna.create_study(
                study_name="etude",  # which Hyperband takes a trial's bracket from
                direction=study.objective.direction,
                pruner=self._pruner(optuna),
            )
            told: list[Any] = [study.objective.direction, len(reports)]
            for n in range(MOST):
                drawn = self._drawn.get(tuple(told))
                if drawn is None:
                    played.sampler = optuna.samplers.TPESampler(seed=derive("rate", self.seed, n) % 2**32)
                else:
                    played.enqueue_trial({"lr": drawn})
                asked = played.ask()
                drawn = self._drawn[tuple(told)] = asked.suggest_float("lr", self.low, self.high, log=True)
                lr, values = rounded(drawn), [drawn]
                for report in reports:
                    epochs, before = (study.epochs * part / REPORTS for part in (report, report - 1))
                    place = rungs.at(study, results, lr, study.seeds[0], epochs, before)
                    if place.value is None:
                        why = f"trial {n + 1}, {report} of {REPORTS} parts of the horizon"
                        if place.left > left:
                            return Decision(why=f"the budget does not carry {why}")
                        return Decision(requests=(place.request("as the Parzen estimator has it"),), why=why)
                    asked.report(place.value, report)
                    values.append(place.value)
                    if not math.isfinite(place.value) or (report < REPORTS and asked.should_prune()):
                        played.tell(asked, state=optuna.trial.TrialState.PRUNED)
                        break
                else:
                    played.tell(asked, place.value)
                told.append(tuple(values))
        return Decision(why=f"{MOST} trials were asked for")

    def _pruner(self, optuna: Any) -> Any:
        if self.pruner == "median":
            return optuna.pruners.MedianPruner()
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=REPORTS, reduction_factor=ETA)


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError:
        raise SpecError("searcher: optuna is not installed; pip install 'etude[optuna]'") from None
    return optuna


@contextlib.contextmanager
def _quiet(optuna: Any) -> Iterator[Any]:
    """Have Optuna say nothing of the studies that are played again, and leave it as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)
