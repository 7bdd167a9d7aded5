"""Axes that figures share: a metric on the scale where its noise is even, learning rates on a logarithmic one.

Above the frame of an axis over rates there is a row a kind of loss (diverged, collapsed, …), a cross a rate.
"""

from __future__ import annotations

import functools
import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import offset_copy

from etude import notation
from etude.notation import PLAIN, format_rate, rate_text
from etude.present import palette

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from etude.result import Result

    Floats = NDArray[np.float64]

Collected = TypeVar("Collected")

FAR_ERRORS = 12.0  # ratio of two shares' errors from which on the axis runs over the logarithm of the error
FAR_LOSSES = 4.0  # ratio of two losses from which on theirs is logarithmic
LEAST_ERROR = 1e-4
END_PAD = 0.02  # of the height: between the frame and the end of a whisker or a band
SHARE_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999)
COUNT_ROOM, UPRIGHT_ROOM = 22.0, 9.5  # points between two rates that "2/3" needs, lying and upright
LARGE = 1000.0  # from which on a number is written with commas
TICK, TICK_GAP = 9.0, 12.0  # size of a tick's text, and points between two
TICK_ROOM = 30.0  # points that a rate below the axis takes
LEAST_LEFT = 0.8  # of the axes' size, which headings and labels leave once the figure is laid out
HALO = [withStroke(linewidth=3, foreground="white")]


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a figure is drawn: on a ``narrow`` page; without ``heading``, where the page says title and note itself."""

    heading: bool = True
    narrow: bool = False


USUAL = Look()


@dataclass(frozen=True, kw_only=True)
class Words:
    """What is said of a figure: its ``title``, how to read it, and ``alt``, what somebody who cannot see it should know."""

    title: str
    note: str
    alt: str


def once(collect: Callable[..., Collected]) -> Callable[..., Collected]:
    """Have what a figure collects of a result collected once: a report draws it twice, describes it, and gives it to its script."""

    @functools.wraps(collect)
    def collected(result: Result, *options: Any) -> Collected:
        kept = result.__dict__.setdefault("_collected", {})  # a result is read once and does not change
        if (key := (collect.__module__, collect.__name__, *options)) not in kept:
            kept[key] = collect(result, *options)
        found: Collected = kept[key]
        return found

    return collected


def mark(kind: str, lr: float | None = None, seeds: Sequence[int] = ()) -> str:
    """Name a part of a figure by what it is, and whose: ``line:1e-3``, ``seeds:1e-3:0:1``. An SVG file has it as an id."""
    return ":".join([kind, *([] if lr is None else [format_rate(lr)]), *map(str, seeds)])


def mark_each(kind: str, lrs: Iterable[float]) -> str:
    """Name a collection that has one part a rate, in this order: ``each:band:1e-4:1e-3``."""
    return ":".join(["each", kind, *map(format_rate, lrs)])


@dataclass(frozen=True, kw_only=True)
class MetricAxis:
    """How a metric is drawn: a ``share`` as percent, ``logarithmic`` over the error left or the loss; ``limits`` or None."""

    share: bool
    logarithmic: bool
    limits: tuple[float, float] | None

    @property
    def functions(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """The function that makes equal lengths of the axis equal, and its inverse."""
        if self.logarithmic and self.share:
            return (lambda v: -np.log10(np.clip(1 - np.asarray(v), 1e-6, None)), lambda u: 1 - 10.0 ** -np.asarray(u))
        if self.logarithmic:
            return (lambda v: np.log10(np.clip(v, 1e-300, None)), lambda u: 10.0 ** np.asarray(u))
        return (lambda v: np.asarray(v, float), lambda u: np.asarray(u, float))

    def with_foot(self, part: float) -> MetricAxis:
        """Return the axis with room below the data: ``part`` of its height."""
        if self.limits is None:
            return self
        forward, inverse = self.functions
        low, high = (float(forward(v)) for v in self.limits)
        return replace(self, limits=(float(inverse(high - (high - low) / (1 - part))), self.limits[1]))

    def holding(self, ends: Floats, room: float = math.inf) -> MetricAxis:
        """Return the axis with ``ends`` on it, too: each side grows by at most ``room`` of the height, on both scales.

        What is not finite does not count, nor what a logarithmic axis has no place for.
        """
        if self.limits is None:
            return self
        forward, inverse = self.functions
        low, high = (float(forward(v)) for v in self.limits)
        ends = ends[np.isfinite(ends) & ((ends > 0) | self.share | (not self.logarithmic))]
        ends = np.clip(ends, 0.0, 1.0 - LEAST_ERROR * self.logarithmic) if self.share else ends
        if not len(ends):
            return self
        least, most = (float(end) for end in (np.min(forward(ends)), np.max(forward(ends))))
        pad, room = END_PAD * (high - low), room * (high - low)
        made = [float(inverse(low - min(low - least + pad, room))) if least < low else self.limits[0],
                float(inverse(high + min(most - high + pad, room))) if most > high else self.limits[1]]  # fmt: skip
        made = [max(0.0, made[0]), min(1.0, made[1])] if self.share else made
        return replace(self, limits=(min(made[0], self.limits[0]), max(made[1], self.limits[1])))


def measure(values: Floats, *, share: bool, logarithmic: bool | None = None) -> MetricAxis:
    """Find the axis for values of a metric; those that are not finite do not count.

    A ``share`` (of direction ``maximize``) is one only where all values lie in [0, 1]. Whether the axis is ``logarithmic`` is
    found, too, where it is not said; values of 0 and less have no place on it.
    """
    flat = values[np.isfinite(values)]
    if not len(flat):
        return MetricAxis(share=share, logarithmic=False, limits=None)
    low, high = float(flat.min()), float(flat.max())
    if share and low >= 0 and high <= 1:
        far = (1 - low) / max(1 - high, LEAST_ERROR) > FAR_ERRORS if logarithmic is None else logarithmic
        pad = 0.06 * (high - low or 0.1)
        least, most = max(1 - high, LEAST_ERROR) / 1.25, min(1.0, (1 - low) * 1.1)
        limits = (1 - most, 1 - least) if far else (max(0.0, low - pad), min(1.0, high + pad))
        return MetricAxis(share=True, logarithmic=far, limits=limits)
    if logarithmic or (logarithmic is None and low > 0 and high / low > FAR_LOSSES):
        low = low if low > 0 else float(flat[flat > 0].min(initial=high))
        return MetricAxis(share=False, logarithmic=True, limits=(low / 1.2, high * 1.2))
    pad = 0.06 * (high - low or abs(high) or 1.0)
    return MetricAxis(share=False, logarithmic=False, limits=(low - pad, high + pad))


def metric_words(metric: str, *, percent: int = 0) -> str:
    """Write a recorded metric as words, with its unit: ``validation accuracy, %``."""
    return f"{notation.metric_words(metric)}{', %' if percent else ''}"


def percent(axis: MetricAxis, margin_text: str) -> int:
    """Return what makes percent of an axis's values: 100 of a share, 1 of a metric from 0 to 100, 0 where they are none.

    That a metric goes from 0 to 100 is for the analysis to say, by the unit of its margin.
    """
    return 100 if axis.share else 1 if margin_text.endswith("points") else 0


def tick_text(value: float) -> str:
    """Write a tick: ``0.05``, ``-200``, ``70,000``, ``1e-5``, with the sign as type has it."""
    size = float(f"{abs(value):.6g}")
    text = f"{size:,.6g}" if not size or 1e-3 < size < PLAIN[1] else format_rate(size)
    return f"−{text}" if value < 0 else text


def place_text(place: float) -> str:
    """Write a tick of an axis of epochs or steps: ``0.5``, ``20,000``, as sentences do."""
    return f"{place:,.10g}"


def place_ticks(ax: Axes, most: int, last: float) -> int:
    """Return how many ticks of places have room below the axes, ``most`` at most, ``last`` being the longest."""
    width, _ = size_of(ax)
    return max(2, min(most, int(width / (text_length(place_text(last), TICK) + TICK_GAP))))


def metric_text(percent: int) -> Callable[[float], str]:
    """Return what writes a metric's value: ``98.9 %``, of which ``percent`` times the value makes it, or ``0.0421``."""
    if percent:
        return lambda value: f"{percent * value:.2f} %"
    return lambda value: f"{value:,.0f}" if 1e4 <= abs(value) < PLAIN[1] else f"{value:,.4g}"


