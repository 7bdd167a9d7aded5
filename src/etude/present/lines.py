"""A line a rate over training: what the figures ``curves`` and ``stability`` share. Knows no metric and no store.

X places of a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import offset_copy

from etude.notation import rate_text
from etude.present import axes as shared
from etude.present import palette
from etude.result import Result
from etude.store import StoredTrial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST_LABELS = 7  # rates labelled at their line's end; more get a colour bar
LABEL_GAP = 0.055  # of the axes' height, between two labels, where that is enough for a line of text
LABEL_HEIGHT = 13.5  # points
LABEL = 9.5  # size of its text
# Ratio of two places below which a logarithmic axis is almost linear, and from which on it names powers of ten only.
NEAR_PLACES, FAR_PLACES = 4.0, 200.0
MARK_ROOM = 9.0  # points that a mark at the upper edge takes
FEW = 12  # places of a line that are dots, too


@dataclass(frozen=True, kw_only=True)
class Line:
    """One rate in one panel: at ``x`` its ``y``, the seeds' mean (of steps: median), lowest and highest, each (X,).

    ``ended`` are the places where seeds diverged. ``is_paused``: a search paused all seeds that did not diverge. ``raw`` (X,) is
    what was smoothed, None where nothing was. Of ``n_seeds`` trials ``n_drawn`` have values.
    """

    lr: float
    x: Floats
    y: Floats
    low: Floats
    high: Floats
    ended: tuple[float, ...]
    n_seeds: int
    is_paused: bool = False
    raw: Floats | None = None
    n_drawn: int = 1

    @property
    def end(self) -> float:
        """Where it ends: with few places what was reached there, of which a moving average is too far behind."""
        return float(self.y[-1] if self.raw is None or len(self.x) > FEW else self.raw[-1])


def shown(result: Result, lr: float) -> tuple[list[StoredTrial], bool]:
    """Return the trials of a rate that its line is of, and whether they were paused.

    Where some got to the end, the paused ones are left out.
    """
    of_rate = [trial for trial in result.judged if trial.lr == lr]
    paused = [trial for trial in of_rate if result.is_paused(trial)]
    whole = [trial for trial in of_rate if trial not in paused and trial.status not in ("diverged", "failed")]
    return ([trial for trial in of_rate if trial not in paused] if whole else of_rate), bool(paused) and not whole


def smoothed(values: Floats, smooth: float) -> Floats:
    """Return the exponential moving average of finite values (X,), bias-corrected as Adam's (Kingma & Ba 2015, arXiv 1412.6980)."""
    if not smooth:
        return values
    from scipy.signal import lfilter

    mean = np.asarray(lfilter([1 - smooth], [1, -smooth], values), float)
    return np.asarray(mean / (1 - smooth ** np.arange(1, len(values) + 1)))


def draw_lines(
    ax: Axes, lines: Sequence[Line], colours: Mapping[float, str], *, best: float | None, top: float | None
) -> None:
    """Draw lines with the seeds' band, diverged rates to where they ended and marked, labels at the ends; ``top``: of the frame."""
    labels: list[tuple[float, float, Line]] = []
    marks: list[tuple[Line, Line2D]] = []
    crowded = len(lines) > MOST_LABELS
    for line in lines:
        _line(ax, line, colours[line.lr], chosen=line.lr == best, crowded=crowded)
        if line.ended:
            marks.append((line, _mark(ax, line.ended, "x", colours[line.lr], line.lr)))
        whole = len(line.ended) < line.n_seeds  # some seed got to the end
        if _ends_above(line, top):
            marks.append((line, _mark(ax, [float(line.x[-1])], "^", colours[line.lr], line.lr)))
        if crowded and line.lr != best:
            continue  # a colour bar tells it
        if len(line.x) and whole:
            labels.append((float(line.x[-1]), shared.height_of(ax, line.end), line))
        elif line.ended:
            labels.append((line.ended[-1], 1.0, line))
    _set_apart(ax, marks, [line for line in lines if len(line.x) and not _ends_above(line, top)])
    _label(ax, labels, colours, best, lines)


def seeds_words(lines: Sequence[Line], best: float | None, what: str = "means") -> str:
    """Say what lines and bands are of; nothing where there are none. ``best``: the recommended rate."""
    drawn = [line for line in lines if len(line.x)]
    if not drawn:
        return ""
    least, most = min(line.n_drawn for line in drawn), max(line.n_drawn for line in drawn)
    if most < 2:
        return "One seed a rate."
    crowded = len(lines) > MOST_LABELS
    said = f"Lines: {what} of {f'{most} seeds' if least == most else f'{least} to {most} seeds a rate'}"
    if any(line.n_drawn > 1 and len(line.x) > 1 and (line.lr == best or not crowded) for line in drawn):
        said += "; the recommended rate's band" if crowded else "; bands"
        said += ": from the lowest to the highest"
    return f"{said}."


