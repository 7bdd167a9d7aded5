"""Searchers by the names that are typed."""

from __future__ import annotations

from collections.abc import Callable

from etude.errors import SpecError, nearest
from etude.notation import format_rate
from etude.search import Searcher
from etude.search.adaptive import Adaptive
from etude.search.grid import Full
from etude.search.halving import Halving
from etude.search.optuna import Optuna
from etude.search.random import Random

SEARCHERS = ("adaptive", "grid", "random", "halving", "optuna")


def make(
    name: str, low: float, high: float, bracket: tuple[float, float] | None = None, steps_per_epoch: int = 100,
    workers: int = 1,
) -> Searcher:  # fmt: skip
    """Return the searcher of a name for the rates from ``low`` to ``high``; the rest is told to `Adaptive`.

    Raises `SpecError` for a name that there is not, a range that is none, and for Optuna where it is not installed.
    """
    if not isinstance(name, str) or name not in SEARCHERS:
        raise SpecError(f"searcher: no searcher is named {name!r}{nearest(str(name), SEARCHERS)}")
    if not 0 < low < high:
        raise SpecError(f"searcher: expected a range of rates that rises, got {format_rate(low)}..{format_rate(high)}")
    if name == "adaptive":
        return Adaptive(low=low, high=high, bracket=bracket, steps_per_epoch=steps_per_epoch, workers=workers)
    peers: dict[str, Callable[..., Searcher]] = {"grid": Full, "random": Random, "halving": Halving, "optuna": Optuna}
    return peers[name](low=low, high=high)
