"""Colours: rates run from cold to hot over log η, lightness rising steadily: it reads in grey and for colour-blind eyes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.colors
import numpy as np

INK, QUIET, GRID = "#1d2433", "#667085", "#e3e6ec"
TEXT_CONTRAST = 4.5
_RAMP = matplotlib.colors.LinearSegmentedColormap.from_list(
    "etude", ["#26358c", "#70419c", "#bd4667", "#dd7a24"], N=256
)
# On a dark page, where the cold end of the other would not be seen.
_DARK_RAMP = matplotlib.colors.LinearSegmentedColormap.from_list(
    "etude-dark", ["#5b79e3", "#a884ec", "#f08fae", "#ffc681"], N=256
)


def ramp() -> matplotlib.colors.Colormap:
    """Return the colour map from the lowest rate (0) to the highest (1)."""
    return _RAMP


def colours(lrs: Sequence[float], *, dark: bool = False) -> dict[float, str]:
    """Return a colour for each rate by its place between the lowest and the highest, on a log scale."""
    low, high = math.log(min(lrs)), math.log(max(lrs))
    cmap = _DARK_RAMP if dark else _RAMP
    return {
        lr: matplotlib.colors.to_hex(cmap((math.log(lr) - low) / (high - low) if high > low else 0.5)) for lr in lrs
    }


def for_text(colour: str) -> str:
    """Return a colour, darkened as far as text of it on white needs (contrast 4.5, WCAG 2.2, 1.4.3)."""
    while contrast(colour, "#ffffff") < TEXT_CONTRAST:
        red, green, blue = matplotlib.colors.to_rgb(colour)
        colour = matplotlib.colors.to_hex((0.98 * red, 0.98 * green, 0.98 * blue))
    return colour


def contrast(colour: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    low, high = sorted(map(_luminance, (colour, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


# Runs beside each other have no order: hues that colour-blind eyes tell apart (after Okabe and Ito 2008), dark enough for text.
_RUNS = ("#0072b2", "#c2500a", "#00805c", "#9c3d7f", "#8a6d00", "#3d4a5c")
_DASHES = ("-", "--", "-.", ":")


def run_colour(index: int) -> str:
    """Return the colour of the run at a place in a comparison."""
    return _RUNS[index % len(_RUNS)]


def run_dash(index: int) -> str:
    """Return the line style of the run: another one where the colours begin anew."""
    return _DASHES[index // len(_RUNS) % len(_DASHES)]
