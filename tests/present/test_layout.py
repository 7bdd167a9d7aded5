"""The page's layout of panels: nothing leaves the figure, nothing touches, for a desk and for a phone."""

from __future__ import annotations

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from etude.present import figures
from etude.present.axes import Look
from etude.present.layout import BAR_LABEL, OnePass
from present_studies import made


@pytest.mark.parametrize("narrow", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("name", ["forty rates, ten seeds", "regression", "all diverged"])
@pytest.mark.parametrize("figure", ["rates", "curves", "verdicts", "stability"])
def test_panels_stay_in_the_figure_and_apart(figure, name, narrow):
    drawn = figures.make(made(name), figure, Look(heading=False, narrow=narrow), layout=OnePass(is_column=narrow))
    FigureCanvasAgg(drawn).draw()
    renderer = drawn.canvas.get_renderer()
    boxes = [ax.get_tightbbox(renderer, for_layout_only=True) for ax in drawn.axes]
    page, point = drawn.bbox, drawn.dpi / 72
    for box in boxes:
        assert box.x0 >= page.x0 - point
        assert box.y0 >= page.y0 - point
        assert box.x1 <= page.x1 + point
        assert box.y1 <= page.y1 + point
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    panels = [ax.get_position() for ax in drawn.axes if ax.get_label() != BAR_LABEL]
    assert len({round(panel.width, 6) for panel in panels}) == len({round(panel.height, 6) for panel in panels}) == 1
    if not narrow:
        assert panels[0].width * len(panels) > 0.4
