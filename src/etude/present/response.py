"""The figure ``rates``: the objective at the horizon against the learning rate. Data apart from drawing.

Seeds are dots, the rate-response curve a line with its 95 % band where there is one; a trial without a score that counts
(diverged, collapsed, stalled, failed) is a cross above the frame, a rate that a search paused a ring. S seeds, G points of
the curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from etude.analysis.summary import NARROW
from etude.notation import format_rate, rate_text, share_text, time_text
from etude.present import axes as shared
from etude.present import palette
from etude.result import Result
from etude.store import UNFINISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LOST = ("diverged", "collapsed", "stalled", "failed")  # the order of the rows above the frame, from the frame up
FOOT = 0.17  # of the axes' height, below the data: the optimum's interval and the recommended rate
BAR = 0.05  # where in it the interval lies
NAME, SAID = 10.5, 9.0  # size of the recommended rate's name and of what is said of the interval
NAME_LIFT = 8.0  # points from the bar to the name above it
BELOW = 42.0  # points that ticks and label of the horizontal axis take
LABEL, CLEAR = 8.5, 6.0  # size of the plateau's label, and points between it and what it must not touch
WHISKER_ROOM = (
    1.0  # of a logarithmic axis' height, that a whisker may add at each end: one that ends at 0 has no end there
)
BAND_ROOM = (
    0.3  # of the height, that the band may add at each end; a wider one leaves the frame, so that dots stay apart
)


@dataclass(frozen=True, kw_only=True)
class RatePoint:
    """One rate: ``scores`` (S,) of the trials that learned, their ``seeds``, mean and its standard error; ``lost`` counts the
    others.

    ``paused`` is the share of the horizon at which it was paused, where no seed of it got to the end; else None.
    """

    lr: float
    seeds: tuple[int, ...]
    scores: Floats
    mean: float
    error: float
    lost: Mapping[str, int]
    n_trials: int
    paused: float | None = None


@dataclass(frozen=True, kw_only=True)
class ResponseCurve:
    """The rate-response curve and its 95 % band, each (G,), in the metric's unit."""

    lrs: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, kw_only=True)
class Shaded:
    """The plateau: an estimate, what surely belongs to it (or None) and what may; ``open`` names ends that are not told."""

    low: float
    high: float
    inner: tuple[float, float] | None
    outer: tuple[float, float]
    label: str


@dataclass(frozen=True, kw_only=True)
class RatesFigure:
    """All that the figure shows; ``level`` is the best reached, ``delta`` the margin, ``sign`` +1 where more is better.

    ``axis`` is what scores and whiskers take, ``frame`` what is drawn: with the band, and the foot.
    """

    title: str
    note: str
    ylabel: str
    axis: shared.MetricAxis
    frame: shared.MetricAxis
    percent: int
    sign: int
    points: tuple[RatePoint, ...]
    curve: ResponseCurve | None
    plateau: Shaded | None
    best: float | None
    optimum: float | None
    interval: tuple[float, float] | None
    open: tuple[str, ...]
    level: float | None
    delta: float | None
    delta_text: str


@shared.once
def rates_figure(result: Result) -> RatesFigure:
    """Collect the figure's data from a result."""
    said, metric = result.analysis, result.objective["metric"]
    sign = 1 if result.objective["direction"] == "maximize" else -1
    points, curve = rate_points(result), response_curve(result)
    axis = metric_axis([(points, curve)], sign)
    percent = shared.percent(axis, said["margin_text"])
    response, answer = said.get("response") or {}, result.recommendation
    interval = answer.optimum_interval or response.get("optimum_interval")
    ends = tuple(said["recommendation"].get("interval_open") or response.get("open") or ())
    plateau = _shaded(response.get("plateau"), said["margin_text"])
    level = None
    if curve is not None:
        level = float(sign * np.max(sign * curve.mean))
    elif answer.lr is not None:
        level = next((point.mean for point in points if point.lr == answer.lr), None)
    words = shared.metric_words(metric)
    return RatesFigure(
        title=f"{words[0].upper()}{words[1:]} {_after(result)} by learning rate",
        note=" ".join(
            [*_note(result, points, curve), *_marks_note(answer.lr, response.get("optimum"), interval, ends, plateau)]
        ),
        ylabel=shared.metric_words(metric, percent=percent),
        axis=axis,
        frame=frame(axis, [] if curve is None else [curve], FOOT if answer.lr is not None else 0.0),
        percent=percent,
        sign=sign,
        points=points,
        curve=curve,
        plateau=plateau,
        best=answer.lr,
        optimum=response.get("optimum"),
        interval=None if interval is None else (interval[0], interval[1]),
        open=ends,
        level=level if level is not None and math.isfinite(level) else None,
        delta=said["margin"],
        delta_text=said["margin_text"],
    )