@functools.lru_cache(maxsize=1000)
def text_length(text: str, size: float, *, bold: bool = False) -> float:
    """Return how wide a text of one line is, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return float(width)


def size_of(ax: Axes) -> tuple[float, float]:
    """Return how wide and high the axes are, in points; before the figure is laid out that is nearly what it will be."""
    box, points = ax.get_window_extent(), 72.0 / ax.figure.dpi
    return float(box.width * points), float(box.height * points)


def some(said: Sequence[str], most: int = 13) -> str:
    """Join what is said of each rate; of very many the first and the last are enough for a sentence."""
    if len(said) <= most:
        return ", ".join(said)
    return f"{', '.join(said[: most - 1])}, and so on to {said[-1]}"


def draw_metric_axis(ax: Axes, axis: MetricAxis) -> None:
    """Set scale, ticks and limits of the vertical axis."""
    low, high = axis.limits or (0.1, 1.0)
    if max(abs(low), abs(high)) >= LARGE:  # small ones Matplotlib writes to one number of decimals
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: tick_text(v)))
    if axis.logarithmic and axis.share:
        ax.set_yscale("function", functions=axis.functions)
        ax.set_yticks([tick for tick in SHARE_TICKS if low <= tick <= high])
    elif axis.logarithmic:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 2000 else (1.0,), numticks=12))
        ax.yaxis.set_minor_locator(NullLocator())  # each tick is an artist that takes part in the layout
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: tick_text(v)))
    if axis.share:  # room at the foot may reach below 0 %, where nothing is
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.6g}" if -1e-9 <= v <= 1 + 1e-9 else ""))
    if axis.limits is not None:
        ax.set_ylim(*axis.limits)


def draw_frame(ax: Axes) -> None:
    """Draw the frame quietly: two sides, a grid of the metric's ticks."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set(color=palette.QUIET, in_layout=False)  # it lies where the axes end: nothing to measure
    ax.tick_params(colors=palette.INK, labelsize=9, which="both", width=0.8)
    ax.grid(axis="y", color=palette.GRID, lw=0.8)
    ax.set_axisbelow(True)


