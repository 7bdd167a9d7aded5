"""The whole grid: every trial of the study is carried to the horizon."""

from __future__ import annotations

from collections.abc import Mapping

from etude.search import Request, Standing
from etude.spec.study import Study
from etude.spec.trial import Trial


def ask(study: Study, results: Mapping[Trial, Standing], budget: float | None = None) -> list[Request]:
    """Return a request for each trial that has not ended and is short of the study's epochs; ``budget`` is not looked at."""
    del budget
    fresh = Standing(epochs=0.0, ended=False)
    return [
        Request(trial=trial, epochs=study.epochs)
        for trial in study.trials()
        if not results.get(trial, fresh).ended and results.get(trial, fresh).epochs < study.epochs
    ]
