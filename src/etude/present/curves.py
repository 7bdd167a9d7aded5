"""The figure of the article: training loss and the objective by epoch, a line a rate. Data apart from drawing.

E evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator, NullLocator

from etude.notation import rate_text
from etude.present import axes as shared
from etude.present import palette
from etude.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST_LABELS = 7  # rates labelled at their line's end; more get a colour bar
LABEL_GAP = 0.055  # of the axes' height, between two labels


@dataclass(frozen=True, kw_only=True)
class Line:
    """One rate in one panel: ``x`` epochs, mean over seeds, lowest and highest (E,); ``ended`` where seeds diverged.

    Curves from elsewhere may be counted in steps instead of epochs. ``is_paused``: a search paused all seeds that did not diverge;
    where some got to the end, the paused ones are left out.
    """

    lr: float
    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    ended: tuple[float, ...]
    n_seeds: int
    is_paused: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What one panel shows; ``limits`` come from the rates that learned, so that a lost one does not squash the others."""

    title: str
    ylabel: str
    share: bool
    lines: tuple[Line, ...]
    limits: tuple[float, float] | None
    logarithmic: bool


def panels(result: Result) -> tuple[Panel, Panel]:
    """Collect the two panels' data from the records."""
    metric = result.objective["metric"]
    name = metric.removeprefix("val_").replace("_", " ").replace("$", r"\$")  # Matplotlib reads $…$ as mathematics
    where = "Validation " if metric.startswith("val_") else ""
    return (
        _panel(result, "train_loss", "Training Loss Curve", "training loss"),
        _panel(result, metric, f"{where}{name.title()} Curve", f"{where.lower()}{name}"),
    )


def words(result: Result) -> shared.Words:
    """Say what the figure shows."""
    both = panels(result)
    named = [panel.title.removesuffix(" Curve").lower() for panel in both]
    seeds = max((line.n_seeds for line in both[1].lines), default=0)
    note = f"Lines: means of {seeds} seeds; bands: from the lowest to the highest." if seeds > 1 else "One seed a rate."
    if any(line.ended for line in both[1].lines):
        note += " Crosses at the upper edge: where a trial diverged."
    if any(line.is_paused for line in both[1].lines):
        note += " Rings: paused by the search."
    told = shared.metric_text(both[1].share)
    ends = [f"{rate_text(line.lr)}: {told(line.mean[-1])}" for line in both[1].lines if len(line.x)]
    by = f" by {result.unit}" if result.unit else ""
    title = f"{named[0][0].upper()}{named[0][1:]} and {named[1]}{by}"
    last = f"At the end of its line, {named[1]} of {shared.some(ends)}." if ends else "No evaluation yet."
    return shared.Words(title=title, note=note, alt=f"{title}, a line a rate. {last}")


def _panel(result: Result, metric: str, title: str, ylabel: str) -> Panel:
    lines = tuple(
        line for lr in sorted({t.lr for t in result.judged}) if (line := _line(result, lr, metric)) is not None
    )
    lost = {rate["lr"] for rate in result.analysis["rates"] if rate["verdict"] == "diverged"}
    values = [np.concatenate([line.low, line.high]) for line in lines if line.lr not in lost] or [
        np.concatenate([line.low, line.high]) for line in lines
    ]
    flat = np.concatenate(values) if values else np.empty(0)
    flat = flat[np.isfinite(flat)]
    share = metric != "train_loss" and result.objective["direction"] == "maximize" and bool(len(flat))
    axis = shared.measure(flat, share=share)
    return Panel(
        title=title, ylabel=f"{ylabel}, %" if axis.share else ylabel, share=axis.share, lines=lines, limits=axis.limits,
        logarithmic=axis.logarithmic,
    )  # fmt: skip


def _line(result: Result, lr: float, metric: str) -> Line | None:
    ended, xs, ys, seeds = [], [], [], 0
    of_rate = [trial for trial in result.judged if trial.lr == lr]
    paused = [trial for trial in of_rate if result.is_paused(trial)]
    whole = [trial for trial in of_rate if trial not in paused and trial.status not in ("diverged", "failed")]
    for trial in [trial for trial in of_rate if trial not in paused] if whole else of_rate:
        seeds += 1
        place = result.ended(trial)
        if place is not None:
            ended.append(place)
        columns = result.columns(trial)
        values = columns.train_loss if metric == "train_loss" else columns.metrics.get(metric)
        if values is not None:
            shown = (columns.steps > 0) & np.isfinite(values)
            xs.append(columns.epochs[shown])
            ys.append(values[shown])
    x, place_of = np.unique(np.concatenate([np.empty(0), *xs]), return_inverse=True)
    if not len(x) and not ended:
        return None
    y = np.concatenate([np.empty(0), *ys])
    low, high = np.full(len(x), np.inf), np.full(len(x), -np.inf)
    np.minimum.at(low, place_of, y)
    np.maximum.at(high, place_of, y)
    # Divided before they are added, so that losses near the end of what floats hold do not overflow.
    share = 1 / np.bincount(place_of, minlength=len(x))[place_of]
    mean = np.bincount(place_of, weights=y * share, minlength=len(x)).astype(float)
    return Line(
        lr=lr,
        x=x,
        mean=mean,
        low=low,
        high=high,
        ended=tuple(sorted(ended)),
        n_seeds=seeds,
        is_paused=bool(paused) and not whole,
    )


