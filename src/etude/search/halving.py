"""Successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943): many rates briefly, the best share of them on, and again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from etude.errors import SpecError
from etude.search import Decision, Standing, rungs, spacing
from etude.spec.study import Study
from etude.spec.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Searches from ``low`` to ``high`` in brackets of ``rates`` rates, of which the best 1/``eta`` go on at each rung.

    The last rung is the horizon, and each one before it ``eta`` times as short: 27 rates to 1/27 of the horizon, nine of them
    to 1/9, three to 1/3, one to the end, three full trials in all. The paper draws the arms; here they lie evenly on a log
    scale. What is left of the budget goes to further brackets, whose rates lie between those before: as large as it
    carries to the end, with ``eta`` times fewer rates each time that it does not. All trials have the study's first seed.

    Raises `SpecError` for an ``eta`` below 2, or fewer rates than that.
    """

    low: float
    high: float
    rates: int = 27
    eta: int = 3

    def __post_init__(self) -> None:
        if self.eta < 2 or self.rates < self.eta:
            raise SpecError(
                f"halving: expected an eta of 2 or more and at least as many rates, got eta {self.eta}, {self.rates} rates"
            )

    def ask(self, study: Study, results: Mapping[Trial, Standing], budget: float | None) -> Decision:
        """See `etude.search.Searcher`."""
        left = math.inf if budget is None else budget
        for bracket in itertools.count(1):
            size = self._size(study, results, bracket, left)
            if size is None:
                return Decision(why="the budget carries no further bracket")
            lrs = self.bracket(bracket, size)
            for rung, (epochs, before) in enumerate(self._rungs(size, study.epochs)):
                places = [rungs.at(study, results, lr, study.seeds[0], epochs, before) for lr in lrs]
                missing = [place for place in places if place.value is None]
                if missing:
                    spent = list(itertools.accumulate(place.left for place in missing))
                    why = f"rung {rung + 1} of bracket {bracket}: {len(places)} of {size} rates"
                    return Decision(
                        requests=tuple(
                            place.request("a first look" if not rung else f"among the best {len(places)} of {size}")
                            for place, cost in zip(missing, spent, strict=True)
                            if cost <= left
                        ),
                        why=why if spent[0] <= left else f"the budget does not carry {why}",
                    )
                lrs = self._survivors(study, places, max(1, size // self.eta ** (rung + 1)))
                if not lrs:
                    return Decision(why=f"no rate of bracket {bracket} got to {epochs:g} epochs with a finite value")
        raise AssertionError("brackets do not end")

    def bracket(self, n: int, size: int) -> list[float]:
        """Return the rates of the ``n``-th bracket, from 1, each in its part of the range, rising."""
        return [spacing.rate(self.low, self.high, (i + spacing.corput(n)) / size) for i in range(size)]

    def _rungs(self, size: int, horizon: float) -> list[tuple[float, float]]:
        """Return for each rung how far it goes, and how far the one before it went, in epochs."""
        count = 0
        while size >= self.eta ** (count + 1):
            count += 1
        ends = [horizon / self.eta ** (count - i) for i in range(count + 1)]
        return list(zip(ends, [0.0, *ends[:-1]], strict=True))

    def _size(self, study: Study, results: Mapping[Trial, Standing], bracket: int, left: float) -> int | None:
        """Return how many rates a bracket has: those that it began with, else as many as the budget carries to the end."""
        sizes = [self.rates]
        while sizes[-1] // self.eta >= self.eta:
            sizes.append(sizes[-1] // self.eta)
        carried = None
        for size in sizes:
            (epochs, before), *later = self._rungs(size, study.epochs)
            first = [rungs.at(study, results, lr, study.seeds[0], epochs, before) for lr in self.bracket(bracket, size)]
            missing = sum(place.left for place in first)
            if all(place.value is not None for place in first):
                return size
            again = study.trial(self.low, study.seeds[0], epochs).horizon is not None  # each rung from its start
            rest = sum(
                max(1, size // self.eta ** (i + 1)) * (end - (0 if again else start))
                for i, (end, start) in enumerate(later)
            )
            if carried is None and missing + rest <= left:
                carried = size
        return carried

    def _survivors(self, study: Study, places: list[rungs.Place], count: int) -> list[float]:
        """Return the best rates of a rung, the best first; where two are equal the lower one goes before."""
        assert study.objective is not None
        sign = -1.0 if study.objective.direction == "maximize" else 1.0
        alive = [
            (sign * place.value, place.trial.lr)
            for place in places
            if place.value is not None and math.isfinite(place.value)
        ]
        return [lr for _, lr in sorted(alive)[:count]]
