"""The figure of the article: training loss and the objective by epoch, a line a rate. Data apart from drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from etude.errors import SpecError, nearest
from etude.notation import rate_text
from etude.present import axes as shared
from etude.present import lines, palette, steps
from etude.present.lines import MOST_LABELS, Line, shown, smoothed
from etude.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SCALES, PLACES = {"xscale": ("linear", "log"), "yscale": ("auto", "linear", "log")}, ("epoch", "step")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the curves are drawn. ``x``: by epoch or by step; if not said, as the result counts.

    By step the first panel has the loss of every step, thinned. ``smooth`` is how much of an exponential moving average one
    place leaves to the next; beside the loss of every step evaluations, which lie many steps apart, stay as they are. Raises
    `SpecError`.
    """

    x: str | None = None
    xscale: str = "linear"
    yscale: str = "auto"
    smooth: float = 0.0

    def __post_init__(self) -> None:
        for name, known in {"x": (*PLACES,), **SCALES}.items():
            value = getattr(self, name)
            if value not in known and not (name == "x" and value is None):
                raise SpecError(
                    f"plot: {name}: expected {' or '.join(known)}, got {value!r}{nearest(str(value), known)}"
                )
        if isinstance(self.smooth, bool) or not isinstance(self.smooth, int | float) or not 0 <= self.smooth < 1:
            raise SpecError(f"plot: smooth: expected a number from 0 to less than 1, such as 0.9, got {self.smooth!r}")


