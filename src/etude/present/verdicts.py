"""The figure ``verdicts``: a strip by rate with its word, its gap to the best, and the evidence. Data apart from drawing.

Gaps lie on an axis that is linear near the best rate and logarithmic far from it (arsinh, in units of the margin δ), so that
a rate that learned nothing does not squash the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import offset_copy

from etude.notation import rate_text, share_text, significant, time_text
from etude.present import axes as shared
from etude.present import palette
from etude.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAR = 1e4  # widths of the axis' linear part, from which on a gap is an arrow at the edge and its number
NEAR = 3.0  # margins that are shown at least
TICK_ROOM = 30.0  # points between two ticks
LETTERS, NARROW_LETTERS = 44, 24  # of evidence that a page has room for


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One rate: its ``word``; its ``gap`` to the best with half its 68 % interval ``error``, or None; the evidence in few words.

    ``behind`` is how far it was behind the best when a search paused it, or None. Gaps in the unit of the axis.
    """

    lr: float
    word: str
    gap: float | None
    error: float
    behind: float | None
    evidence: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class VerdictsFigure:
    """All that the figure shows, lowest rate first; ``unit`` is what gaps are counted in, ``delta`` the margin in it."""

    title: str
    note: str
    xlabel: str
    unit: str
    strips: tuple[Strip, ...]
    best: float | None
    delta: float | None

    @property
    def width(self) -> float:
        """The width of the axis' linear part: the margin, or where it is 0 what stands for it."""
        least = [abs(s.gap) for s in self.strips if s.gap] + [s.error for s in self.strips if s.error > 0]
        return self.delta or min(least, default=1.0)


Evidence = Mapping[str, Any]
# What is said of a rate by its evidence, the most telling first: a figure shows as many as have room.
TABLE: tuple[tuple[Callable[[Evidence], bool], Callable[[Evidence], str]], ...] = (
    (lambda e: _n(e, "failed") > 0, lambda e: _of(e, "failed", "failed")),
    (lambda e: _n(e, "diverged") > 0, lambda e: _of(e, "diverged", "diverged")),
    (lambda e: _n(e, "diverged") > 0 and e.get("diverged_step") is not None and bool(e["unit"]), lambda e: _at(e)),
    (lambda e: _n(e, "collapsed") > 0, lambda e: _of(e, "collapsed", "collapsed")),
    (lambda e: _n(e, "outlying") > 0, lambda e: _of(e, "outlying", "far from the others")),
    (lambda e: _n(e, "stalled") > 0, lambda e: _of(e, "stalled", "never moved")),
    (lambda e: _paused(e) is not None, lambda e: f"paused at {_paused(e)}"),
    (lambda e: _n(e, "unfinished") > 0, lambda e: _of(e, "unfinished", "not finished")),
    (lambda e: e["verdict"] == "undetermined" and e.get("grade") is not None,
     lambda e: f"within the margin: {share_text(e['p_within'])}"),
    (lambda e: _agrees(e), lambda e: f"{e['n_agree']} of {e['n_scored'] + e['n_diverged']} seeds agree"),
    (lambda e: e["verdict"] != "diverged" and _n(e, "restless") > 0, lambda e: _of(e, "restless", "restless")),
    (lambda e: e["n_trials"] == 1 and e.get("grade") is not None, lambda _: "one seed"),
)  # fmt: skip


def _n(e: Evidence, what: str) -> int:
    return int(e[f"n_{what}"])


def _of(e: Evidence, what: str, word: str) -> str:
    return word if e["n_trials"] == 1 else f"{_n(e, what)} of {e['n_trials']} {word}"


def _at(e: Evidence) -> str:
    return f"{'from' if e['n_diverged'] > 1 else 'at'} {e['diverged_unit']} {e['diverged_step']:,g}"


def _paused(e: Evidence) -> str | None:
    if e.get("paused_at") is None:
        return None
    return share_text(e["paused_at"] / e["horizon"])


def _agrees(e: Evidence) -> bool:
    judged = e["n_scored"] + e["n_diverged"]
    return judged > 1 and e["verdict"] in ("too low", "good", "too high", "unstable") and bool(e["some_learned"])