def marks_words(panels: Iterable[tuple[Sequence[Line], float | None]]) -> list[str]:
    """Say what the marks of panels, their lines and the top of their frames, stand for."""
    of = [(line, top) for lines, top in panels for line in lines]
    said = {
        "Crosses at the upper edge: where a trial diverged.": any(line.ended for line, _ in of),
        "Triangles there: a line that ends above the frame.": any(_ends_above(line, top) for line, top in of),
        "Rings: paused by the search.": any(line.is_paused for line, _ in of),
    }
    if not any(line.ended for line, _ in of):
        said = {text.replace("there", "at the upper edge"): holds for text, holds in said.items()}
    return [text for text, holds in said.items() if holds]


def _ends_above(line: Line, top: float | None) -> bool:
    """Whether a line, of which some seed got to the end, ends above the frame."""
    return bool(len(line.x) and len(line.ended) < line.n_seeds and top is not None and line.y[-1] > top)


def draw_log_places(ax: Axes) -> None:
    """Make the axis of places (epochs, steps) logarithmic, its ticks written plainly."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    subs = (1.0,) if high / low > FAR_PLACES else (1.0, 2.0, 5.0)
    few = MaxNLocator(nbins=3, steps=[1, 2, 5, 10])  # so near each other that the axis is almost linear
    ax.xaxis.set_major_locator(few if high / low < NEAR_PLACES else LogLocator(subs=subs, numticks=8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: shared.place_text(v)))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _line(ax: Axes, line: Line, colour: str, *, chosen: bool, crowded: bool) -> None:
    if not len(line.x):
        return
    width = 2.6 if chosen else 1.3 if crowded else 1.8
    style: dict[str, Any] = {"color": colour, "lw": width, "zorder": 4 if chosen else 3}
    style |= {"marker": "o", "ms": 4.5 if chosen else 3.5} if len(line.x) <= FEW else {}
    if line.raw is not None:
        ax.plot(line.x, line.raw, color=colour, lw=1, alpha=0.3, zorder=2, gid=shared.mark("raw", line.lr))
    ax.plot(line.x, line.y, gid=shared.mark("line", line.lr), solid_capstyle="round", **style)
    if line.n_drawn > 1 and len(line.x) > 1 and (chosen or not crowded):  # of very many they would be a fog
        spread = shared.mark("spread", line.lr)
        ax.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, lw=0, zorder=2, gid=spread)
    if line.is_paused:  # a ring: it did not end here, it was left here
        low, high = sorted(ax.get_ylim())
        ring: dict[str, Any] = {"mfc": "white", "ms": 6, "mew": 1.6, "zorder": 5}
        ring["clip_on"] = not low <= line.y[-1] <= high  # at the edge of the frame it is whole
        ax.plot(line.x[-1:], line.y[-1:], "o", color=colour, gid=shared.mark("paused", line.lr), **ring)


def _mark(ax: Axes, places: Sequence[float], marker: str, colour: str, lr: float) -> Line2D:
    """Mark the upper edge in one artist: crosses where seeds diverged, a triangle where a line leaves the frame."""
    (made,) = ax.plot(
        places, np.ones(len(places)), marker, color=colour, ms=7, mew=2 if marker == "x" else 0, clip_on=False, zorder=5,
        transform=ax.get_xaxis_transform(), gid=shared.mark("ended", lr),
    )  # fmt: skip
    return made


def _set_apart(ax: Axes, marks: Sequence[tuple[Line, Line2D]], inside: Sequence[Line]) -> None:
    """Move marks that would hide another rate's, or the end of a line ``inside`` the frame, aside: leftwards, where no label is."""
    width, height = shared.size_of(ax)
    figure: Any = ax.figure
    edge = 1 - MARK_ROOM / height
    taken = [(_across(ax, line.x[-1]) * width, line.lr) for line in inside if shared.height_of(ax, line.y[-1]) > edge]
    for line, made in marks:
        at = width * np.array([_across(ax, place) for place in np.asarray(made.get_xdata(), float)])
        others = np.array([x for x, lr in taken if lr != line.lr])
        ways = [0.0, *(side * MARK_ROOM * i for side in (-1, 1) for i in range(1, len(marks) + len(taken) + 1))]
        fits = (by for by in ways if not by or (at.min() + by > -MARK_ROOM and at.max() + by <= width))
        free = (by for by in fits if (np.abs(at[:, None] + by - others) >= MARK_ROOM - 1).all())
        if aside := next(free, 0.0):
            made.set_transform(offset_copy(ax.get_xaxis_transform(), figure, x=aside, units="points"))
        taken += [(float(x) + aside, line.lr) for x in at]


