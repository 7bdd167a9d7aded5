"""Colours: rates run from cold to hot over log η, lightness rising steadily: it reads in grey and for colour-blind eyes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.colors

INK, QUIET, GRID = "#1d2433", "#667085", "#e3e6ec"
_RAMP = matplotlib.colors.LinearSegmentedColormap.from_list(
    "etude", ["#26358c", "#70419c", "#bd4667", "#dd7a24"], N=256
)


def ramp() -> matplotlib.colors.Colormap:
    """Return the colour map from the lowest rate (0) to the highest (1)."""
    return _RAMP


def colours(lrs: Sequence[float]) -> dict[float, str]:
    """Return a colour for each rate by its place between the lowest and the highest, on a log scale."""
    low, high = math.log(min(lrs)), math.log(max(lrs))
    return {
        lr: matplotlib.colors.to_hex(_RAMP((math.log(lr) - low) / (high - low) if high > low else 0.5)) for lr in lrs
    }