def words(result: Result) -> shared.Words:
    """Say what the figure shows."""
    data = rates_figure(result)
    told = shared.metric_text(data.percent)
    means = [f"{rate_text(point.lr)}: {told(point.mean)}" for point in data.points if len(point.scores)]
    lost = [f"{rate_text(p.lr)}: {', '.join(f'{n} of {p.n_trials} {word}' for word, n in p.lost.items())}"
            for p in data.points if p.lost]  # fmt: skip
    best = "No rate is recommended." if data.best is None else f"Recommended is {rate_text(data.best)}"
    if data.best is not None:
        best += f"; {interval_text(data.interval, data.open)}." if data.interval is not None else "."
    parts = [f"{data.title}.", best, f"Means by rate: {shared.some(means)}." if means else "No trial has a score."]
    parts += [f"Lost: {shared.some(lost)}."] if lost else []
    return shared.Words(title=data.title, note=data.note, alt=" ".join(parts))


def rate_points(result: Result) -> tuple[RatePoint, ...]:
    """Return the rates tried, lowest first, with the scores of the trials that learned and what became of the others."""
    status = {(t.lr, t.seed): "paused" if result.is_paused(t) else t.status for t in result.judged}
    evidence = {rate["lr"]: rate["evidence"] for rate in result.analysis["rates"]}
    paused = {lr: at / result.horizon for lr, of in evidence.items() if (at := of.get("paused_at")) is not None}
    scores: dict[float, list[float]] = {}
    seeds: dict[float, list[int]] = {}
    lost: dict[float, dict[str, int]] = {}
    count: dict[float, int] = {}
    for trial in result.analysis["trials"]:
        lr = trial["lr"]
        of_rate, of_lost = scores.setdefault(lr, []), lost.setdefault(lr, {})
        count[lr] = count.get(lr, 0) + 1
        words = (status.get((lr, trial["seed"])), trial["dynamics"])
        word = None if words[0] == "paused" and trial["score"] is None else next((w for w in words if w in LOST), None)
        if word is not None:
            of_lost[word] = of_lost.get(word, 0) + 1
        elif trial["score"] is not None and math.isfinite(trial["score"]):
            of_rate.append(trial["score"])
            seeds.setdefault(lr, []).append(trial["seed"])
    return tuple(
        RatePoint(
            lr=lr,
            seeds=tuple(seeds.get(lr, ())),
            scores=np.array(scores[lr], float),
            mean=float(np.mean(scores[lr])) if scores[lr] else math.nan,
            error=float(evidence.get(lr, {}).get("mean_error") or 0.0),
            lost=lost[lr],
            n_trials=count[lr],
            paused=paused.get(lr),
        )
        for lr in sorted(scores)
    )


def response_curve(result: Result) -> ResponseCurve | None:
    """Return the rate-response curve; None where it cannot be told."""
    response = result.analysis.get("response") or {}
    if not response.get("lrs"):
        return None
    lrs, mean, low, high = (np.array(response[name], float) for name in ("lrs", "mean", "low", "high"))
    return ResponseCurve(lrs=lrs, mean=mean, low=low, high=high)


def metric_axis(shown: Sequence[tuple[Sequence[RatePoint], ResponseCurve | None]], sign: int) -> shared.MetricAxis:
    """Find the metric's axis from what learned, each run's points and its curve; whiskers are whole."""
    values = [point.scores for points, _ in shown for point in points]
    share = sign > 0 and all(((v >= 0) & (v <= 1)).all() for v in values)
    # A curve may leave [0, 1] a little, a share's axis does not.
    values += [np.clip(c.mean, 0.0, 1.0) if share else c.mean for _, c in shown if c is not None]
    axis = shared.measure(np.concatenate([np.empty(0), *values]), share=share)
    ends = [end for points, curve in shown for point in points for end in whisker(point, curve)]
    return axis.holding(np.array(ends, float), WHISKER_ROOM if axis.logarithmic else math.inf)


