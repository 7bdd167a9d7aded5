"""Where a trial stands at a rung, which is what successive halving and pruning compare. Knows no searcher."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from etude.search import Request, Standing
from etude.spec.study import Study
from etude.spec.trial import Trial

SLACK = 0.05  # of the horizon: so far before it a trial may end and count as whole, since it ends with a whole step


@dataclass(frozen=True, kw_only=True)
class Place:
    """A trial at a rung.

    ``epochs`` is the rung's and ``left`` what the trial still has to train to get there, 0 where it has been or never will
    be. ``value`` is the objective there: None before, NaN where the trial was lost on the way.
    """

    trial: Trial
    epochs: float
    left: float
    value: float | None

    def request(self, why: str) -> Request:
        """Ask for the trial to be carried to the rung."""
        return Request(trial=self.trial, epochs=self.epochs, why=why)


def at(
    study: Study, results: Mapping[Trial, Standing], lr: float, seed: int, epochs: float, before: float = 0.0
) -> Place:
    """Return where the trial of a rate and a seed stands at the rung of ``epochs``; ``before`` is the rung before it.

    With a schedule that depends on the horizon the rung is a trial of its own, which begins at 0. A rung ends with a whole
    step, so an evaluation counts for it from halfway between the two rungs on; the nearest one does.
    """
    trial = study.trial(lr, seed, epochs)
    standing = results.get(trial)
    if standing is None:
        return Place(trial=trial, epochs=epochs, left=epochs, value=None)
    halfway = (epochs + (before if trial.horizon is None else 0.0)) / 2
    slack = max(halfway, (1 - SLACK) * epochs) if epochs == study.epochs else halfway
    near = [(abs(epoch - epochs), value) for epoch, value in standing.scores if epoch > slack]
    if near:
        return Place(trial=trial, epochs=epochs, left=0.0, value=min(near, key=lambda one: one[0])[1])
    if standing.ended or standing.failed:
        return Place(trial=trial, epochs=epochs, left=0.0, value=math.nan)
    return Place(trial=trial, epochs=epochs, left=max(0.0, epochs - standing.epochs), value=None)
