"""Figures drawn and laid out for tests, as a page has them, and where their texts lie."""

from __future__ import annotations

import itertools
import warnings

from matplotlib.backends.backend_agg import FigureCanvasAgg

from etude.present import figures
from etude.present.axes import Look


def drawn(result, name, *, narrow=False, **options):
    """Draw a figure, with its heading where it is wide, and lay it out; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.make(result, name, Look(narrow=narrow, heading=not narrow), **options)
        FigureCanvasAgg(figure)
        figure.canvas.draw()
    return figure


def check_texts(figure):
    """Check that no two texts of an axes touch, and that all are on the page."""
    renderer = figure.canvas.get_renderer()
    for ax in figure.axes:
        texts = [*ax.texts, ax.xaxis.label, ax.yaxis.label, ax._left_title]
        low, high = sorted(ax.get_xlim())
        texts += [t.label1 for t in ax.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]
        for (one, box), (other, other_box) in itertools.combinations(boxes, 2):
            assert not box.overlaps(other_box), (one, other)
        for text, box in boxes:
            assert box.x0 >= 0, text
            assert box.y0 >= 0, text
            assert box.x1 <= figure.bbox.x1, text
            assert box.y1 <= figure.bbox.y1, text


def parts(figure, kind):
    """The rates (as text) whose parts of this kind are in the figure."""
    made = [artist.get_gid() or "" for ax in figure.axes for artist in [*ax.lines, *ax.texts]]
    return sorted(gid.split(":")[1] for gid in made if gid.split(":")[0] == kind)