@shared.once
def verdicts_figure(result: Result) -> VerdictsFigure:
    """Collect the figure's data from a result."""
    said, answer = result.analysis, result.recommendation
    metric, delta = result.objective["metric"], said["margin"]
    means = [rate["evidence"]["mean"] for rate in said["rates"] if rate["evidence"].get("mean") is not None]
    points = said["margin_text"].endswith("points")
    times = 100.0 if points and max(means, default=0.0) <= 1 else 1.0
    strips = tuple(_strip(rate, times) for rate in said["rates"])
    unit = "points" if points else shared.metric_words(metric)
    after = f" after {time_text(result.horizon, result.unit)}" if result.unit else ""
    return VerdictsFigure(
        title=f"Verdicts{after}",
        note=_note(strips, said["margin_text"], answer.lr),
        xlabel=f"gap to the best, {unit}",
        unit=unit,
        strips=strips,
        best=answer.lr,
        delta=None if delta is None else times * delta,
    )


def _strip(rate: Mapping[str, Any], times: float) -> Strip:
    e = {**rate["evidence"], "verdict": rate["verdict"], "grade": rate["grade"]}
    told = rate["verdict"] != "diverged"
    gap, error, behind = (None if e.get(name) is None else times * e[name] for name in ("gap", "gap_error", "behind"))
    return Strip(
        lr=rate["lr"],
        word=rate["verdict"],
        gap=gap if told else None,
        error=error or 0.0,
        behind=behind if gap is None and told else None,
        evidence=tuple(text(e) for holds, text in TABLE if holds(e)),
    )


def _note(strips: Sequence[Strip], margin_text: str, best: float | None) -> str:
    parts = []
    if any(s.gap is not None for s in strips):
        parts.append("Dots: how far a rate is behind the best")
        parts[-1] += "; bars: 68\u00a0% intervals." if any(s.error > 0 for s in strips) else "."
    if best is not None:
        parts.append("Diamond: the recommended rate.")
    if margin_text:
        parts.append(f"Shaded: within the margin, {margin_text.removeprefix('± ')}.")
    if any(s.behind is not None for s in strips):
        parts.append("Rings: paused, and how far behind the best at the same time.")
    if any(s.word == "diverged" for s in strips):
        parts.append("Crosses: lost, so that there is no gap.")
    return " ".join(parts)


def words(result: Result) -> shared.Words:
    """Say what the figure shows."""
    data = verdicts_figure(result)
    of_rate = []
    for s in data.strips:
        gap = "" if s.gap is None or s.lr == data.best else f", {significant(s.gap, 2)} {data.unit} behind"
        of_rate.append(f"{rate_text(s.lr)}: {s.word}{gap}{' (recommended)' if s.lr == data.best else ''}")
    said = f"{shared.some(of_rate, 40)}." if of_rate else "No rate has been tried."
    return shared.Words(title=data.title, note=data.note, alt=f"{data.title}, by learning rate. {said}")


def draw(axes: Sequence[Axes], result: Result, look: shared.Look = shared.USUAL) -> None:
    """Draw the figure on one axes."""
    draw_verdicts(axes[0], verdicts_figure(result), look)


def draw_verdicts(ax: Axes, data: VerdictsFigure, look: shared.Look = shared.USUAL) -> None:
    """Draw a row a rate, lowest first: rate and word at the left, the gap on the common axis, the evidence."""
    colours = palette.colours([s.lr for s in data.strips]) if data.strips else {}
    limits = _frame(ax, data, look)
    fitting = [shared.text_length(_fitting(s.evidence, LETTERS), 9) for s in data.strips]
    widest = int(np.argmax(fitting)) if fitting else 0
    if data.delta and any(s.gap is not None for s in data.strips):
        ax.axvspan(0, data.delta, color=palette.QUIET, alpha=0.13, lw=0, zorder=0)
        ax.axvline(data.delta, color=palette.QUIET, lw=0.8, ls=(0, (4, 3)), zorder=1)
    if limits is not None:
        ax.axvline(0, color=palette.QUIET, lw=0.8, zorder=1)
    for row, strip in enumerate(data.strips):
        _row(ax, row, strip, colours[strip.lr], data.best, limits)
        _texts(ax, row, strip, colours[strip.lr], data, look, is_measured=row in (0, widest))
    if look.heading:
        shared.draw_heading(ax, data.title, data.note, 10.0, _page(ax) - 40.0, left=_left(data, look)[0])