def draw(axes: Sequence[Axes], result: Result, look: shared.Look = shared.USUAL) -> None:
    """Draw the two panels on two axes."""
    both = panels(result)
    lrs = sorted({line.lr for panel in both for line in panel.lines})
    tried = [trial.lr for trial in result.judged]  # a rate has one colour in all figures, also where some have no line
    colours = palette.colours(tried) if tried else {}
    for ax, panel in zip(axes, both, strict=True):
        draw_panel(ax, panel, colours, best=result.recommendation.lr, horizon=result.horizon, unit=result.unit)
    if len(lrs) > MOST_LABELS:
        shared.draw_colour_bar(axes, lrs, look)


def draw_panel(
    ax: Axes, panel: Panel, colours: Mapping[float, str], *, best: float | None, horizon: float, unit: str = "epoch"
) -> None:
    """Draw one panel: mean lines with the seeds' band, diverged rates to where they ended and marked."""
    _frame(ax, panel, horizon, unit)
    labels: list[tuple[float, float, Line]] = []
    for line in panel.lines:
        colour, chosen = colours[line.lr], line.lr == best
        style: dict[str, Any] = {"color": colour, "lw": 2.6 if chosen else 1.8, "zorder": 4 if chosen else 3}
        style |= {"marker": "o", "ms": 4.5 if chosen else 3.5} if len(line.x) <= 12 else {}
        if len(line.x):
            ax.plot(line.x, line.mean, gid=shared.mark("line", line.lr), solid_capstyle="round", **style)
            if line.n_seeds > 1 and len(line.x) > 1:
                spread = shared.mark("spread", line.lr)
                ax.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, lw=0, zorder=2, gid=spread)
            if line.is_paused:  # a ring: it did not end here, it was left here
                ring: dict[str, Any] = {"mfc": "white", "ms": 6, "mew": 1.6, "zorder": 5}
                ax.plot(line.x[-1:], line.mean[-1:], "o", color=colour, gid=shared.mark("paused", line.lr), **ring)
        for epoch in line.ended:
            _mark(ax, epoch, "x", colour, line.lr)
        whole = len(line.ended) < line.n_seeds  # some seed got to the end
        if len(line.x) and whole:
            if panel.limits is not None and line.mean[-1] > panel.limits[1]:
                _mark(ax, float(line.x[-1]), "^", colour, line.lr)  # it ends above the frame
            labels.append((float(line.x[-1]), shared.height_of(ax, line.mean[-1]), line))
        else:
            labels.append((line.ended[-1], 1.0, line))
    if len(panel.lines) > MOST_LABELS:  # a colour bar tells the others
        labels = [label for label in labels if label[2].lr == best]
    _label(ax, labels, colours, best)


def _frame(ax: Axes, panel: Panel, horizon: float, unit: str) -> None:
    ax.set_title(panel.title, loc="left", fontsize=11.5, fontweight="bold", color=palette.INK, pad=10)
    ax.set_xlabel(unit or "final values", color=palette.INK)
    ax.set_ylabel(panel.ylabel, color=palette.INK)
    shared.draw_metric_axis(
        ax, shared.MetricAxis(share=panel.share, logarithmic=panel.logarithmic, limits=panel.limits)
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=horizon >= 2, nbins=8, min_n_ticks=1) if unit else NullLocator())
    shared.draw_frame(ax)
    ax.margins(x=0.03)
    if not panel.lines or panel.limits is None:
        said = "no finite value" if panel.lines else "no evaluation yet"
        ax.text(0.5, 0.5, said, transform=ax.transAxes, ha="center", color=palette.QUIET)
        ax.set_yticks([])


def _mark(ax: Axes, epoch: float, marker: str, colour: str, lr: float) -> None:
    """Mark the upper edge: a cross where a seed diverged, a triangle where a line leaves the frame."""
    ax.plot(
        [epoch], [1.0], marker, color=colour, ms=7, mew=2 if marker == "x" else 0, clip_on=False, zorder=5,
        transform=ax.get_xaxis_transform(), gid=shared.mark("ended", lr),
    )  # fmt: skip


def _label(ax: Axes, labels: list[tuple[float, float, Line]], colours: Mapping[float, str], best: float | None) -> None:
    """Label lines at their ends, in their colour, moved apart where they would touch."""
    right = max((x for x, _, _ in labels), default=0.0)
    ends = sorted((label for label in labels if label[0] == right), key=lambda label: label[1])
    heights = shared.spread([y for _, y, _ in ends], LABEL_GAP)
    placed = [(x, y, line) for (x, _, line), y in zip(ends, heights, strict=True)]
    near = 0.3 * (ax.get_xlim()[1] - ax.get_xlim()[0])
    for x, y, line in sorted((label for label in labels if label[0] != right), key=lambda label: -label[1]):
        above = [other_y for other_x, other_y, _ in placed if abs(other_x - x) < near]
        while any(abs(y - other_y) < LABEL_GAP for other_y in above):
            y -= LABEL_GAP
        placed.append((x, y, line))
    for x, y, line in placed:
        text = rate_text(line.lr)
        if line.ended:
            text += " diverged" if line.n_seeds == 1 else f" {len(line.ended)}/{line.n_seeds} diverged"
        elif line.is_paused:
            text += " paused"
        ax.annotate(
            text, xy=(x, y), xycoords=ax.get_xaxis_transform(), xytext=(8, 0), textcoords="offset points", va="center",
            color=palette.for_text(colours[line.lr]) if line.lr != best else palette.INK, fontsize=9.5,
            fontweight="bold" if line.lr == best else "normal", annotation_clip=False,
            path_effects=shared.HALO, zorder=6, gid=shared.mark("label", line.lr),
        )  # fmt: skip