def frame(axis: shared.MetricAxis, curves: Sequence[ResponseCurve], foot: float = 0.0) -> shared.MetricAxis:
    """Return the axis with room for a ``foot`` below what learned, and for the curves' bands, which may lie behind the foot.

    A band is whole where that leaves the data the better part of the height.
    """
    banded = axis.holding(np.concatenate([np.empty(0), *[np.append(c.low, c.high) for c in curves]]), BAND_ROOM)
    if axis.limits is None or banded.limits is None:
        return axis
    footed = replace(axis, limits=(axis.limits[0], banded.limits[1])).with_foot(foot)
    return replace(footed, limits=(min(banded.limits[0], *(footed.limits or ())), banded.limits[1]))


def whisker(point: RatePoint, curve: ResponseCurve | None) -> tuple[float, ...]:
    """Return the ends of a rate's whisker; none beside a curve, whose band says more."""
    return () if curve is not None or not point.error > 0 else (point.mean - point.error, point.mean + point.error)


def _note(result: Result, points: Sequence[RatePoint], curve: ResponseCurve | None) -> list[str]:
    seeds = max((len(point.scores) for point in points), default=0)
    if not seeds:
        return []
    parts = ["Dots: seeds; short bars: their means." if seeds > 1 else "One seed: dots are single trials."]
    if curve is not None:
        parts.append("Line: rate-response curve with its 95 % band.")
        if ((result.analysis.get("response") or {}).get("optimum") or 0.0) > 1.01 * curve.lrs[-1]:
            parts[-1] = f"{parts[-1][:-1]}, as far as most of its draws agree that there is no cliff."
    elif any(point.error > 0 for point in points):
        parts.append("Whiskers: one standard error" + (" over the validation examples." if seeds == 1 else "."))
    if curve is None and (reason := (result.analysis.get("response") or {}).get("reason")):
        parts.append(f"No curve: {reason.removeprefix('not located: ').rstrip('.')}.")
    if any(point.paused is not None for point in points):
        parts.append("Rings: paused at that share of the horizon.")
    unfinished = sum(t.status in UNFINISHED and not result.is_paused(t) for t in result.judged)
    if unfinished:
        parts.append(f"{unfinished} of {len(result.judged)} trials not finished.")
    return parts


def _marks_note(
    best: float | None,
    optimum: float | None,
    interval: Sequence[float] | None,
    is_open: Sequence[str],
    plateau: Shaded | None,
) -> list[str]:
    """Say what the upright shades and the marks at the foot stand for."""
    parts = []
    if plateau is not None:
        shades = ["surely (dark)"] if plateau.inner is not None else []
        shades += ["by estimate"] + (["perhaps (pale)"] if plateau.outer != (plateau.low, plateau.high) else [])
        upright = f"Upright shade{'s' * (len(shades) > 1)}: rates {plateau.label.partition(':')[0]}"
        parts.append(f"{upright}, {', '.join(shades)}.")
    if best is None:
        return parts
    if interval is None:
        return [*parts, "Diamond: the recommended rate."]
    bar = "Bar at the foot: where the best rate lies (95 %)" + ("; arrow: not told from these rates" if is_open else "")
    circle = "; circle: its estimate" if optimum is not None else ""
    return [*parts, f"{bar}{circle}; diamond: the recommended rate."]


def _shaded(plateau: Mapping[str, Any] | None, margin_text: str) -> Shaded | None:
    if plateau is None or plateau["decades"] < NARROW:
        return None
    inner, outer = plateau.get("inner"), plateau["outer"]
    least = "at least " if plateau.get("open") else ""
    return Shaded(
        low=plateau["low"],
        high=plateau["high"],
        inner=None if inner is None else (inner[0], inner[1]),
        outer=(outer[0], outer[1]),
        label=f"within {margin_text.removeprefix('± ')} of the best:\n{least}{plateau['decades']:.1f} decades",
    )


def _after(result: Result) -> str:
    return f"after {time_text(result.horizon, result.unit)}," if result.unit else "at the end,"


def draw(axes: Sequence[Axes], result: Result, look: shared.Look = shared.USUAL) -> None:
    """Draw the figure on one axes."""
    draw_rates(axes[0], rates_figure(result), look)