def _frame(ax: Axes, data: VerdictsFigure, look: shared.Look) -> tuple[float, float] | None:
    """Set axes and ticks; return the limits of the axis of gaps, None where there is no gap."""
    shared.draw_frame(ax)
    ax.grid(False)
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    ax.set_ylim(max(len(data.strips), 1) - 0.5, -0.5)
    between: dict[str, Any] = {"colors": palette.GRID, "lw": 0.8, "zorder": 0, "transform": ax.get_yaxis_transform()}
    ax.hlines([row - 0.5 for row in range(1, len(data.strips))], 0, 1, **between)
    ends = [
        v for s in data.strips for gap in (s.gap, s.behind) if gap is not None for v in (gap - s.error, gap + s.error)
    ]
    if not ends:
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        if not data.strips:
            ax.text(0.5, 0.5, "no rate has been tried yet", transform=ax.transAxes, ha="center", color=palette.QUIET)
        return None
    width = data.width
    low, high = (math.asinh(max(-FAR, min(FAR, v / width))) for v in (min(*ends, 0.0), max(*ends, NEAR * width)))
    pad = 0.04 * (high - low)
    limits = (width * math.sinh(low - pad), width * math.sinh(high + pad))
    ax.set_xscale("function", functions=(lambda v: np.arcsinh(np.asarray(v) / width), lambda u: width * np.sinh(u)))
    ax.set_xlim(*limits)
    room = TICK_ROOM / max(_page(ax) - _columns(data, look), TICK_ROOM)
    ax.xaxis.set_major_locator(FixedLocator(gap_ticks(limits, width, room)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: shared.tick_text(v)))
    ax.set_xlabel(data.xlabel, color=palette.INK, fontsize=9.5)
    return limits


def gap_ticks(limits: tuple[float, float], width: float, room: float) -> list[float]:
    """Return round gaps within the limits that are at least ``room`` of the axis apart: 0, then as dense as there is room for."""
    low, high = (math.asinh(end / width) for end in limits)
    powers = range(math.floor(math.log10(width)) - 1, math.ceil(math.log10(max(map(abs, limits)))) + 1)
    for subs, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), *(((1,), n) for n in range(2, 12))):
        sizes = [float(f"{m}e{k}") for k in powers if k % every == 0 for m in subs]
        inner = next((i for i, size in enumerate(sizes) if math.asinh(size / width) >= room * (high - low)), len(sizes))
        sizes = sizes[inner:]
        ticks = [v for v in (*(-s for s in reversed(sizes)), 0.0, *sizes) if limits[0] <= v <= limits[1]]
        gaps = np.diff([math.asinh(tick / width) for tick in ticks])
        if not len(gaps) or gaps.min() >= room * (high - low):
            return ticks
    return [0.0]


def _row(ax: Axes, row: int, strip: Strip, colour: str, best: float | None, limits: tuple[float, float] | None) -> None:
    figure: Any = ax.figure
    if strip.word == "diverged":
        x = 1.0 if limits is not None else 0.5
        place = offset_copy(ax.get_yaxis_transform(), figure, x=-6 if limits is not None else 0, units="points")
        cross: dict[str, Any] = {"transform": place, "clip_on": False, "ms": 6.5, "mew": 1.8}
        ax.plot([x], [row], "x", color=colour, gid=shared.mark("lost", strip.lr), **cross)
        return
    value = strip.gap if strip.gap is not None else strip.behind
    if value is None or limits is None:
        return
    if not limits[0] <= value <= limits[1]:
        side = 1.0 if value > 0 else 0.0
        place = offset_copy(ax.get_yaxis_transform(), figure, x=-6 if side else 6, units="points")
        arrow: dict[str, Any] = {"transform": place, "clip_on": False, "ms": 6.5, "mew": 0}
        ax.plot([side], [row], ">" if side else "<", color=colour, gid=shared.mark("gap", strip.lr), **arrow)
        ax.annotate(
            significant(value, 2), xy=(side, row), xycoords=ax.get_yaxis_transform(), xytext=(-14 if side else 14, 0),
            textcoords="offset points", ha="right" if side else "left", va="center", fontsize=8.5, color=palette.INK,
        )  # fmt: skip
        return
    if strip.error > 0 and strip.gap is not None:
        ends = [value - strip.error, value + strip.error]
        ax.plot(ends, [row, row], color=colour, lw=1.6, zorder=3, gid=shared.mark("error", strip.lr))
    if strip.lr == best:
        ax.plot(
            [value], [row], "D", color=palette.INK, ms=6.5, mew=0, zorder=5, gid=shared.mark("recommended", strip.lr)
        )
    elif strip.gap is None:
        ring: dict[str, Any] = {"mfc": "white", "ms": 6, "mew": 1.6, "zorder": 4}
        ax.plot([value], [row], "o", color=colour, gid=shared.mark("paused", strip.lr), **ring)
    else:
        ax.plot([value], [row], "o", color=colour, ms=6, mew=0, zorder=4, gid=shared.mark("gap", strip.lr))


