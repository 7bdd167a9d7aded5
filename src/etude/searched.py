"""What a search has asked for, spent and said so far, read from a run directory. It decides nothing, and knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etude.spec.budget import GRID_TRIALS, Budget
from etude.spec.trial import Trial
from etude.store import UNFINISHED, Stored, StoredTrial

IGNORED = (
    "so the optimizer ignores its rate"  # in why a search ended; what is judged of its rates leads no further then
)


@dataclass(frozen=True, kw_only=True)
class Search:
    """How a search was asked for, as the store keeps it: in the study, under ``search``.

    It looks for a rate from ``low`` to ``high`` (``range_source``: given, range test or usual) for ``epochs``, with any of
    ``seeds``, in their order. ``bracket``, from a range test of ``bracket_steps``, is where it looks first.
    """

    searcher: str
    low: float
    high: float
    range_source: str
    budget: Budget
    epochs: float
    seeds: tuple[int, ...]
    bracket: tuple[float, float] | None = None
    bracket_steps: int = 0

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Search:
        """Read it back."""
        bracket = table["bracket"] and tuple(table["bracket"])
        return cls(**{**table, "budget": Budget(**table["budget"]), "seeds": tuple(table["seeds"]), "bracket": bracket})

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {**vars(self), "budget": self.budget.to_dict(), "seeds": list(self.seeds)}


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A search and what is stored of it; a trial's worth is ``full_steps``, those to the horizon."""

    search: Search
    stored: Stored
    steps_per_epoch: int

    @classmethod
    def of(cls, stored: Stored) -> Searched | None:
        """Read a run directory's search, None where nobody has searched in it."""
        table = stored.study.get("search")
        if table is None:
            return None
        return cls(
            search=Search.from_dict(table), stored=stored, steps_per_epoch=int(stored.identity["steps_per_epoch"])
        )

    @property
    def full_steps(self) -> float:
        """Steps of a trial to the horizon."""
        return self.search.epochs * self.steps_per_epoch

    @property
    def steps(self) -> int:
        """Steps that were trained because the search asked for them, each once, and those of its range test.

        What `run` trained is free.
        """
        known = {trial.trial: trial.step for trial in self.stored.trials}
        counted: dict[Trial, int] = {}
        total = self.search.bracket_steps
        for decision in self.stored.decisions:
            for request in decision.requests:
                trial = trial_of(request)
                reached = min(known.get(trial, 0), request["until_step"])
                begun = max(request["from_step"], counted.get(trial, 0))
                total += max(0, reached - begun)
                counted[trial] = max(begun, reached)
        return total

    @property
    def trials(self) -> float:
        """How many trials to the horizon these steps would make."""
        return self.steps / self.full_steps

    @property
    def share(self) -> float:
        """What share of a full grid these steps are."""
        return self.trials / GRID_TRIALS

    @property
    def ended(self) -> str | None:
        """Why the search ended; None while it goes on."""
        last = self.stored.decisions[-1] if self.stored.decisions else None
        return last.why if last is not None and not last.requests else None

    @property
    def open_requests(self) -> tuple[dict[str, Any], ...]:
        """The requests of the last decision that are not carried out: a crash came between."""
        if not self.stored.decisions:
            return ()
        known = {trial.trial: trial for trial in self.stored.trials}
        return tuple(
            request
            for request in self.stored.decisions[-1].requests
            if (trial := known[trial_of(request)]).status in UNFINISHED and trial.step < request["until_step"]
        )

    @property
    def asked(self) -> set[Trial]:
        """All trials that it has asked for, to whatever epoch."""
        return {trial_of(request) for of in self.stored.decisions for request in of.requests}

    @property
    def ignores_rate(self) -> bool:
        """Whether it ended because the optimizer ignores its rate, so that there is none to look for."""
        return self.ended is not None and IGNORED in self.ended

    def may_rest(self, trial: StoredTrial) -> bool:
        """Whether an unfinished trial is one that the search chose not to carry on, not one that somebody waits for."""
        return trial.epochs <= self.search.epochs and trial.trial in self.asked

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values, for `etude.Result.to_dict`."""
        return {
            **self.search.to_dict(),
            "decisions": [{"why": of.why, "requests": list(of.requests)} for of in self.stored.decisions],
            "cost": {
                "steps": self.steps,
                "trials": self.trials,
                "share_of_grid": self.share,
                "seconds": self.stored.searched_s,
            },
            "ended": self.ended,
        }


def trial_of(request: Mapping[str, Any]) -> Trial:
    """Return the trial that a stored request is about."""
    return Trial(lr=request["lr"], seed=request["seed"], horizon=request["horizon"])
