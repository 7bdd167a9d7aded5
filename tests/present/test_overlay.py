"""The figure of a comparison: every run in its colour, named beside it, with its best rate; nothing touches."""

from __future__ import annotations

import functools
import itertools
import warnings

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import fabricate
from etude.comparison import compare
from etude.present import figures, overlay, palette

GRID = [float(f"{lr:.3g}") for lr in np.logspace(-5, -1, 9)]


def run(name, optimum, *, curved=True, lost=0, **fields):
    def error(x):
        return min(0.9, 0.011 * 10 ** (0.25 * (x - optimum) ** 2))

    scores = {lr: [1 - error(np.log10(lr)) * (1 + 0.05 * d) for d in (-1.0, 0.0, 1.0)] for lr in GRID}
    for lr in GRID[len(GRID) - lost :]:
        scores[lr] = ["diverged", "collapsed", "diverged"]
    told = (
        fabricate.curve(GRID[: len(GRID) - lost], lambda x: 1 - error(x), lambda x: 0.1 * error(x)) if curved else None
    )
    return fabricate.result(scores, name=name, response=told, **fields)


COMPARISONS = {
    "three": lambda: [run("adam", -3, lost=2), run("sgd", -2, lost=1), run("adamw", -2.8, curved=False)],
    "alike": lambda: [run(f"run-with-a-name-that-is-rather-long-{i}", -3) for i in range(8)],
    "nothing learned": lambda: [fabricate.result({1e-3: ["diverged"]}, name=name) for name in "ab"],
    "one point each": lambda: [
        fabricate.result({1e-3: [0.9]}, name="a"),
        fabricate.result({1e-1: ["stalled"]}, name="b"),
    ],
    "losses": lambda: [
        fabricate.result({1e-3: [0.9, 1.0], 1e-2: [20.0, 30.0]}, name=name, metric="val_loss", direction="minimize")
        for name in "ab"
    ],
}


@functools.cache
def drawn(name):
    made = compare(COMPARISONS[name]())
    figure = Figure(figsize=figures.OVERLAY, layout="constrained")
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.plot(ax=figure.subplots())
        figure.canvas.draw()
    return made, figure


@pytest.mark.parametrize("name", COMPARISONS)
def test_labels_do_not_touch_and_stay_on_the_page(name):
    _, figure = drawn(name)
    (ax,) = figure.axes
    renderer = figure.canvas.get_renderer()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in [*ax.texts, ax._left_title] if t.get_text()]
    for (one, box), (other, other_box) in itertools.combinations(boxes, 2):
        assert not box.overlaps(other_box), (one, other)
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_run_is_named_with_its_rate_and_its_best_is_marked(name):
    made, figure = drawn(name)
    (ax,) = figure.axes
    labels = [text.get_text() for text in ax.texts]
    for run in made.runs:
        rate = "no rate" if run.lr is None else f"{run.lr:g}"
        ours = [label for label in labels if label.partition(": ")[0].lstrip("…") in run.name and ": " in label]
        assert any(label.endswith(": no rate") if run.lr is None else float(label.rpartition(": ")[2]) == run.lr
                   for label in ours if label.rpartition(": ")[2][0].isdigit() or rate == "no rate")  # fmt: skip
        marks = [line for line in ax.lines if line.get_gid() == f"best-{run.name}"]
        assert [float(line.get_xdata()[0]) for line in marks] == ([] if run.lr is None else [run.lr])


def test_a_curve_is_drawn_where_there_is_one_and_means_are_joined_where_there_is_none():
    made, figure = drawn("three")
    lines = {line.get_gid(): line for line in figure.axes[0].lines}
    assert len(lines["curve-adam"].get_xdata()) == 61
    assert len(lines["curve-adamw"].get_xdata()) == len(GRID)
    assert overlay.overlay_figure(made).axis.logarithmic
    counts = [text.get_text() for text in figure.axes[0].texts if text.get_text()[0].isdigit()]
    assert counts == ["3/3"] * 3


def test_runs_have_colours_that_read_on_white_and_beyond_them_other_dashes():
    colours = [palette.run_colour(i) for i in range(6)]
    assert len(set(colours)) == 6
    for colour in colours:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in matplotlib.colors.to_rgb(colour)]
        luminance = np.dot(linear, [0.2126, 0.7152, 0.0722])
        assert 1.05 / (luminance + 0.05) >= 4.5  # WCAG 2.2, AA, of text on white
    assert (palette.run_colour(6), palette.run_dash(6)) == (palette.run_colour(0), "--")
    assert palette.run_dash(0) == "-"


def test_it_is_saved(tmp_path):
    path = figures.save_comparison(drawn("three")[0], tmp_path / "compare.svg")
    assert "adamw: 1e-3" in path.read_text()
