"""The scale of a metric: where its noise is even, and how a person reads it. Found from its name and range, and said.

Seeds scatter in proportion to the error or the loss that is left, so noise and the rate-response curve live on the
logarithm of either, turned so that lower is better.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from etude.notation import is_named_share, percent_text, significant, with_error


@dataclass(frozen=True, kw_only=True)
class Scale:
    """``kind`` is ``share`` (of ``top``, to be made large), ``positive`` (a loss) or ``linear``.

    ``sign`` is +1 where more is better; ``unit`` is a typical deviation, in which linear metrics are counted;
    ``floor`` is the smallest level told from nothing: half of the smallest error or loss seen.
    """

    kind: str
    sign: int
    top: float = 1.0
    floor: float = 1e-12
    unit: float = 1.0

    @property
    def name(self) -> str:
        """Say the scale: ``log error``, ``log`` or ``linear``."""
        return {"share": "log error", "positive": "log", "linear": "linear"}[self.kind]

    def level(self, value: Any) -> Any:
        """Return the quantity that noise is proportional to: the error left, the loss, or the unit."""
        if self.kind == "share":
            return np.maximum(self.top - value, self.floor)
        return np.maximum(value, self.floor) if self.kind == "positive" else np.full_like(value, self.unit, float)

    def even(self, value: Any) -> Any:
        """Return the value on the scale where noise is even; lower is better."""
        return -self.sign * np.asarray(value, float) / self.unit if self.kind == "linear" else np.log(self.level(value))

    def metric(self, even: Any) -> Any:
        """Return the metric that an even value stands for."""
        if self.kind == "linear":
            return -self.sign * np.asarray(even, float) * self.unit
        # A draw far over the cliff must neither overflow nor leave the range of a share.
        level = np.exp(np.minimum(even, 300.0))
        level = np.where(level <= self.floor * (1 + 1e-9), 0.0, level)
        return self.top - np.minimum(level, self.top) if self.kind == "share" else level

    def text(self, value: float) -> str:
        """Write a value: ``98.9 %`` or ``0.0421``."""
        if not np.isfinite(value):
            return "not finite"
        if self.kind != "share":
            return significant(value, 3)
        return percent_text(100 * value / self.top)

    def pm_text(self, value: float, error: float) -> str:
        """Write a value with its error: ``98.9 ± 0.1 %``; without one where the error is 0 or unknown."""
        said = self.text(value)
        if not (np.isfinite(error) and error > 0 and np.isfinite(value)):
            return said
        if self.kind != "share":
            return " ± ".join(with_error(float(value), float(error)))
        return f"{said.removesuffix(' %')} ± {self.gap_text(error).removesuffix(' points')} %"

    def gap_text(self, gap: float) -> str:
        """Write a difference: ``1.6 points`` or ``0.0032``."""
        if self.kind != "share":
            return significant(gap, 2)
        points = 100 * gap / self.top
        return f"{points:.{2 if 0 < abs(points) < 0.095 else 1}f} points"


def find_scale(
    direction: str, values: Iterable[float], metric: str = "", final: Iterable[float] | None = None
) -> Scale:
    """Find the scale from the name and the finite values seen; its floor from the ``final`` ones alone, where they are given.

    A share: to be maximized and all in [0, 1] (or in [0, 100], where the name is that of a share); a positive one: to be
    minimized, none below 0 and not all 0; else linear.
    """
    finite = np.fromiter(values, float)
    finite = finite[np.isfinite(finite)]
    ends = finite if final is None else np.fromiter(final, float)
    ends = ends[np.isfinite(ends)]
    sign = 1 if direction == "maximize" else -1
    if not len(finite) or finite.min() < 0:
        return _linear(finite, sign)
    if sign > 0:
        top = 1.0 if finite.max() <= 1 else 100.0
        if finite.max() > top or (top > 1 and not is_named_share(metric)):
            return _linear(finite, sign)
        return Scale(kind="share", sign=sign, top=top, floor=_floor(top - ends, 1e-4 * top))
    if finite.max() == 0:
        return _linear(finite, sign)
    return Scale(kind="positive", sign=sign, floor=_floor(ends, 1e-6 * float(finite.max())))


def _linear(finite: np.ndarray[Any, Any], sign: int) -> Scale:
    away = np.abs(finite - np.median(finite)) if len(finite) else finite
    unit = next((float(u) for u in (np.median(away), away.max()) if u > 0), 1.0) if len(finite) else 1.0
    return Scale(kind="linear", sign=sign, unit=unit)


def _floor(levels: np.ndarray[Any, Any], default: float) -> float:
    above = levels[levels > 0]
    return float(above.min() / 2) if len(above) else default
