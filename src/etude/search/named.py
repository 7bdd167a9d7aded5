"""Searchers by the names that are typed."""

from __future__ import annotations

from etude.errors import SpecError, nearest
from etude.search import Searcher
from etude.search.adaptive import Adaptive

SEARCHERS = ("adaptive",)


def make(name: str, low: float, high: float, bracket: tuple[float, float] | None = None) -> Searcher:
    """Return the searcher of a name for the rates from ``low`` to ``high``; ``bracket`` is where it looks first.

    Raises `SpecError` for a name that there is not.
    """
    if not isinstance(name, str) or name not in SEARCHERS:
        raise SpecError(f"searcher: no searcher is named {name!r}{nearest(str(name), SEARCHERS)}")
    return Adaptive(low=low, high=high, bracket=bracket)
