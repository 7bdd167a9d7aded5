"""What happens while a run trains, as values for whoever listens. Everything in them is stored, or about to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from etude.engine.history import History
from etude.execution.plan import Plan
from etude.searched import Search
from etude.spec.study import Study
from etude.spec.trial import Trial
from etude.store import StoredTrial


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """The task's own code has been at work for ``seconds`` before the first step: ``place`` is where in it, or empty.

    Told from a thread of its own, of what takes ten seconds, then twice as long, and so on.
    """

    seconds: float
    place: str


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """A search is about to begin: what a step and an epoch take in one process, and what the budget buys.

    ``trials`` are whole trials' worth of the search's ``epochs``, in ``seconds`` with all workers; ``spent_trials`` of them
    and ``spent_s`` were spent in earlier calls. ``disk_bytes`` is what the weights of a trial take.
    """

    directory: Path
    search: Search
    plan: Plan
    step_s: float
    epoch_s: float
    trials: float
    seconds: float
    spent_trials: float
    spent_s: float
    disk_bytes: int


@dataclass(frozen=True, kw_only=True)
class Started:
    """Training begins; of all ``trials``, ``wanted`` are carried on (maybe none). ``notices`` are worth a line each.

    A search wants none at first: it decides (`Decided`).
    """

    directory: Path
    study: Study
    plan: Plan
    trials: tuple[StoredTrial, ...]
    wanted: frozenset[Trial]
    resumed: bool
    notices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A search has decided, for the ``number``-th time: ``wanted`` are carried on now, or none, which ends it."""

    number: int
    why: str
    trials: tuple[StoredTrial, ...]
    wanted: frozenset[Trial]
    left_trials: float  # what the budget then still buys, ``wanted`` not yet paid


@dataclass(frozen=True, kw_only=True)
class Advanced:
    """A slice of a trial has been committed; ``end_step`` is where it is carried to for now."""

    trial: Trial
    step: int
    end_step: int
    history: History


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A trial's code raised, or it was stopped; the others go on."""

    trial: Trial
    reason: str


Event = Preparing | Estimated | Started | Decided | Advanced | Failed
