"""The figure of a range test: loss against the rising rate, a line a seed, and below it what every rule picks.

Data apart from drawing. N steps, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from etude.analysis.picks import Pick, smooth
from etude.analysis.ranging import Bracket, RangeTest
from etude.notation import rate_text
from etude.present import axes as shared
from etude.present import palette
from etude.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CURVES, STRIP = (0.4, 0.6), (0.0, 0.34)  # bottom and height of the two parts, of the axes' height
ABOVE = 0.6  # of the fall, above the loss that the test began with: there the frame ends, an explosion has no height
MOST_SEEDS = 6  # named by their colours; more are drawn alike


@dataclass(frozen=True, kw_only=True)
class SeedLine:
    """One seed's losses up to the first that is not finite, raw and smoothed, by rate, all (N,) or shorter."""

    seed: int
    lrs: Floats
    loss: Floats
    smoothed: Floats
    colour: str


@dataclass(frozen=True, kw_only=True)
class RangeFigure:
    """What the figure shows; ``lrs`` are the lowest and the highest rate."""

    title: str
    note: str
    lrs: tuple[float, float]
    lines: tuple[SeedLine, ...]
    picks: tuple[Pick, ...]
    bracket: Bracket
    axis: shared.MetricAxis


def lacks(result: Result) -> str | None:
    """Say that a run needs a range test for the figure, where it holds none."""
    if result.stored.range_test is not None:
        return None
    return "needs a run that holds a range test; make one with etude range-test"


def words(result: Result) -> shared.Words:
    """Say what the figure shows."""
    data = _figure(result)
    picks = ", ".join(f"{pick.rule} {rate_text(pick.lr)}" for pick in data.picks if pick.lr is not None)
    found = data.bracket
    ends = (
        "no bracket"
        if found.low is None or found.high is None
        else f"bracket {rate_text(found.low)} to {rate_text(found.high)}"
    )
    return shared.Words(title=data.title, note=data.note, alt=f"{data.title}; {ends}; picks: {picks or 'none'}.")


def range_figure(test: RangeTest, what: str = "") -> RangeFigure:
    """Collect the figure's data; ``what`` was tested, in words."""
    lines = []
    for i, (seed, loss) in enumerate(zip(test.seeds, test.losses, strict=True)):
        finite = np.flatnonzero(~np.isfinite(loss))
        n = int(finite[0]) if len(finite) else len(loss)
        lines.append(
            SeedLine(
                seed=seed, lrs=test.lrs[:n], loss=loss[:n], smoothed=smooth(test.lrs[:n], loss[:n]),
                colour=palette.run_colour(i) if len(test.seeds) <= MOST_SEEDS else palette.QUIET,
            )
        )  # fmt: skip
    starts = [float(line.smoothed[0]) for line in lines if len(line.smoothed)]
    least = min((float(line.smoothed.min()) for line in lines if len(line.smoothed)), default=math.nan)
    top = max(starts, default=math.nan)
    top += ABOVE * (top - least)
    shown = [np.minimum(line.smoothed, top) for line in lines]
    began = "fresh weights" if test.from_lr is None else f"the checkpoints of rate {rate_text(test.from_lr)}"
    return RangeFigure(
        title="Range test: loss while the rate rises",
        note=f"{what}{', from ' if what else 'From '}{began}, {len(test.lrs)} steps a seed; raw losses faint. {test.caution}",
        lrs=(float(test.lrs[0]), float(test.lrs[-1])),
        lines=tuple(lines),
        picks=test.picks,
        bracket=test.bracket,
        axis=shared.measure(np.concatenate([np.empty(0), *shown]), share=False),
    )


def draw(axes: Sequence[Axes], result: Result, look: shared.Look = shared.USUAL) -> None:
    """Draw the figure of the run's last range test on one axes."""
    draw_range_test(axes[0], _figure(result), look)


def _figure(result: Result) -> RangeFigure:
    test, study = result.range_test, result.study
    assert test is not None  # it does not lack one
    return range_figure(test, f"{study['task']}, {study['recipe'].get('optimizer', '')}".strip(", "))


def draw_range_test(ax: Axes, data: RangeFigure, look: shared.Look = shared.USUAL) -> None:
    """Draw the curves above, the picks below, over one axis of rates."""
    ax.set_axis_off()
    curves = ax.inset_axes((0.0, CURVES[0], 1.0, CURVES[1]))
    strip = ax.inset_axes((0.0, STRIP[0], 1.0, STRIP[1]), sharex=curves)
    _curves(curves, data)
    _strip(strip, data)
    for part in (curves, strip):
        if data.bracket.low is not None and data.bracket.high is not None:
            part.axvspan(
                data.bracket.low, data.bracket.high, color=palette.ramp()(0.6), alpha=0.09, lw=0, zorder=0,
                gid="bracket",
            )  # fmt: skip
    width = ax.get_window_extent().width * 72.0 / ax.figure.dpi
    if look.heading:
        shared.draw_heading(ax, data.title, data.note, 22.0, width)