def draw_rates(ax: Axes, data: RatesFigure, look: shared.Look = shared.USUAL) -> None:
    """Draw the figure's data: shading, curve, dots, the interval at the foot, what was lost above the frame."""
    lrs = [point.lr for point in data.points]
    colours = palette.colours(lrs) if lrs else {}
    shared.draw_frame(ax)
    if lrs:
        shared.draw_rate_axis(ax, lrs)
    shared.draw_metric_axis(ax, data.frame)
    ax.set_ylabel(data.ylabel, color=palette.INK)
    above = _heading(ax, data, colours, look)
    if data.axis.limits is None:
        ax.set_yticks([])
        kinds = {kind for point in data.points for kind in ("paused" if point.paused is not None else "", *point.lost)}
        said = "no score at the horizon yet"
        if kinds - {""}:
            said = "no trial was carried to the horizon" if "paused" in kinds else "no trial has learned"
        ax.text(0.5, 0.5, said, transform=ax.transAxes, ha="center", color=palette.QUIET)
    else:
        _margin(ax, data, look)
        _curve(ax, data)
        _dots(ax, data, colours)
        _foot(ax, data, look)
        _plateau(ax, data, above)


def _margin(ax: Axes, data: RatesFigure, look: shared.Look) -> None:
    if data.level is None or not data.delta:
        return
    low, high = sorted((data.level, data.level - data.sign * data.delta))
    ax.axhspan(low, high, color=palette.QUIET, alpha=0.13, lw=0, zorder=1, gid=shared.mark("margin"))
    ax.axhline(
        data.level - data.sign * data.delta, color=palette.QUIET, lw=0.8, ls=(0, (4, 3)), zorder=2, gid=shared.mark("margin")
    )  # fmt: skip
    if look.narrow:
        return  # there is no room beside the frame; the page says it
    middle = (shared.height_of(ax, low) + shared.height_of(ax, high)) / 2
    ax.annotate(
        f"margin\n{data.delta_text}", xy=(1.0, middle), xycoords="axes fraction", xytext=(6, 0),
        textcoords="offset points", va="center", fontsize=8.5, color=palette.QUIET, annotation_clip=False,
    )  # fmt: skip


def _curve(ax: Axes, data: RatesFigure) -> None:
    if data.curve is None:
        return
    ax.fill_between(
        data.curve.lrs, data.curve.low, data.curve.high, color=palette.QUIET, alpha=0.2, lw=0, zorder=2, gid="response"
    )
    ax.plot(data.curve.lrs, data.curve.mean, color=palette.INK, lw=1.5, alpha=0.85, zorder=3, gid="response")


def _dots(ax: Axes, data: RatesFigure, colours: Mapping[float, str]) -> None:
    crowded, limits = len(data.points) > 20, data.axis.limits
    assert limits is not None  # else there is no score to draw
    for point in data.points:
        if not len(point.scores):
            continue
        chosen, colour = point.lr == data.best, colours[point.lr]
        # A perfect score lies beyond the end of a logarithmic axis, and Matplotlib leaves out what is off the page.
        inside = np.clip([*point.scores, point.mean], *limits)
        if ends := whisker(point, data.curve):
            shown = np.clip(ends, 0.0, 1.0) if data.axis.share else np.array(ends)
            ax.plot([point.lr] * 2, shown, color=colour, lw=1.2, zorder=4, gid=shared.mark("error", point.lr))
        ax.plot(
            [point.lr] * len(point.scores), inside[:-1], "o", color=colour, ms=4 if crowded else 5.5, mew=0, zorder=5,
            alpha=0.6 if len(point.scores) > 1 else 1.0, gid=shared.mark("seeds", point.lr, point.seeds),
        )  # fmt: skip
        if len(point.scores) > 1:
            ax.plot(
                [point.lr], inside[-1:], "_", color=palette.INK if chosen else colour, ms=8 if crowded else 15,
                mew=2.8 if chosen else 1.8, zorder=6, gid=shared.mark("mean", point.lr),
            )  # fmt: skip


