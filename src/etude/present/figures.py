"""Figures by name: drawn on axes that are given, or made and saved as PNG, SVG or PDF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.figure
import matplotlib.style
import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine, LayoutEngine

from etude.comparison import Comparison
from etude.errors import SpecError, nearest
from etude.export import write_whole
from etude.present import curves, overlay, ranging, response, schedule, stability, verdicts
from etude.present.axes import USUAL, Look, Words
from etude.result import Result

FORMATS = ("png", "svg", "pdf")
# Text stays text in SVG (in the page's font) and in PDF; salted ids make two drawings of one result the same file.
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "etude", "pdf.fonttype": 42, "font.size": 10, "figure.facecolor": "white",
}  # fmt: skip
_LAYOUT = ConstrainedLayoutEngine(w_pad=0.1, wspace=0.04)  # the labels at the lines' ends need room
_METADATA: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A figure that a result may have: what draws it, on how many panels, and its size in inches, wide and for a phone.

    ``row`` is by how much each rate makes it higher, wide and for a phone; such a figure's size is without its heading.
    ``words`` says what it shows; ``lacks`` says what a result would need for it, or None where it has it.
    """

    draw: Callable[..., None]
    words: Callable[[Result], Words]
    size: tuple[float, float]
    narrow: tuple[float, float]
    panels: int = 1
    row: tuple[float, float] = (0.0, 0.0)
    lacks: Callable[[Result], str | None] = lambda _: None

    def inches(self, result: Result, look: Look = USUAL) -> tuple[float, float]:
        """Return width and height of the figure that a result has."""
        (width, height), row, heading = (
            (self.narrow, self.row[1], 1.0) if look.narrow else (self.size, self.row[0], 0.65)
        )
        if row:
            height += row * len(result.analysis["rates"]) + (heading if look.heading else 0.0)
        return width, height


FIGURES: dict[str, Kind] = {
    "curves": Kind(draw=curves.draw, words=curves.words, panels=2, size=(11.0, 4.0), narrow=(3.7, 6.0)),
    "rates": Kind(draw=response.draw, words=response.words, size=(9.0, 5.0), narrow=(3.7, 3.7)),
    "verdicts": Kind(draw=verdicts.draw, words=verdicts.words, size=(9.0, 0.7), narrow=(3.7, 0.7), row=(0.24, 0.37)),
    "stability": Kind(
        draw=stability.draw, words=stability.words, panels=2, size=(11.0, 4.0), narrow=(3.7, 6.0), lacks=stability.lacks
    ),
    "schedule": Kind(
        draw=schedule.draw, words=schedule.words, size=(8.0, 4.5), narrow=(3.7, 3.2), lacks=schedule.lacks
    ),
    "range-test": Kind(draw=ranging.draw, words=ranging.words, size=(9.0, 6.0), narrow=(3.7, 5.0), lacks=ranging.lacks),
}
OPTIONS = tuple(field.name for field in fields(curves.Options))
OVERLAY = (9.5, 5.0)  # inches, of a comparison
COMPARE = "draw it with etude plot RUN RUN --figure compare, or etude.compare([RUN, RUN]).plot()"


def plot(result: Result, figure: str = "curves", ax: Any = None, **options: Any) -> Any:
    """Draw a figure on ``ax`` (as many axes as it has panels), or on new ones from pyplot, and return the axes.

    Raises `SpecError` for a figure that there is not or that the result has not, for another number of axes, and for options
    that the figure has not.
    """
    kind = _known(figure, result, options)
    with matplotlib.rc_context(STYLE):
        if ax is None:
            return _own(kind, result, options)
        axes = list(np.atleast_1d(ax).ravel())
        if len(axes) != kind.panels:
            raise SpecError(f"plot: figure {figure!r} wants {kind.panels} axes, got {len(axes)}")
        kind.draw(axes, result, **options)
    return ax


def make(
    result: Result, figure: str, look: Look = USUAL, *, layout: LayoutEngine = _LAYOUT, **options: Any
) -> matplotlib.figure.Figure:
    """Draw a figure and return it; on a narrow page its panels lie below each other. Raises what `plot` raises."""
    kind = _known(figure, result, options)
    grid = (kind.panels, 1) if look.narrow else (1, kind.panels)
    return _made(kind.inches(result, look), grid, lambda axes: kind.draw(axes, result, look, **options), layout)


def save(result: Result, figure: str, path: Path, *, look: Look = USUAL, **options: Any) -> Path:
    """Draw a figure into a file whose ending names the format; the file is there whole or not at all."""
    _check_ending(path)
    return _save(make(result, figure, look, **options), path)


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
    _check_ending(path)
    return _save(_made(OVERLAY, (1, 1), lambda axes: overlay.draw(axes, comparison)), path)


def names(result: Result) -> list[str]:
    """Return the figures that a result has; curves from elsewhere have no schedule, and few runs a range test."""
    return [name for name, kind in FIGURES.items() if kind.lacks(result) is None]


def _own(kind: Kind, result: Result, options: dict[str, Any]) -> Any:
    """Draw on axes from pyplot; what cannot be drawn leaves no empty figure there."""
    import matplotlib.pyplot as plt

    made, ax = plt.subplots(1, kind.panels, figsize=kind.inches(result), layout=_LAYOUT)
    try:
        kind.draw(list(np.atleast_1d(ax).ravel()), result, **options)
    except SpecError:
        plt.close(made)
        raise
    return ax


def _made(
    size: tuple[float, float], grid: tuple[int, int], draw: Callable[[list[Any]], None], layout: LayoutEngine = _LAYOUT
) -> matplotlib.figure.Figure:
    with matplotlib.rc_context(STYLE):
        made = matplotlib.figure.Figure(figsize=size, layout=layout)
        draw(list(made.subplots(*grid, squeeze=False).ravel()))
    return made


def _check_ending(path: Path) -> None:
    if path.suffix.removeprefix(".").lower() not in FORMATS:
        raise SpecError(f"plot: expected a file that ends in .png, .svg or .pdf, got {path.name!r}")


def _save(made: matplotlib.figure.Figure, path: Path) -> Path:
    kind = path.suffix.removeprefix(".").lower()
    with matplotlib.rc_context(STYLE):
        return write_whole(
            path, lambda part: made.savefig(part, format=kind, dpi=200, metadata=_METADATA[kind]), "the figure"
        )


def _known(figure: str, result: Result, options: dict[str, Any]) -> Kind:
    if figure == "compare":
        raise SpecError(f"plot: figure 'compare' shows several runs; {COMPARE}")
    if figure not in FIGURES:
        raise SpecError(f"plot: no figure is named {figure!r}{nearest(figure, FIGURES)}")
    kind = FIGURES[figure]
    if (lacking := kind.lacks(result)) is not None:
        raise SpecError(f"plot: figure {figure!r} {lacking}")
    check_options(figure, options)
    return kind


def check_options(figure: str, options: Mapping[str, Any]) -> None:
    """Raise `SpecError` for options that a figure has not."""
    if options and figure != "curves":
        raise SpecError(f"plot: figure {figure!r} has no options, got {', '.join(options)}; figure 'curves' has them")
    if (other := next((name for name in options if name not in OPTIONS), None)) is not None:
        raise SpecError(f"plot: figure 'curves' has no option {other!r}{nearest(other, OPTIONS)}")
