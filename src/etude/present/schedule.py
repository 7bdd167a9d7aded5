"""The figure of the learning rates themselves: by epoch, a line a rate. Data apart from drawing.

Drawn from what is stored: a named schedule is computed anew, a schedule of the caller's own comes from its stored factors.
S steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from etude.notation import rate_text
from etude.present import axes as shared
from etude.present import palette
from etude.result import Result
from etude.spec.function import sample_steps
from etude.spec.recipe import Recipe, complete
from etude.spec.schedule import warmup_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST_STEPS = 2000  # drawn; more could not be told apart
MOST_LABELS = 7  # as in the curves
LABEL_GAP = 0.05  # of the axes' height, between two labels
LEAST_FACTOR = 0.01  # of the lowest rate's peak: where the logarithmic axis ends, since many schedules end at 0
FAR_RATES = 4.0  # ratio of two rates from which on the axis is logarithmic
AT_PEAK = 0.98  # of the peak: a line that ends there is labelled at its end
WORD_ROOM = 0.1  # of the axes' width, which the word "warmup" needs


@dataclass(frozen=True, kw_only=True)
class ScheduleFigure:
    """What the figure shows: ``x`` epochs with which the steps end, and the rates' common ``factors`` in them, both (S,).

    ``warmup`` and ``horizon`` in epochs; ``best`` is the recommended rate, or None.
    """

    title: str
    note: str
    lrs: tuple[float, ...]
    x: Floats
    factors: Floats
    warmup: float
    horizon: float
    best: float | None
    logarithmic: bool
    limits: tuple[float, float]


def lacks(result: Result) -> str | None:
    """Say what a result would need to have a schedule to draw: curves from elsewhere and loops of one's own have no recipe."""
    if result.imported is None and "schedule" in (result.study.get("recipe") or {}):
        return None
    return "needs the recipe of a run that etude trained, got curves without one; draw 'curves' or 'rates'"


def words(result: Result) -> shared.Words:
    """Say what the figure shows."""
    data = schedule_figure(result)
    ends = f"{rate_text(data.lrs[0])} to {rate_text(data.lrs[-1])}" if len(data.lrs) > 1 else rate_text(data.lrs[0])
    last = f"they end at {100 * float(data.factors[-1]):.3g} % of the study's rates"
    return shared.Words(
        title=data.title, note=data.note,
        alt=f"{data.title} over {data.horizon:g} epochs, a line a rate, {ends}; {last}. {data.note}",
    )  # fmt: skip


@shared.once
def schedule_figure(result: Result) -> ScheduleFigure:
    """Collect the figure's data from the records of a result that it `applies` to."""
    recipe, per_epoch, last = _recipe(result), result.steps_per_epoch, result.horizon_step
    warm = min(warmup_steps(recipe.warmup, per_epoch, last), last)
    steps = sorted(
        {step + 1 for step in sample_steps(last - 1, MOST_STEPS)} | ({warm, warm + 1} & {*range(1, last + 1)})
    )
    factors = np.array([recipe.factor(k, steps_per_epoch=per_epoch, horizon_step=last) for k in steps])
    lrs, note = tuple(sorted(map(float, result.study["lrs"]))), _note(recipe, result, warm)
    highest = max(1.0, float(factors.max()))
    logarithmic = lrs[-1] / lrs[0] > FAR_RATES
    if logarithmic:
        shown = factors[factors > LEAST_FACTOR]
        low, high = lrs[0] * (float(shown.min()) if len(shown) == len(factors) else LEAST_FACTOR), lrs[-1] * highest
        room = (high / low) ** 0.06
        limits = (low / min(room, 1.5), high * room * 1.1)
        if lrs[0] * float(factors.min()) < limits[0]:
            note += f" The axis ends near {rate_text(low)}; rates go on below it."
    else:
        limits = (0.0, lrs[-1] * highest * 1.12)
    return ScheduleFigure(
        title="Learning rate by epoch",
        note=note,
        lrs=lrs,
        x=np.array(steps) / per_epoch,
        factors=factors,
        warmup=warm / per_epoch,
        horizon=last / per_epoch,
        best=result.recommendation.lr,
        logarithmic=logarithmic,
        limits=limits,
    )


def _recipe(result: Result) -> Recipe:
    """Return a recipe with the stored schedule; one of the caller's own is read off its stored factors."""
    stored, samples = complete(result.study["recipe"]), result.study.get("schedule_samples")
    schedule: Any = stored["schedule"]
    if samples is not None:

        def schedule(t: int) -> float:
            return float(np.interp(t, samples["steps"], samples["factors"]))

    return Recipe(schedule=schedule, schedule_options=stored["schedule_options"], warmup=stored["warmup"])


def _note(recipe: Recipe, result: Result, warm: int) -> str:
    per_epoch, o = result.steps_per_epoch, recipe.schedule_options
    samples = result.study.get("schedule_samples")
    if samples is None:
        said = _named(str(recipe.schedule), o)
    else:
        said = f"{result.study['recipe']['schedule']}, from {len(samples['steps'])} stored factors"
    after = f"; linear warmup of {warm:,} step{'s' * (warm != 1)}" if warm else ""
    return f"Schedule: {said}{after}. {per_epoch:,} step{'s' * (per_epoch != 1)} an epoch."