def _curves(ax: Axes, data: RangeFigure) -> None:
    shared.draw_frame(ax)
    shared.draw_rate_axis(ax, data.lrs)
    shared.draw_metric_axis(ax, data.axis)
    if not data.axis.logarithmic:
        ax.ticklabel_format(axis="y", useOffset=False)
    ax.tick_params(labelbottom=False)
    ax.set_xlabel("")
    ax.set_ylabel("training loss", color=palette.INK)
    for line in data.lines:
        ax.plot(line.lrs, line.loss, color=line.colour, lw=0.9, alpha=0.25, zorder=2)
        ax.plot(line.lrs, line.smoothed, color=line.colour, lw=1.9, zorder=3, gid=f"seed-{line.seed}")
    for lr, line in zip(data.bracket.exploded, data.lines, strict=True):
        if lr is not None:
            ax.plot(
                [lr], [1.0], "x", ms=6.5, mew=1.8, color=line.colour, clip_on=False, zorder=5, gid="exploded",
                transform=ax.get_xaxis_transform(),
            )  # fmt: skip
    if data.bracket.low is not None and data.bracket.high is not None:
        ax.annotate(
            f"bracket {rate_text(data.bracket.low)} to {rate_text(data.bracket.high)}",
            xy=(math.sqrt(data.bracket.low * data.bracket.high), 1.0), xycoords=ax.get_xaxis_transform(),
            xytext=(0, -5), textcoords="offset points", ha="center", va="top", fontsize=9, color=palette.INK,
            path_effects=shared.HALO, zorder=6,
        )  # fmt: skip
    marks = ((data.bracket.moves, "begins to fall", "right"), (data.bracket.explodes, "all is lost again", "left"))
    for lr, words, side in marks:
        if lr is None:
            continue
        ax.axvline(lr, color=palette.QUIET, lw=0.9, ls=(0, (4, 3)), zorder=1)
        ax.annotate(
            words, xy=(lr, 1.0), xycoords=ax.get_xaxis_transform(), xytext=(4 if side == "right" else -4, 7),
            textcoords="offset points", ha=side, va="bottom", fontsize=8.5, color=palette.QUIET, annotation_clip=False,
        )  # fmt: skip
    if len(data.lines) <= MOST_SEEDS:
        for i, line in enumerate(data.lines):
            ax.annotate(
                f"seed {line.seed}", xy=(0.0, 0.0), xycoords="axes fraction", xytext=(8, 8 + 12 * (len(data.lines) - 1 - i)),
                textcoords="offset points", fontsize=8.5, color=line.colour, path_effects=shared.HALO, zorder=6,
            )  # fmt: skip


def _strip(ax: Axes, data: RangeFigure) -> None:
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(palette.QUIET)
    ax.tick_params(axis="y", length=0, labelsize=9, colors=palette.INK)
    ax.tick_params(axis="x", which="both", labelsize=9, colors=palette.INK, width=0.8)
    ax.set_xlabel("learning rate η", color=palette.INK)
    ax.set_ylim(len(data.picks) - 0.4, -0.6)
    ax.set_yticks(range(len(data.picks)), [pick.rule for pick in data.picks])
    heights = np.linspace(-0.22, 0.22, len(data.lines)) if len(data.lines) > 1 else [0.0]  # equal picks side by side
    for row, pick in enumerate(data.picks):
        ax.axhline(row, color=palette.GRID, lw=0.8, zorder=1)
        if pick.lr is None:
            continue
        if pick.low is not None and pick.high is not None:
            ax.plot([pick.low, pick.high], [row, row], color=palette.QUIET, lw=1.6, alpha=0.6, zorder=2)
        for lr, height, line in zip(pick.lrs, heights, data.lines, strict=True):
            if lr is not None:
                ax.plot([lr], [row + height], "o", ms=4.5, mew=0, color=line.colour, alpha=0.85, zorder=3)
        ax.plot([pick.lr], [row], "|", ms=11, mew=2, color=palette.INK, zorder=4, gid=f"pick-{pick.rule}")
        ax.annotate(
            rate_text(pick.lr), xy=(1.0, row), xycoords=ax.get_yaxis_transform(), xytext=(8, 0),
            textcoords="offset points", va="center", fontsize=9, color=palette.INK, annotation_clip=False,
        )  # fmt: skip
