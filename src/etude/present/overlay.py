"""The figure ``compare``: several runs' response to the learning rate on the same axes. Data apart from drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from etude.comparison import Comparison
from etude.notation import rate_text
from etude.present import axes as shared
from etude.present import palette
from etude.present.response import LOST, RatePoint, ResponseCurve, frame, metric_axis, rate_points, response_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL_GAP = 0.055  # of the axes' height, between two labels
MOST_LETTERS = 28


@dataclass(frozen=True, kw_only=True)
class Series:
    """One run: its rates, its rate-response curve or None, and its recommended rate."""

    name: str
    points: tuple[RatePoint, ...]
    curve: ResponseCurve | None
    best: float | None


@dataclass(frozen=True, kw_only=True)
class OverlayFigure:
    """All that the figure shows."""

    title: str
    note: str
    ylabel: str
    axis: shared.MetricAxis
    series: tuple[Series, ...]


def overlay_figure(comparison: Comparison) -> OverlayFigure:
    """Collect the figure's data; the metric's axis is found from all runs together."""
    metric, sign = comparison.objective["metric"], 1 if comparison.objective["direction"] == "maximize" else -1
    series = tuple(
        Series(name=name, points=rate_points(result), curve=response_curve(result), best=result.recommendation.lr)
        for name, result in zip(comparison.names, comparison.results, strict=True)
    )
    curves = [one.curve for one in series if one.curve is not None]
    axis = frame(metric_axis([(one.points, one.curve) for one in series], sign), curves)
    words = shared.metric_words(metric)
    note = "Small dots: seeds; large dots: means; diamonds: the recommended rate of each run."
    if curves:
        note += " Lines: rate-response curves with their 95 % band."
    if any(one.curve is None for one in series):
        note += f" {'Without a curve, lines' if curves else 'Lines'} join the means; whiskers: one standard error."
    return OverlayFigure(
        title=f"{words[0].upper()}{words[1:]} by learning rate, {len(series)} runs",
        note=note,
        ylabel=shared.metric_words(metric, percent=shared.percent(axis, "")),
        axis=axis,
        series=series,
    )


def draw(axes: Sequence[Axes], comparison: Comparison) -> None:
    """Draw the figure on one axes."""
    draw_overlay(axes[0], overlay_figure(comparison))


def draw_overlay(ax: Axes, data: OverlayFigure) -> None:
    """Draw the runs: a colour each, its name and best rate at the right, what was lost in a row of its own above."""
    shared.draw_frame(ax)
    lrs = sorted({point.lr for one in data.series for point in one.points})
    if lrs:
        shared.draw_rate_axis(ax, lrs)
    shared.draw_metric_axis(ax, data.axis)
    ax.set_ylabel(data.ylabel, color=palette.INK)
    if data.axis.limits is None:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no trial has learned", transform=ax.transAxes, ha="center", color=palette.QUIET)
    for i, one in enumerate(data.series):
        _series(ax, one, palette.run_colour(i), palette.run_dash(i))
    _names(ax, data)
    _heading(ax, data)


def _series(ax: Axes, one: Series, colour: str, dash: str) -> None:
    learned = [point for point in one.points if len(point.scores)]
    x = np.array([point.lr for point in learned])
    mean = np.array([point.mean for point in learned])
    if one.curve is not None:
        ax.fill_between(one.curve.lrs, one.curve.low, one.curve.high, color=colour, alpha=0.13, lw=0, zorder=2)
        ax.plot(one.curve.lrs, one.curve.mean, color=colour, lw=1.8, ls=dash, zorder=3, gid=f"curve-{one.name}")
    elif len(learned):
        ax.errorbar(x, mean, yerr=[point.error for point in learned], color=colour, lw=0, elinewidth=1.2, zorder=3)
        ax.plot(x, mean, color=colour, lw=1.2, ls=dash, alpha=0.7, zorder=3, gid=f"curve-{one.name}")
    for point in learned:
        ax.plot(
            np.full(len(point.scores), point.lr), point.scores, "o", color=colour, ms=3.5, mew=0, alpha=0.35, zorder=4
        )
    ax.plot(x, mean, "o", color=colour, ms=6 if len(learned) <= 20 else 4.5, mew=0, zorder=5, gid=f"means-{one.name}")
    for point in learned:
        if point.lr == one.best:
            ax.plot(
                [point.lr],
                [point.mean],
                "D",
                color=colour,
                ms=9,
                mec="white",
                mew=1.4,
                zorder=6,
                gid=f"best-{one.name}",
            )


def _names(ax: Axes, data: OverlayFigure) -> None:
    """Write each run's name and best rate at the right edge, at the height where its line ends, moved apart."""
    ends = []
    for i, one in enumerate(data.series):
        learned = [point for point in one.points if len(point.scores)]
        height = shared.height_of(ax, learned[-1].mean) if learned and data.axis.limits is not None else 0.0
        ends.append((height, i, one))
    ends.sort(key=lambda end: end[0])
    gap = max(LABEL_GAP, 15.0 / (ax.get_window_extent().height * 72.0 / ax.figure.dpi))
    heights = shared.spread([height for height, _, _ in ends], gap)
    for height, (_, i, one) in zip(heights, ends, strict=True):
        name = one.name if len(one.name) <= MOST_LETTERS else f"…{one.name[-MOST_LETTERS + 1 :]}"
        best = "no rate" if one.best is None else rate_text(one.best)
        ax.annotate(
            f"{name}: {best}", xy=(1.0, height), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=9.5, color=palette.run_colour(i), annotation_clip=False,
        )  # fmt: skip


def _heading(ax: Axes, data: OverlayFigure) -> None:
    width = ax.get_window_extent().width * 72.0 / ax.figure.dpi
    rows = []
    for i, one in enumerate(data.series):
        lost = {
            p.lr: f"{sum(p.lost[word] for word in LOST if word in p.lost)}/{p.n_trials}" for p in one.points if p.lost
        }
        if lost:
            colour = palette.run_colour(i)
            rows.append(
                shared.LostRow(
                    label="lost", texts=lost, colours=dict.fromkeys(lost, colour), label_colour=colour,
                )
            )  # fmt: skip
    top = shared.draw_lost(ax, rows, width) + 8.0
    note = data.note + (" Crosses: trials that diverged, collapsed, stalled or failed." if rows else "")
    shared.draw_heading(ax, data.title, note, top, width)
