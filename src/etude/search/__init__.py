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
    """How far a trial got, in epochs asked for and done; ``ended`` when it diverged or failed and goes no further."""

    epochs: float
    ended: bool
