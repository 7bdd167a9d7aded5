"""The scale of a metric: where its noise is even, and how a person reads it. Found from its name and range, and said.

Seeds scatter in proportion to the error or the loss that is left, so noise is pooled on the logarithm of either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Scale:
    """``kind`` is ``share`` (an accuracy in [0, 1]), ``positive`` (a loss) or ``linear``; ``sign`` is +1 where more is better."""

    kind: str
    sign: int

    def level(self, value: float) -> float:
        """Return the quantity that noise is proportional to: the error left, the loss, or 1."""
        if self.kind == "share":
            return max(1.0 - value, 1e-4)
        return max(abs(value), 1e-12) if self.kind == "positive" else 1.0

    def text(self, value: float) -> str:
        """Write a value: ``98.9 %`` or ``0.0421``."""
        if not np.isfinite(value):
            return "not finite"
        return f"{100 * value:.{self._decimals(1 - value)}f} %" if self.kind == "share" else f"{value:.3g}"

    def gap_text(self, gap: float) -> str:
        """Write a difference: ``1.6 points`` or ``0.0032``."""
        if self.kind == "share":
            return f"{100 * gap:.{2 if abs(gap) < 0.00095 else 1}f} points"
        return f"{gap:.2g}"

    @staticmethod
    def _decimals(error: float) -> int:
        return 2 if 0 < error < 0.0095 else 1


def find_scale(direction: str, values: Iterable[float]) -> Scale:
    """Find the scale from the finite values seen: all in [0, 1] and to be maximized, all positive, or neither."""
    finite = np.array([value for value in values if np.isfinite(value)])
    sign = 1 if direction == "maximize" else -1
    if len(finite) and sign > 0 and finite.min() >= 0 and finite.max() <= 1:
        return Scale(kind="share", sign=sign)
    if len(finite) and sign < 0 and finite.min() > 0:
        return Scale(kind="positive", sign=sign)
    return Scale(kind="linear", sign=sign)
