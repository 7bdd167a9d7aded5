"""What the curves say: arrays in, values out. No torch, no files, no clock, and no randomness that is not seeded.

`analyse` is the one way in. The order of work: noise (the margin δ) → dynamics (a trial) → grade and verdict (a rate)
→ recommendation; `reading` puts the evidence into sentences.
"""

from etude.analysis.analyse import VERSION, analyse
from etude.analysis.values import Analysis, Curve, NextRun, RateReading, Recommendation, TrialReading

__all__ = ["VERSION", "Analysis", "Curve", "NextRun", "RateReading", "Recommendation", "TrialReading", "analyse"]