def _foot(ax: Axes, data: RatesFigure, look: shared.Look) -> None:
    """Draw the optimum's interval as a bar, open ends as arrows, and the recommended rate as a diamond with its name."""
    if data.best is None:
        return
    place: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False, "color": palette.INK}
    where = {lr: ax.transAxes.inverted().transform(ax.transData.transform((lr, data.axis.limits[0])))[0]  # type: ignore[index]
             for lr in (data.best, *(data.interval or ()))}  # fmt: skip
    if data.interval is not None:
        low, high = data.interval
        ax.plot([low, high], [BAR, BAR], lw=2.2, solid_capstyle="butt", zorder=6, gid="interval", **place)
        for end, name, ahead in ((low, "low", -1), (high, "high", 1)):
            if name not in data.open:
                ax.plot([end], [BAR], "|", ms=8, mew=2, zorder=6, gid="interval", **place)
                continue
            arrow = _arrow(ax, where[end] if ahead < 0 else 1 - where[end])
            ax.annotate(  # an arrow beyond the end: the rates tried end here, the interval does not
                "", xy=(end, BAR), xycoords=ax.get_xaxis_transform(), xytext=(ahead * arrow, 0), textcoords="offset points",
                arrowprops={"arrowstyle": "<|-", "color": palette.INK, "lw": 2.2, "shrinkA": 0, "shrinkB": 0},
                annotation_clip=False, gid=f"open-{name}",
            )  # fmt: skip
        if data.optimum is not None:
            ax.plot([data.optimum], [BAR], "o", ms=5, mfc="white", mew=1.5, zorder=7, gid="interval", **place)
        if not look.narrow:
            _interval_label(ax, data, where)
    ax.plot([data.best], [BAR], "D", ms=7, mew=0, zorder=8, gid=shared.mark("recommended", data.best), **place)
    width, _ = shared.size_of(ax)
    half, at = shared.text_length(rate_text(data.best), NAME, bold=True) / 2, where[data.best] * width
    ax.annotate(  # in the middle of its diamond, but for what would leave the frame
        rate_text(data.best), xy=(data.best, BAR), xycoords=ax.get_xaxis_transform(),
        xytext=(min(max(at, half + 2), width - half - 2) - at, NAME_LIFT), textcoords="offset points", va="bottom",
        ha="center", fontsize=NAME, fontweight="bold", color=palette.INK, annotation_clip=False, zorder=8,
        gid=shared.mark("recommended", data.best),
    )  # fmt: skip


def _arrow(ax: Axes, room: float) -> float:
    """Return how long an arrow is, in points, beyond an end of the interval with ``room`` of the axes' width beside it."""
    return min(22.0, max(10.0, room * shared.size_of(ax)[0] + 2))


def _interval_label(ax: Axes, data: RatesFigure, where: Mapping[float, float]) -> None:
    """Say the interval at the end of its bar that has more room; if neither has enough, above the bar at the frame's edge.

    There it lies on the side of the recommended rate's name that has more room; where that is not enough, it is left out.
    """
    assert data.interval is not None
    assert data.best is not None
    text, (width, _) = interval_text(data.interval, data.open), shared.size_of(ax)
    length = shared.text_length(text, SAID)
    style: dict[str, Any] = {
        "xycoords": ax.get_xaxis_transform(), "textcoords": "offset points", "fontsize": SAID, "color": palette.QUIET,
        "annotation_clip": False, "zorder": 7, "gid": "interval",
    }  # fmt: skip
    low, high = data.interval
    ends = {"high": max(high, data.best), "low": min(low, data.best)}
    room = {"high": (1 - where[ends["high"]]) * width, "low": where[ends["low"]] * width}
    side = max(room, key=lambda name: room[name])
    gap = 6 + _arrow(ax, room[side] / width) if side in data.open else 10
    if length + gap < room[side]:
        right = side == "high"
        ax.annotate(text, xy=(ends[side], BAR), xytext=(gap if right else -gap, 0), va="center",
                    ha="left" if right else "right", **style)  # fmt: skip
        return
    right = where[data.best] < 0.5
    named = shared.text_length(rate_text(data.best), NAME, bold=True) / 2
    if length + named + 12 < width * max(where[data.best], 1 - where[data.best]):
        style["xycoords"] = "axes fraction"
        ax.annotate(text, xy=(1.0 if right else 0.0, BAR), xytext=(-4 if right else 4, NAME_LIFT + 1), va="bottom",
                    ha="right" if right else "left", **style)  # fmt: skip


def interval_text(interval: tuple[float, float], is_open: Sequence[str]) -> str:
    """Write where the best rate lies: ``best rate: 9.2e-4 to 2.4e-3 (95 %)``; an open end is not written as if it were one."""
    low, high = (format_rate(float(f"{end:.2g}")) for end in interval)
    if "low" in is_open and "high" in is_open:
        return "best rate: not told from these"
    if "low" in is_open:
        return f"best rate: below {high} (95 %)"
    return f"best rate: above {low} (95 %)" if "high" in is_open else f"best rate: {low} to {high} (95 %)"


