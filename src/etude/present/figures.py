"""Figures by name: drawn on axes that are given, or made and saved as PNG, SVG or PDF."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.figure
import matplotlib.style
import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine

from etude.comparison import Comparison
from etude.errors import DiskError, SpecError, nearest
from etude.present import curves, overlay, ranging, response, schedule
from etude.result import Result

FORMATS = ("png", "svg", "pdf")
# Text stays text in SVG (in the page's font) and in PDF; salted ids make two drawings of one result the same file.
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "etude", "pdf.fonttype": 42, "font.size": 10, "figure.facecolor": "white",
}  # fmt: skip
_LAYOUT = ConstrainedLayoutEngine(w_pad=0.1, wspace=0.04)  # the labels at the lines' ends need room
_METADATA: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}

FIGURES: dict[str, tuple[Callable[[Sequence[Any], Result], None], int, tuple[float, float]]] = {
    "curves": (curves.draw, 2, (11.0, 4.0)),  # drawn by, panels, inches
    "rates": (response.draw, 1, (9.0, 5.0)),
    "schedule": (schedule.draw, 1, (8.0, 4.5)),
    "range-test": (ranging.draw, 1, (9.0, 6.0)),
}
OVERLAY = (9.5, 5.0)  # inches, of a comparison


def plot(result: Result, figure: str = "curves", ax: Any = None) -> Any:
    """Draw a figure on ``ax`` (as many axes as it has panels), or on new ones from pyplot, and return the axes.

    Raises `SpecError` for a figure that there is not or that the result has not, or for another number of axes.
    """
    drawn_by, panels, size = _known(figure, result)
    with matplotlib.rc_context(STYLE):
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(1, panels, figsize=size, layout=_LAYOUT)
        axes = list(np.atleast_1d(ax).ravel())
        if len(axes) != panels:
            raise SpecError(f"plot: figure {figure!r} wants {panels} axes, got {len(axes)}")
        drawn_by(axes, result)
    return ax


def save(result: Result, figure: str, path: Path) -> Path:
    """Draw a figure into a file whose ending names the format; the file is there whole or not at all."""
    drawn_by, panels, size = _known(figure, result)
    return _save(path, panels, size, lambda axes: drawn_by(axes, result))


def plot_comparison(comparison: Comparison, ax: Any = None) -> Any:
    """Draw the figure of a comparison on ``ax``, or on a new one from pyplot, and return it."""
    with matplotlib.rc_context(STYLE):
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=OVERLAY, layout=_LAYOUT)
        overlay.draw([ax], comparison)
    return ax


def save_comparison(comparison: Comparison, path: Path) -> Path:
    """Draw the figure of a comparison into a file, as `save` does."""
    return _save(path, 1, OVERLAY, lambda axes: overlay.draw(axes, comparison))


def _save(path: Path, panels: int, size: tuple[float, float], drawn_by: Callable[[Sequence[Any]], None]) -> Path:
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise SpecError(f"plot: expected a file that ends in .png, .svg or .pdf, got {path.name!r}")
    partial = path.with_name(f".{path.name}.partial")
    with matplotlib.rc_context(STYLE):
        made = matplotlib.figure.Figure(figsize=size, layout=_LAYOUT)
        axes = made.subplots(1, panels, squeeze=False)[0]
        drawn_by(list(axes))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.savefig(partial, format=kind, dpi=200, metadata=_METADATA[kind])
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise DiskError(f"{path}: the figure cannot be written: {error.strerror or error}") from None
    return path


def names(result: Result) -> list[str]:
    """Return the figures that a result has; curves from elsewhere have no schedule, and few runs a range test."""
    without = {"schedule": schedule.applies, "range-test": ranging.applies}
    return [name for name in FIGURES if name not in without or without[name](result)]


def _known(figure: str, result: Result) -> tuple[Callable[[Sequence[Any], Result], None], int, tuple[float, float]]:
    if figure not in FIGURES:
        raise SpecError(f"plot: no figure is named {figure!r}{nearest(figure, FIGURES)}")
    if figure == "schedule" and not schedule.applies(result):
        raise SpecError(
            "plot: figure 'schedule' needs the recipe of a run that etude trained, got curves without one; "
            "draw 'curves' or 'rates'"
        )
    if figure == "range-test" and not ranging.applies(result):
        raise SpecError("plot: figure 'range-test' needs a run that holds a range test; make one with etude range-test")
    return FIGURES[figure]
