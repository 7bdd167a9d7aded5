"""Where curves begin: what a metric was before training, which tells whether a rate moved at all and how much was gained.

A curve has it at step 0. Where it was not recorded there, that of the study's other curves serves: the same model, not yet
trained. Where no curve has it, the two lowest rates may tell: if their first values are alike although their rates differ, neither
had learned anything by then.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from etude.analysis.dynamics import STALLED_MOVE
from etude.analysis.values import Curve, Floats


def level_name(curve: Curve) -> str | None:
    """Return the loss by which a curve's movement is measured, None where it has none."""
    return next((n for n in ("val_loss", "train_loss") if n in curve.metrics and len(curve.metrics[n])), None)


class Begins:
    """Of the curves of one study. ``late``: none has a value at step 0, and some have several; ``unmoved``: the rates that tell."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        self._curves = [curve for curve in curves if len(curve.steps)]
        self._known: dict[str, float] = {}
        self._usual: dict[str, float] = {}
        self.late = any(len(c.steps) > 1 for c in curves) and all(c.steps[0] > 0 for c in self._curves)
        self.unmoved = self._find_unmoved() if self.late else ()

    def before(self, curve: Curve, name: str | None) -> float:
        """Return a metric of a curve before training, NaN where nothing tells it."""
        if name is None or name not in curve.metrics or not len(curve.steps):
            return math.nan
        own = float(curve.metrics[name][0]) if curve.steps[0] == 0 else math.nan
        if math.isfinite(own):
            return own
        if name not in self._known:
            at_0 = [float(c.metrics[name][0]) for c in self._curves if name in c.metrics and c.steps[0] == 0]
            self._known[name] = _middle(at_0 or self._firsts(name, self.unmoved))
        return self._known[name]

    def about(self, curve: Curve, name: str | None) -> float:
        """Return the same, or else the middle one of all first values: one run that blew up at first does not make it."""
        before = self.before(curve, name)
        if math.isfinite(before) or name is None:
            return before
        if name not in self._usual:
            self._usual[name] = _middle(self._firsts(name, {c.lr for c in self._curves}))
        return self._usual[name]

    def _firsts(self, name: str, lrs: Collection[float]) -> list[float]:
        return [float(c.metrics[name][0]) for c in self._curves if c.lr in lrs and name in c.metrics]

    def _find_unmoved(self) -> tuple[float, ...]:
        lrs = tuple(sorted({curve.lr for curve in self._curves}))
        name = next((found for curve in self._curves if (found := level_name(curve)) is not None), None)
        if name is None or len(lrs) <= 2:
            return ()
        first, second = (_middle(self._firsts(name, [lr])) for lr in lrs[:2])
        lowest = min((low for c in self._curves if math.isfinite(low := least(c.metrics.get(name)))), default=math.inf)
        return lrs[:2] if abs(first - second) <= STALLED_MOVE * (max(first, second) - lowest) else ()


def least(values: Floats | None) -> float:
    """Return the smallest finite value, NaN where there is none."""
    finite = np.empty(0) if values is None else values[np.isfinite(values)]
    return float(finite.min()) if len(finite) else math.nan


def _middle(values: Collection[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.median(finite)) if finite else math.nan