def _plateau(ax: Axes, data: RatesFigure, above: float) -> None:
    """Shade the plateau and name it; ``above`` the frame, so many points are taken."""
    if data.plateau is None:
        return
    colour = palette.ramp()(0.6)
    for span in (data.plateau.outer, (data.plateau.low, data.plateau.high), data.plateau.inner):
        if span is not None and span[1] > span[0]:
            ax.axvspan(*span, color=colour, alpha=0.05, lw=0, zorder=0, gid="plateau")
    place = _free_place(ax, data.plateau, data, above)
    if place is None:
        return  # the note says what is shaded
    ax.annotate(
        data.plateau.label, xy=(place[0], place[1]), xycoords="axes fraction", ha="center", va="center", fontsize=LABEL,
        color=palette.QUIET, zorder=7, annotation_clip=False, gid="plateau",
    )  # fmt: skip


def _free_place(ax: Axes, plateau: Shaded, data: RatesFigure, above: float) -> tuple[float, float] | None:
    """Return where on the axes the plateau's label meets neither dot nor curve nor edge, or None where there is no such place.

    From the worse side on, in the plateau's middle or as near to it as the frame lets it be, else so that it begins or ends there.
    """
    width, height = shared.size_of(ax)
    figure: Any = ax.figure
    width = shared.LEAST_LEFT * width
    height = min(shared.LEAST_LEFT * height, 72.0 * figure.get_size_inches()[1] - above - BELOW)
    foot = max(
        FOOT, BAR + (NAME_LIFT + 1.4 * NAME) / height
    )  # the recommended rate's name is no lower where the axes are
    lines = plateau.label.split("\n")
    half = np.array(
        [max(shared.text_length(line, LABEL) for line in lines) / 2 / width, 0.6 * LABEL * len(lines) / height]
    )
    clear = half + np.array([CLEAR / width, CLEAR / height])
    taken = _taken(ax, data)
    ((middle, _),) = shared.on_axes(ax, [(math.sqrt(plateau.outer[0] * plateau.outer[1]), 0.0)])
    heights = np.arange(foot + half[1], 1 - half[1], 0.04)
    least, most = half[0] + 0.01, 0.99 - half[0]
    for x in (min(max(middle, least), most), middle + half[0], middle - half[0]):
        for y in heights if data.sign > 0 else heights[::-1]:
            if least <= x <= most and not (np.abs(taken - (x, y)) < clear).all(1).any():
                return float(x), float(y)
    return None


def _taken(ax: Axes, data: RatesFigure) -> Floats:
    """Return where dots, the bars of means and the curve lie on the axes, (P, 2), as points near enough to each other."""
    spots = [shared.on_axes(ax, [(point.lr, score) for point in data.points for score in point.scores])]
    bars = shared.on_axes(ax, [(point.lr, point.mean) for point in data.points if len(point.scores) > 1])
    spots += [bars + np.array([aside / shared.size_of(ax)[0], 0.0]) for aside in (-8.0, 8.0)]
    if data.curve is not None:
        spots.append(shared.along(shared.on_axes(ax, list(zip(data.curve.lrs, data.curve.mean, strict=True)))))
    return np.concatenate(spots)


def _heading(ax: Axes, data: RatesFigure, colours: Mapping[float, str], look: shared.Look) -> float:
    """Draw, from the frame up: a row a kind of loss, the note, the title; return how high that is, in points."""
    width = ax.get_window_extent().width * 72.0 / ax.figure.dpi
    rows = [
        shared.LostRow(
            label=word,
            texts={p.lr: f"{p.lost[word]}/{p.n_trials}" for p in data.points if word in p.lost},
            colours=colours,
        )
        for word in LOST
        if any(word in point.lost for point in data.points)
    ]
    paused = {p.lr: share_text(p.paused) for p in data.points if p.paused is not None}
    if paused:
        rows.insert(0, shared.LostRow(label="paused", texts=paused, colours=colours, is_lost=False))
    top = shared.draw_lost(ax, rows, width) + 8.0
    return shared.draw_heading(ax, data.title, data.note, top, width) if look.heading else top