USUAL = Options()
HIGH = ("too high", "unstable")
ABBREVIATED = {  # of metrics, in titles
    "auc", "auroc", "bleu", "bpc", "cer", "ece", "elbo", "f1", "fid", "iou", "kl", "mae", "mape", "mcc", "mse", "nll", "nmse",
    "psnr", "r2", "rmse", "rmsle", "roc", "ssim", "wer",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What one panel shows; ``limits`` come from the rates that learned, so that a lost one does not squash the others."""

    title: str
    ylabel: str
    share: bool
    percent: int  # times a value; 0 where it is none
    lines: tuple[Line, ...]
    limits: tuple[float, float] | None
    logarithmic: bool
    silent: str = "no evaluation yet"


def _titled(word: str) -> str:
    """Write a metric's word as a title has it: ``Accuracy``, ``RMSE``; as it is where it has capitals of its own: ``mIoU``."""
    if word != word.lower():
        return word
    return (
        word.upper() if word in ABBREVIATED else "-".join(f"{part[:1].upper()}{part[1:]}" for part in word.split("-"))
    )


@shared.once
def panels(result: Result, options: Options = USUAL) -> tuple[Panel, Panel]:
    """Collect the two panels' data from the records. Raises `SpecError` for options that these do not allow."""
    if options.x == "epoch" and result.unit == "step":
        raise SpecError(
            "plot: x: these curves are counted in steps, and how many make an epoch is not known; leave x out"
        )
    by_step = options.x == "step" and result.unit != "step"
    if options.x == "step" and not (result.unit == "step" or steps.has(result, "loss")):
        raise SpecError("plot: x: expected epoch, since no loss was recorded by step; got 'step'")
    metric = result.objective["metric"]
    name = metric.removeprefix("val_").replace("_", " ").replace("$", r"\$")  # Matplotlib reads $…$ as mathematics
    titled = " ".join(_titled(word) for word in name.split(" "))
    where = "Validation " if metric.startswith("val_") else ""
    lrs = sorted({t.lr for t in result.judged})
    of_steps = options.x == "step" and steps.has(result, "loss")
    smooth = 0.0 if of_steps else options.smooth  # what one step leaves to the next is nothing after an epoch of them

    def evaluated(metric: str) -> tuple[Line, ...]:
        made = (_line(result, lr, metric, smooth, by_step=by_step) for lr in lrs)
        return tuple(line for line in made if line is not None)

    losses = (
        steps.step_lines(result, "loss", smooth=options.smooth, is_log=options.xscale == "log")
        if of_steps
        else evaluated("train_loss")
    )
    return (
        _panel(result, losses, "train_loss", "Training Loss Curve", "training loss", options),
        _panel(result, evaluated(metric), metric, f"{where}{titled} Curve", f"{where.lower()}{name}", options),
    )


def words(result: Result) -> shared.Words:
    """Say what the figure shows."""
    both = panels(result)
    named = [panel.title.removesuffix(" Curve").lower() for panel in both]
    seeds = lines.seeds_words(both[1].lines, result.recommendation.lr)
    tops = [(panel.lines, None if panel.limits is None else panel.limits[1]) for panel in both]
    note = " ".join([*([seeds] if seeds else []), *lines.marks_words(tops)])
    told = shared.metric_text(both[1].percent)
    ends = [f"{rate_text(line.lr)}: {told(line.y[-1])}" for line in both[1].lines if len(line.x)]
    by = f" by {result.unit}" if result.unit else ""
    title = f"{named[0][0].upper()}{named[0][1:]} and {named[1]}{by}"
    last = f"At the end of its line, {named[1]} of {shared.some(ends)}." if ends else "No evaluation yet."
    return shared.Words(title=title, note=note, alt=f"{title}, a line a rate. {last}")


def _panel(result: Result, lines: tuple[Line, ...], metric: str, title: str, ylabel: str, options: Options) -> Panel:
    verdicts = {rate["lr"]: rate["verdict"] for rate in result.analysis["rates"]}
    # A rate that was paused because it was far too high is as far away as one that diverged.
    away = {
        line.lr for line in lines if verdicts[line.lr] == "diverged" or (line.is_paused and verdicts[line.lr] in HIGH)
    }
    flat = _values([line for line in lines if line.lr not in away] or lines)
    share = metric != "train_loss" and result.objective["direction"] == "maximize" and bool(len(flat))
    evaluated = any(evaluation.step for trial in result.judged for evaluation in trial.evaluations[-1:])
    axis = shared.measure(flat, share=share, logarithmic={"auto": None}.get(options.yscale, options.yscale == "log"))
    if axis.logarithmic and not axis.share and not (flat > 0).any() and len(flat):
        raise SpecError(f"plot: yscale: {metric} has no value above 0, which a logarithmic axis needs; got 'log'")
    judged_by = metric == result.objective["metric"]
    silent = "no evaluation yet" if not evaluated else f"no {ylabel} recorded"
    if lines and (_is_recorded(result, metric) or not evaluated):
        silent = "no finite value"
    percent = shared.percent(axis, result.analysis["margin_text"] if judged_by else "")
    return Panel(
        title=title, ylabel=f"{ylabel}, %" if percent else ylabel, share=axis.share, percent=percent, lines=lines,
        limits=axis.limits, logarithmic=axis.logarithmic, silent=silent,
    )  # fmt: skip


def _is_recorded(result: Result, metric: str) -> bool:
    """Whether anybody recorded the metric; a loss that was never finite is told from one that is not known by its steps."""
    if metric != "train_loss":
        return any(metric in result.columns(trial).metrics for trial in result.judged)
    return steps.has(result, "loss") or any(np.isfinite(result.columns(t).train_loss).any() for t in result.judged)


def _values(lines: Sequence[Line]) -> Floats:
    """Return the finite values that lines show."""
    arrays = [array for line in lines for array in (line.low, line.high, line.raw) if array is not None]
    flat = np.concatenate([np.empty(0), *arrays])
    return np.asarray(flat[np.isfinite(flat)])


def _line(result: Result, lr: float, metric: str, smooth: float, *, by_step: bool) -> Line | None:
    trials, is_paused = shown(result, lr)
    ended, xs, ys, raws = [], [], [], []
    for trial in trials:
        place = result.ended(trial)
        if place is not None:
            ended.append(float(trial.diverged or 0) if by_step else place)
        columns = result.columns(trial)
        values = columns.train_loss if metric == "train_loss" else columns.metrics.get(metric)
        if values is not None:
            known = (columns.steps > 0) & np.isfinite(values)
            xs.append(columns.steps[known].astype(float) if by_step else columns.epochs[known])
            raws.append(values[known])
            ys.append(smoothed(values[known], smooth))
    x, place_of = np.unique(np.concatenate([np.empty(0), *xs]), return_inverse=True)
    if not len(x) and not ended:
        return None
    y, raw = (np.concatenate([np.empty(0), *of]) for of in (ys, raws))
    low, high = np.full(len(x), np.inf), np.full(len(x), -np.inf)
    np.minimum.at(low, place_of, y)
    np.maximum.at(high, place_of, y)
    # Divided before they are added, so that losses near the end of what floats hold do not overflow.
    share = 1 / np.bincount(place_of, minlength=len(x))[place_of]
    mean, mean_raw = (np.bincount(place_of, weights=of * share, minlength=len(x)).astype(float) for of in (y, raw))
    return Line(
        lr=lr, x=x, y=mean, low=low, high=high, ended=tuple(sorted(ended)), n_seeds=len(trials), is_paused=is_paused,
        raw=mean_raw if smooth else None, n_drawn=sum(len(at) > 0 for at in xs),
    )  # fmt: skip


def draw(axes: Sequence[Axes], result: Result, look: shared.Look = shared.USUAL, **options: Any) -> None:
    """Draw the two panels on two axes; the options are those of `Options`."""
    how = Options(**options)
    both = panels(result, how)
    lrs = sorted({line.lr for panel in both for line in panel.lines})
    tried = [trial.lr for trial in result.judged]  # a rate has one colour in all figures, also where some have no line
    colours = palette.colours(tried) if tried else {}
    unit = "step" if how.x == "step" else result.unit
    horizon = result.horizon_step if unit == "step" else result.horizon
    for ax, panel in zip(axes, both, strict=True):
        draw_panel(
            ax, panel, colours, best=result.recommendation.lr, horizon=horizon, unit=unit, is_log=how.xscale == "log"
        )
    if len(lrs) > MOST_LABELS:
        shared.draw_colour_bar(axes, lrs, look)


def draw_panel(
    ax: Axes, panel: Panel, colours: Mapping[float, str], *, best: float | None, horizon: float, unit: str = "epoch",
    is_log: bool = False,
) -> None:  # fmt: skip
    """Draw one panel: mean lines with the seeds' band, diverged rates to where they ended and marked."""
    _frame(ax, panel, horizon, unit)
    lines.draw_lines(ax, panel.lines, colours, best=best, top=None if panel.limits is None else panel.limits[1])
    if is_log and unit and any(len(line.x) for line in panel.lines):
        lines.draw_log_places(ax)


def _frame(ax: Axes, panel: Panel, horizon: float, unit: str) -> None:
    shared.draw_title(ax, panel.title)
    ax.set_xlabel(unit or "final values", color=palette.INK)
    ax.set_ylabel(panel.ylabel, color=palette.INK)
    shared.draw_metric_axis(
        ax, shared.MetricAxis(share=panel.share, logarithmic=panel.logarithmic, limits=panel.limits)
    )
    bins = shared.place_ticks(ax, 8, horizon)
    ax.xaxis.set_major_locator(MaxNLocator(integer=horizon >= 2, nbins=bins, min_n_ticks=1) if unit else NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: shared.place_text(v)))
    shared.draw_frame(ax)
    ax.margins(x=0.03)
    if not panel.lines or panel.limits is None:
        ax.text(0.5, 0.5, panel.silent, transform=ax.transAxes, ha="center", color=palette.QUIET)
        ax.set_yticks([])