def _label(
    ax: Axes,
    labels: list[tuple[float, float, Line]],
    colours: Mapping[float, str],
    best: float | None,
    shown: Sequence[Line],
) -> None:
    """Label lines at their ends, in their colour, moved apart where they would touch, and off lines that go on."""
    width, height = shared.size_of(ax)
    gap = max(LABEL_GAP, LABEL_HEIGHT / height)
    right = max((x for x, _, _ in labels), default=0.0)
    ends = sorted((label for label in labels if label[0] == right), key=lambda label: label[1])
    heights = shared.spread([y for _, y, _ in ends], gap)
    heights = [min(y, 1.0 - gap * i) for i, y in enumerate(reversed(heights))][::-1]  # above the frame is the title
    placed = [(x, y, line) for (x, _, line), y in zip(ends, heights, strict=True)]
    early = sorted((label for label in labels if label[0] != right), key=lambda label: -label[1])
    taken = spots(ax, shown) if early else np.empty((0, 2))
    for x, y, line in early:
        at = _across(ax, x)
        above = np.array([other_y for other_x, other_y, _ in placed if abs(_across(ax, other_x) - at) < 0.3])
        begin, end = at + 6 / width, at + 12 / width + shared.text_length(_words_of(line), LABEL) / width
        beside = taken[(taken[:, 0] > begin) & (taken[:, 0] < end), 1]
        ways = [0.0, *(side * gap * i / 4 for i in range(1, 13) for side in (-1, 1))]
        free = (y + by for by in ways if gap / 2 < y + by <= 1 and (np.abs(above - y - by) >= gap).all()
                and (np.abs(beside - y - by) > 0.55 * gap).all())  # fmt: skip
        found = next(free, None)
        if found is None:  # off the other labels at least
            found = y
            while (np.abs(above - found) < gap).any():
                found -= gap
        placed.append((x, found, line))
    for x, y, line in placed:
        ax.annotate(
            _words_of(line), xy=(x, y), xycoords=ax.get_xaxis_transform(), xytext=(8, 0), textcoords="offset points",
            va="center", color=palette.for_text(colours[line.lr]) if line.lr != best else palette.INK, fontsize=LABEL,
            fontweight="bold" if line.lr == best else "normal", annotation_clip=False,
            path_effects=shared.HALO, zorder=6, gid=shared.mark("label", line.lr),
        )  # fmt: skip


def _words_of(line: Line) -> str:
    """Return what a line's label says."""
    text = rate_text(line.lr)
    if line.ended:
        return text + (" diverged" if line.n_seeds == 1 else f", {len(line.ended)}/{line.n_seeds} diverged")
    return f"{text} paused" if line.is_paused else text


def spots(ax: Axes, shown: Sequence[Line]) -> Floats:
    """Return where lines lie on the axes, (P, 2), as places near enough to each other."""
    lines = [shared.along(shared.on_axes(ax, np.stack([line.x, line.y], axis=1))) for line in shown]
    return np.concatenate([np.empty((0, 2)), *lines])


def label_spots(ax: Axes) -> Floats:
    """Return where the labels lie that `draw_lines` has written on the axes, (P, 2), as `spots`."""
    width, height = shared.size_of(ax)
    found = [np.empty((0, 2))]
    for text in ax.texts:
        place, level = text.xy  # type: ignore[attr-defined]
        x = _across(ax, place) + np.linspace(8, 8 + shared.text_length(text.get_text(), LABEL), 20) / width
        found += [
            np.stack([x, np.full(20, level + up / height)], axis=1) for up in (-LABEL_HEIGHT / 2, LABEL_HEIGHT / 2)
        ]
    return np.concatenate(found)


def _across(ax: Axes, place: float) -> float:
    """Return where a place lies on the axes, from 0 (left) to 1 (right)."""
    x, _ = ax.transAxes.inverted().transform(ax.transData.transform((place, ax.get_ylim()[0])))
    return float(x)
