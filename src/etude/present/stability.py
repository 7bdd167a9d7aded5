"""The figure ``stability``: gradient norm and update-to-weight ratio by step, a line a rate. Data apart from drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from etude.notation import format_rate, rate_text
from etude.present import axes as shared
from etude.present import lines, palette, steps
from etude.present.lines import Line
from etude.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RULE = 1e-3  # of the update-to-weight ratio: "somewhere around 1e-3" (Karpathy, cs231n, "Ratio of weights:updates")
DECADES = 12  # that an axis shows at most
SAID = 8.5  # size of the name of the line of reference


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What one panel shows, on a logarithmic axis of ``limits``; ``rule`` is where a line of reference lies, or None."""

    title: str
    ylabel: str
    lines: tuple[Line, ...]
    limits: tuple[float, float]
    rule: float | None = None


def lacks(result: Result) -> str | None:
    """Say what a result would need: curves from elsewhere and loops of one's own log neither norm nor ratio."""
    if steps.has(result, "grad_norm") or steps.has(result, "update_ratio"):
        return None
    return "needs gradient norms recorded by step, which runs that etude trains have, got none; draw 'curves'"


@shared.once
def panels(result: Result) -> tuple[Panel, Panel]:
    """Collect the two panels' data from the records."""
    return (
        _panel(result, "grad_norm", "Gradient Norm", "norm, before clipping"),
        _panel(result, "update_ratio", "Update-to-Weight Ratio", "update norm / weight norm", RULE),
    )


def _panel(result: Result, name: str, title: str, ylabel: str, rule: float | None = None) -> Panel:
    made = steps.step_lines(result, name)
    lost = {rate["lr"] for rate in result.analysis["rates"] if rate["verdict"] == "diverged"}
    values = [v for line in [one for one in made if one.lr not in lost] or made for v in (line.low, line.high)]
    flat = np.concatenate([np.empty(0), *values])
    flat = flat[np.isfinite(flat) & (flat > 0)]
    flat = np.append(flat, rule) if rule is not None else flat
    low, high = (float(flat.min()), float(flat.max())) if len(flat) else (0.1, 1.0)
    low = max(low, high / 10.0**DECADES)
    room = max((high / low) ** 0.05, 1.15)
    return Panel(title=title, ylabel=ylabel, lines=made, limits=(low / room, high * room), rule=rule)


def words(result: Result) -> shared.Words:
    """Say what the figure shows."""
    both = panels(result)
    _, ratio = both
    seeds = lines.seeds_words(ratio.lines, result.recommendation.lr, "medians")
    note = " ".join(
        [
            "Medians over neighbouring steps.",
            *([seeds] if seeds else []),
            *lines.marks_words((panel.lines, panel.limits[1]) for panel in both),
            f"Dashed: {format_rate(RULE)}, about the size of a good update by a rule of thumb (Karpathy, cs231n).",
        ]
    )
    ends = [f"{rate_text(line.lr)}: {line.y[-1]:.2g}" for line in ratio.lines if len(line.x)]
    title = "Gradient norm and update-to-weight ratio by step"
    return shared.Words(
        title=title, note=note,
        alt=f"{title}, a line a rate. Last update-to-weight ratio of {shared.some(ends)}." if ends else f"{title}: no step yet.",
    )  # fmt: skip


def draw(axes: Sequence[Axes], result: Result, look: shared.Look = shared.USUAL) -> None:
    """Draw the two panels on two axes."""
    both = panels(result)
    lrs = sorted({line.lr for panel in both for line in panel.lines})
    tried = [trial.lr for trial in result.judged]  # a rate has one colour in all figures, also where some have no line
    colours = palette.colours(tried) if tried else {}
    for ax, panel in zip(axes, both, strict=True):
        _frame(ax, panel, result.steps_per_epoch, look)
        lines.draw_lines(ax, panel.lines, colours, best=result.recommendation.lr, top=panel.limits[1])
        if panel.rule is not None:
            _rule(ax, panel.rule, panel.lines)
    if len(lrs) > lines.MOST_LABELS:
        shared.draw_colour_bar(axes, lrs, look)


def _frame(ax: Axes, panel: Panel, steps_per_epoch: int, look: shared.Look) -> None:
    shared.draw_title(ax, panel.title)
    ax.set_xlabel("step" if steps_per_epoch == 1 else f"step ({steps_per_epoch:,} an epoch)", color=palette.INK)
    ax.set_ylabel(panel.ylabel, color=palette.INK)
    shared.draw_metric_axis(ax, shared.MetricAxis(share=False, logarithmic=True, limits=panel.limits))
    ax.xaxis.set_major_locator(
        MaxNLocator(integer=True, nbins=4 if look.narrow else 6, steps=[1, 2, 2.5, 5, 10], min_n_ticks=1)
    )
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: shared.place_text(v)))
    shared.draw_frame(ax)
    ax.margins(x=0.03)


def _rule(ax: Axes, rule: float, shown: Sequence[Line]) -> None:
    """Draw the line of reference, and its name above or below it where no other line is; else the note says it alone."""
    ax.axhline(rule, color=palette.QUIET, lw=1, ls=(0, (4, 3)), zorder=1, gid="rule")
    for text in (f"rule of thumb: {format_rate(rule)}", "rule of thumb"):
        place = _beside(ax, rule, text, shown)
        if place is None:
            continue
        left, is_above = place
        ax.annotate(
            text, xy=(left, rule), xycoords=ax.get_yaxis_transform(), xytext=(3, 3 if is_above else -3),
            textcoords="offset points", va="bottom" if is_above else "top", fontsize=SAID, color=palette.QUIET, zorder=7,
        )  # fmt: skip
        return


def _beside(ax: Axes, rule: float, text: str, shown: Sequence[Line]) -> tuple[float, bool] | None:
    """Return where on the axes a text beside a level begins, and whether above it, so that it meets no line and no label.

    None where there is no such place.
    """
    width, height = shared.size_of(ax)
    labels = lines.label_spots(ax)
    beyond = max(0.0, float(labels[:, 0].max(initial=1.0)) - 1)  # the layout takes the room for them from the axes
    across, up = (
        (shared.text_length(text, SAID) + 6) / (width * max(0.3, 1 - beyond)),
        16 / (shared.LEAST_LEFT * height),
    )
    x, y = np.concatenate([lines.spots(ax, shown), labels]).T
    at = shared.height_of(ax, rule)
    for left in np.arange(0.01, 1 - across, 0.04):
        for is_above in (True, False):
            low, high = (at, at + up) if is_above else (at - up, at)
            over = (x > left - 0.01) & (x < left + across) & (y > low) & (y < high)
            if low > 0 and not over.any():
                return float(left), is_above
    return None
