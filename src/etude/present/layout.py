"""Where panels lie in a figure of the page: equal, in a row or a column, with room for what stands beside them.

Matplotlib's constrained layout measures everything three times, which is half of the time of a report; here each panel is measured
once. It knows no more than the page needs: no titles across panels, no nested grids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.layout_engine import LayoutEngine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAD, BETWEEN = 3.0, 14.0  # points, at the figure's edges and between panels
BAR, BAR_GAP = 9.0, 8.0  # points: how thick a colour bar is, and how far from the panels
BAR_LABEL = "<colorbar>"


class OnePass(LayoutEngine):
    """Lays panels out beside each other, or below each other where ``is_column``; a colour bar at the right or at the foot."""

    _adjust_compatible, _colorbar_gridspec = False, False

    def __init__(self, *, is_column: bool):
        super().__init__()
        self.is_column = is_column

    def execute(self, fig: Figure) -> None:
        """Set the positions of all axes."""
        renderer = fig._get_renderer()  # type: ignore[attr-defined]
        points = 72.0 / fig.dpi
        width, height = (72.0 * inches for inches in fig.get_size_inches())
        panels = [ax for ax in fig.axes if ax.get_label() != BAR_LABEL]
        bar = next((ax for ax in fig.axes if ax.get_label() == BAR_LABEL), None)
        sides = [_beside(ax, renderer, points) for ax in panels]
        _, bar_below, bar_right, _ = (0.0, 0.0, 0.0, 0.0) if bar is None else _beside(bar, renderer, points)
        before, below, after, above = zip(*sides, strict=True)
        gaps = BETWEEN * (len(panels) - 1) + 2 * PAD

        def place(ax: Any, x: float, y: float, across: float, up: float) -> None:
            ax.set_position((x / width, y / height, across / width, up / height))

        if self.is_column:
            foot = 0.0 if bar is None else BAR + BAR_GAP + bar_below
            up = (height - sum(below) - sum(above) - gaps - foot) / len(panels)
            x, across, y = PAD + max(before), width - max(before) - max(after) - 2 * PAD, height - PAD
            for ax, under, over in zip(panels, below, above, strict=True):
                y -= over + up
                place(ax, x, y, across, up)
                y -= under + BETWEEN
            if bar is not None:
                place(bar, x, PAD + bar_below, across, BAR)
            return
        edge = 0.0 if bar is None else BAR + BAR_GAP + bar_right
        across = (width - sum(before) - sum(after) - gaps - edge) / len(panels)
        x, y, up = PAD, PAD + max(below), height - max(below) - max(above) - 2 * PAD
        for ax, left, right in zip(panels, before, after, strict=True):
            place(ax, x + left, y, across, up)
            x += left + across + right + BETWEEN
        if bar is not None:
            place(bar, width - PAD - bar_right - BAR, y, BAR, up)


def _beside(ax: Any, renderer: Any, points: float) -> tuple[float, float, float, float]:
    """Return how far what belongs to the axes reaches beyond them, in points: left, below, right, above."""
    box, all_of_it = ax.get_window_extent(renderer), ax.get_tightbbox(renderer, for_layout_only=True)
    return (
        max(0.0, (box.x0 - all_of_it.x0) * points), max(0.0, (box.y0 - all_of_it.y0) * points),
        max(0.0, (all_of_it.x1 - box.x1) * points), max(0.0, (all_of_it.y1 - box.y1) * points),
    )  # fmt: skip