def _texts(
    ax: Axes, row: int, strip: Strip, colour: str, data: VerdictsFigure, look: shared.Look, *, is_measured: bool
) -> None:
    """Write rate and word left of the axis, and the evidence right of it; on a narrow page below rate and word.

    Where all begin at one place, the layout need measure the longest only (``is_measured``), not some hundred.
    """
    rate_at, word_at = _left(data, look)
    chosen = strip.lr == data.best
    lift = 7.0 if look.narrow and strip.evidence else 0.0

    def write(text: str, x: float, at: float, y: float, kind: str, **style: Any) -> None:
        ax.annotate(
            text, xy=(x, row), xycoords=ax.get_yaxis_transform(), xytext=(at, y), textcoords="offset points",
            va="center", annotation_clip=False, gid=shared.mark(kind, strip.lr), in_layout=is_measured, **style,
        )  # fmt: skip

    ink = palette.INK if chosen else palette.for_text(colour)
    write(rate_text(strip.lr), 0.0, rate_at, lift, "label", fontsize=9.5, color=ink,
          fontweight="bold" if chosen else "normal")  # fmt: skip
    write(strip.word, 0.0, word_at, lift, "verdict", fontsize=9.5, color=palette.INK)
    if look.narrow:
        write(_fitting(strip.evidence, NARROW_LETTERS), 0.0, rate_at, -6.0, "evidence", fontsize=8, color=palette.QUIET)
    else:
        write(_fitting(strip.evidence, LETTERS), 1.0, 12.0, 0.0, "evidence", fontsize=9, color=palette.QUIET)


def _page(ax: Axes) -> float:
    """Return how wide the page is, in points."""
    figure: Any = ax.figure
    return float(figure.get_size_inches()[0]) * 72.0


def _left(data: VerdictsFigure, look: shared.Look) -> tuple[float, float]:
    """Return where, in points from the axis, the columns of rates and of words begin."""
    rate = max((shared.text_length(rate_text(s.lr), 9.5, bold=s.lr == data.best) for s in data.strips), default=0.0)
    room = rate + 10.0 + max((shared.text_length(s.word, 9.5) for s in data.strips), default=0.0)
    if look.narrow:
        room = max([room, *(shared.text_length(_fitting(s.evidence, NARROW_LETTERS), 8) for s in data.strips)])
    return -(room + 12.0), rate - room - 2.0


def _columns(data: VerdictsFigure, look: shared.Look) -> float:
    """Return how much of the page's width the columns beside the axis take, in points."""
    evidence = (
        0.0
        if look.narrow
        else max((shared.text_length(_fitting(s.evidence, LETTERS), 9) for s in data.strips), default=0.0)
    )
    return 40.0 + evidence - _left(data, look)[0]


def _fitting(evidence: Sequence[str], letters: int) -> str:
    """Join as much of the evidence as fits; the first piece always does."""
    said = evidence[0] if evidence else ""
    for piece in evidence[1:]:
        if len(said) + 2 + len(piece) <= letters:
            said += f", {piece}"
    return said
