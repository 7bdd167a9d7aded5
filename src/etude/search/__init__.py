"""Which trials to carry on next, given the results so far. A searcher is a pure function of what is stored."""

from __future__ import annotations

from dataclasses import dataclass

from etude.spec.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Request:
    """Carry ``trial`` on until ``epochs``."""

    trial: Trial
    epochs: float


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How many epochs of a trial are done; ``ended`` when it diverged. One that failed is tried again."""

    epochs: float
    ended: bool