def _named(schedule: str, o: Mapping[str, Any]) -> str:
    match schedule:
        case "linear" | "cosine":
            return f"{schedule}, to {o['end']:g}{' of the peak' if o['end'] else ''}"
        case "one-cycle":
            return f"one-cycle, rising for {100 * o['rise']:g} % of the horizon"
        case "step":
            return f"step, × {o['factor']:g} every {o['every']:g} epoch{'s' * (o['every'] != 1)}"
        case "exponential":
            return f"exponential, × {o['factor']:g} an epoch"
        case "wsd":
            return f"wsd, {'1 − √' if o['shape'] == 'sqrt' else 'linear'} decay over the last {100 * o['decay']:g} %"
    return schedule


def draw(axes: Sequence[Axes], result: Result, look: shared.Look = shared.USUAL) -> None:
    """Draw the figure on one axes."""
    draw_schedule(axes[0], schedule_figure(result), look)


def draw_schedule(ax: Axes, data: ScheduleFigure, look: shared.Look = shared.USUAL) -> None:
    """Draw a line a rate, warmup shaded, each labelled where it was last at its peak."""
    colours = palette.colours(data.lrs)
    _frame(ax, data)
    for lr in data.lrs:
        chosen = lr == data.best
        ax.step(
            np.concatenate([[0.0], data.x]), lr * np.concatenate([data.factors[:1], data.factors]), where="pre",
            color=colours[lr], lw=2.6 if chosen else 1.8, zorder=4 if chosen else 3, gid=shared.mark("line", lr),
        )  # fmt: skip
    _warmup(ax, data)
    labelled = data.lrs if len(data.lrs) <= MOST_LABELS else tuple(lr for lr in data.lrs if lr == data.best)
    _labels(ax, data, labelled, colours)
    if len(data.lrs) > MOST_LABELS:
        shared.draw_colour_bar([ax], data.lrs, look)
    width = ax.get_window_extent().width * 72.0 / ax.figure.dpi
    if look.heading:
        shared.draw_heading(ax, data.title, data.note, 8.0, width)


def _frame(ax: Axes, data: ScheduleFigure) -> None:
    shared.draw_metric_axis(ax, shared.MetricAxis(share=False, logarithmic=data.logarithmic, limits=data.limits))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: rate_text(v) if v > 0 else "0"))
    ax.xaxis.set_major_locator(
        MaxNLocator(
            integer=data.horizon >= 2, nbins=shared.place_ticks(ax, 8, data.horizon), steps=[1, 2, 5, 10], min_n_ticks=1
        )
    )
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: shared.place_text(v)))
    ax.set_xlim(-0.01 * data.horizon, 1.01 * data.horizon)
    ax.set_xlabel("epoch", color=palette.INK)
    ax.set_ylabel("learning rate η", color=palette.INK)
    shared.draw_frame(ax)


def _warmup(ax: Axes, data: ScheduleFigure) -> None:
    """Shade the warmup and name it at its foot, where no line is: inside when the word has room, else beside."""
    if not data.warmup:
        return
    ax.axvspan(0.0, data.warmup, color=palette.GRID, alpha=0.55, lw=0, zorder=0, gid="warmup")
    inside = data.warmup > WORD_ROOM * data.horizon
    ax.annotate(
        "warmup", xy=(data.warmup, 0.0), xycoords=ax.get_xaxis_transform(), xytext=(-4 if inside else 4, 5),
        textcoords="offset points", ha="right" if inside else "left", va="bottom", fontsize=8.5, color=palette.QUIET,
        path_effects=None if inside else shared.HALO,
    )  # fmt: skip


def _labels(ax: Axes, data: ScheduleFigure, lrs: Sequence[float], colours: Mapping[float, str]) -> None:
    """Write each rate beyond its line's end where it ends at its peak, else above the last place where it was there."""
    highest = float(data.factors.max())
    at_end = data.factors[-1] >= AT_PEAK * highest
    peak = np.flatnonzero(data.factors >= 0.995 * highest)
    first = peak[np.flatnonzero(np.diff(peak) > 1)[-1] + 1] if (np.diff(peak) > 1).any() else peak[0]
    began = float(data.x[first - 1]) if first else 0.0
    x = data.horizon if at_end else (began + float(data.x[peak[-1]])) / 2
    side = "left" if at_end or x < 0.08 * data.horizon else "right" if x > 0.92 * data.horizon else "center"
    heights = shared.spread([shared.height_of(ax, lr * highest) for lr in lrs], LABEL_GAP)
    for lr, height in zip(lrs, heights, strict=True):
        chosen = lr == data.best
        ax.annotate(
            rate_text(lr), xy=(x, height), xycoords=ax.get_xaxis_transform(), xytext=(8, 0) if at_end else (0, 4),
            textcoords="offset points", ha=side, va="center" if at_end else "bottom", fontsize=9.5,
            color=palette.INK if chosen else palette.for_text(colours[lr]), fontweight="bold" if chosen else "normal",
            annotation_clip=False, path_effects=shared.HALO, zorder=6, gid=shared.mark("label", lr),
        )  # fmt: skip
