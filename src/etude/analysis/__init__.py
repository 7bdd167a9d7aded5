"""What the curves say: arrays in, values out. No torch, no files, no clock, and no randomness that is not seeded.

`analyse` is the one way in. The order of work: noise (the margin δ) → dynamics (a trial) → grade and verdict (a rate)
→ recommendation; `reading` puts the evidence into sentences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etude.analysis.values import Analysis, Curve, NextRun, RateReading, Recommendation, TrialReading

if TYPE_CHECKING:
    from etude.analysis.analysing import VERSION, analyse

__all__ = ["VERSION", "Analysis", "Curve", "NextRun", "RateReading", "Recommendation", "TrialReading", "analyse"]


def __getattr__(name: str) -> Any:
    """Import the work itself, and with it SciPy, when it is asked for: a stored answer is shown without."""
    if name not in ("VERSION", "analyse"):
        raise AttributeError(f"module 'etude.analysis' has no attribute {name!r}")
    from etude.analysis import analysing

    return getattr(analysing, name)
