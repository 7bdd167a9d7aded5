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


# Runs beside each other have no order: hues that colour-blind eyes tell apart (after Okabe and Ito 2008), dark enough for text.
_RUNS = ("#0072b2", "#c2500a", "#00805c", "#9c3d7f", "#8a6d00", "#3d4a5c")
_DASHES = ("-", "--", "-.", ":")


def run_colour(index: int) -> str:
    """Return the colour of the run at a place in a comparison."""
    return _RUNS[index % len(_RUNS)]


def run_dash(index: int) -> str:
    """Return the line style of the run: another one where the colours begin anew."""
    return _DASHES[index // len(_RUNS) % len(_DASHES)]
