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
        bar_sides = (0.0, 0.0, 0.0, 0.0) if bar is None else _beside(bar, renderer, points)
        if self.is_column:
            left, right = max(s[0] for s in sides), max(s[2] for s in sides)
            foot = 0.0 if bar is None else BAR + BAR_GAP + bar_sides[1]
            each = (height - sum(s[1] + s[3] for s in sides) - BETWEEN * (len(panels) - 1) - 2 * PAD - foot) / len(
                panels
            )
            across, top = width - left - right - 2 * PAD, height - PAD
            for ax, (_, below, _, above) in zip(panels, sides, strict=True):
                top -= above + each
                ax.set_position(
                    (_share(PAD + left, width), _share(top, height), _share(across, width), _share(each, height))
                )
                top -= below + BETWEEN
            if bar is not None:
                bar.set_position((_share(PAD + left, width), _share(PAD + bar_sides[1], height), _share(across, width),
                                  _share(BAR, height)))  # fmt: skip
            return
        below, above = max(s[1] for s in sides), max(s[3] for s in sides)
        edge = 0.0 if bar is None else BAR + BAR_GAP + bar_sides[2]
        each = (width - sum(s[0] + s[2] for s in sides) - BETWEEN * (len(panels) - 1) - 2 * PAD - edge) / len(panels)
        up, x = height - below - above - 2 * PAD, PAD
        for ax, (before, _, after, _) in zip(panels, sides, strict=True):
            x += before
            ax.set_position((_share(x, width), _share(PAD + below, height), _share(each, width), _share(up, height)))
            x += each + after + BETWEEN
        if bar is not None:
            at = width - PAD - bar_sides[2] - BAR
            bar.set_position((_share(at, width), _share(PAD + below, height), _share(BAR, width), _share(up, height)))


def _share(points: float, of: float) -> float:
    return points / of


def _beside(ax: Any, renderer: Any, points: float) -> tuple[float, float, float, float]:
    """Return how far what belongs to the axes reaches beyond them, in points: left, below, right, above."""
    box, all_of_it = ax.get_window_extent(renderer), ax.get_tightbbox(renderer, for_layout_only=True)
    return (
        max(0.0, (box.x0 - all_of_it.x0) * points), max(0.0, (box.y0 - all_of_it.y0) * points),
        max(0.0, (all_of_it.x1 - box.x1) * points), max(0.0, (all_of_it.y1 - box.y1) * points),
    )  # fmt: skip