def draw_rate_axis(ax: Axes, lrs: Sequence[float]) -> None:
    """Make the horizontal axis logarithmic over the rates tried, its ticks written as rates are typed."""
    low, high = math.log10(min(lrs)), math.log10(max(lrs))
    pad = max(0.045 * (high - low), 0.1) if high > low else 0.5
    left, right = low - pad, high + pad
    ax.set_xscale("log")
    ax.set_xlim(10**left, 10**right)
    decades = list(range(math.ceil(left - 1e-9), math.floor(right + 1e-9) + 1))
    if len(decades) >= 3:
        room = int(72 * ax.bbox.width / ax.figure.dpi / TICK_ROOM)
        every = math.ceil(len(decades) / min(max(room, 2), 10))
        ticks = [float(f"1e{k}") for k in decades if k % every == 0]
        minor = (
            [
                lr
                for k in range(math.floor(left), math.ceil(right))
                for m in range(2, 10)
                if 10**left <= (lr := float(f"{m}e{k}")) <= 10**right
            ]
            if len(decades) <= 8
            else [float(f"1e{k}") for k in decades]
        )
        ax.plot(  # in one artist: sixty ticks of their own would make up half of the time of the drawing
            minor, np.zeros(len(minor)), marker=3, ms=2, mew=0.6, lw=0, color=palette.INK, clip_on=False, zorder=2.5,
            transform=ax.get_xaxis_transform(), scalex=False, scaley=False,
        )  # fmt: skip
        ax.xaxis.set_minor_locator(NullLocator())
    else:  # less than two whole decades: the rates tried where their names have room, else 1, 2, 5
        ticks = sorted(lrs)
        if len(ticks) > 1 and float(np.diff(np.log10(ticks)).min()) < 0.08 * (right - left):
            ticks = [float(f"{m}e{k}") for k in range(math.floor(left), math.ceil(right) + 1) for m in (1, 2, 5)]
            ticks = [tick for tick in ticks if left <= math.log10(tick) <= right]
            ticks = ticks if len(ticks) > 1 else [min(lrs), max(lrs)]
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: rate_text(v)))
    ax.set_xlabel("learning rate η", color=palette.INK)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move rising heights apart until each is ``gap`` above the one below, each neighbour giving half of the way."""
    moved = list(heights)
    for _ in range(50):
        for i in range(len(moved) - 1):
            overlap = gap - (moved[i + 1] - moved[i])
            if overlap > 1e-6:
                moved[i] -= overlap / 2
                moved[i + 1] += overlap / 2
    return moved


def height_of(ax: Axes, value: float) -> float:
    """Return where a value lies on the axes, from 0 (bottom) to 1 (top), kept inside."""
    _, y = ax.transAxes.inverted().transform(ax.transData.transform((ax.get_xlim()[0], value)))
    return float(np.clip(y if np.isfinite(y) else 1.0, 0.0, 1.0))


def on_axes(ax: Axes, places: Sequence[tuple[float, float]] | Floats) -> Floats:
    """Return where values lie on the axes, (P, 2), from 0 to 1."""
    table = np.array(places, float).reshape(-1, 2)
    return np.asarray(ax.transAxes.inverted().transform(ax.transData.transform(table)), float)


def along(line: Floats) -> Floats:
    """Return a line of places (P, 2) as places so near to each other that no text has room between two."""
    if len(line) < 2:
        return line
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0.0, way[-1], max(2, math.ceil(200 * way[-1])))
    return np.stack([np.interp(at, way, line[:, i]) for i in (0, 1)], axis=1)


@dataclass(frozen=True, kw_only=True)
class LostRow:
    """A row of marks above the frame: ``texts[lr]`` is said above each, ``colours[lr]`` is its colour.

    A cross stands for trials that were lost, a ring (``is_lost`` false) for a rate that was paused.
    """

    label: str
    texts: Mapping[float, str]
    colours: Mapping[float, str]
    label_colour: str = palette.INK
    is_lost: bool = True


def draw_lost(ax: Axes, rows: Sequence[LostRow], width: float) -> float:
    """Draw the rows above the frame, ``width`` points wide, and return the height that they took, in points.

    The texts lie where there is room, else they stand upright, else they are left out.
    """
    if not rows:
        return 0.0  # nor need there be an axis of rates
    bottom = 5.0
    figure: Any = ax.figure
    left, right = (math.log10(x) for x in ax.get_xlim())
    for row in rows:
        places = sorted(math.log10(lr) for lr in row.texts)
        room = min(np.diff(places), default=math.inf) / (right - left) * width
        longest = max(map(len, row.texts.values()))
        upright = room < COUNT_ROOM + 5.0 * (longest - 3)
        told = not upright or room >= UPRIGHT_ROOM
        shape: Any = (
            {"marker": "x", "ms": 6.5, "mew": 1.8, "kind": "lost"}
            if row.is_lost
            else {"marker": "o", "ms": 5.5, "mew": 1.4, "mfc": "none", "kind": "paused"}
        )
        kind = shape.pop("kind")
        for lr, text in row.texts.items():
            place = offset_copy(ax.get_xaxis_transform(), figure, y=bottom + 6, units="points")
            ax.plot([lr], [1.0], color=row.colours[lr], transform=place, clip_on=False, gid=mark(kind, lr), **shape)
            if told:
                ax.annotate(
                    text, xy=(lr, 1.0), xycoords=ax.get_xaxis_transform(), xytext=(0, bottom + 13),
                    textcoords="offset points", ha="center", va="bottom", fontsize=8, color=palette.INK,
                    rotation=90 if upright else 0, annotation_clip=False, gid=mark("count", lr),
                )  # fmt: skip
        ax.annotate(
            row.label, xy=(0.0, 1.0), xycoords="axes fraction", xytext=(-8, bottom + 2), textcoords="offset points",
            ha="right", va="bottom", fontsize=9, color=row.label_colour, annotation_clip=False,
        )  # fmt: skip
        bottom += 17.0 + ((6.0 * longest if upright else 10.0) if told else 0.0)
    return bottom


def draw_heading(ax: Axes, title: str, note: str, top: float, width: float, *, left: float = 0.0) -> float:
    """Write the note ``top`` points above the axes, wrapped to ``width`` points, and the title above it; return where it ends.

    Both begin ``left`` points right of the axes' left side.
    """
    lines = textwrap.wrap(note, max(40, int(width / 4.6)))
    ax.annotate(
        "\n".join(lines), xy=(0.0, 1.0), xycoords="axes fraction", xytext=(left, top), textcoords="offset points",
        va="bottom", fontsize=9, color=palette.QUIET, annotation_clip=False,
    )  # fmt: skip
    figure: Any = ax.figure
    said = ax.set_title(
        title, loc="left", y=1.0, fontsize=11.5, fontweight="bold", color=palette.INK, pad=top + 12.5 * len(lines) + 5
    )
    said.set_transform(offset_copy(said.get_transform(), figure, x=left, units="points"))
    return top + 12.5 * len(lines) + 20


def draw_title(ax: Axes, title: str) -> None:
    """Write what a panel shows above its left corner."""
    # At a place that is given: to find one free of ticks Matplotlib would measure them all again.
    ax.set_title(title, loc="left", y=1.0, fontsize=11.5, fontweight="bold", color=palette.INK, pad=10)


def draw_colour_bar(axes: Sequence[Axes], lrs: Sequence[float], look: Look = USUAL) -> None:
    """Draw the rates' colours as a bar beside the axes (below them on a narrow page), for more rates than can be labelled."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LogNorm

    figure = axes[0].get_figure()
    assert figure is not None
    mappable = ScalarMappable(norm=LogNorm(min(lrs), max(lrs)), cmap=palette.ramp())
    place: Any = {"location": "bottom", "pad": 0.03} if look.narrow else {"pad": 0.015}
    bar = figure.colorbar(mappable, ax=list(axes), fraction=0.025, aspect=30, **place)
    assert bar.solids is not None
    bar.solids.remove()  # a picture of the ramp; a band a rate instead, which has a name and a colour as the lines have
    ordered, colours = sorted(lrs), palette.colours(lrs)
    ends = [ordered[0], *(math.sqrt(a * b) for a, b in itertools.pairwise(ordered)), ordered[-1]]
    boxes = [[(0, low), (1, low), (1, high), (0, high)] for low, high in itertools.pairwise(ends)]
    bands = PolyCollection(
        [np.fliplr(box) for box in boxes] if look.narrow else boxes,
        facecolors=[colours[lr] for lr in ordered], linewidths=0, gid=mark_each("band", ordered),
    )  # fmt: skip
    bar.ax.add_collection(bands, autolim=False)
    bar.set_label("learning rate", color=palette.INK)
    bar.ax.tick_params(labelsize=9, colors=palette.INK, which="both")
    (bar.ax.xaxis if look.narrow else bar.ax.yaxis).set_major_formatter(FuncFormatter(lambda v, _: rate_text(v)))
    bar.outline.set_visible(False)
    bar.minorticks_off()
