from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import warnings

import matplotlib
import matplotlib.colors
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from etude.errors import SpecError
from etude.events import Advanced, Started
from etude.present import curves, figures, lines, palette
from etude.present.curves import Panel
from etude.present.lines import LABEL_GAP, MOST_LABELS, Line
from etude.result import Result
from etude.spec.study import Study


class Stopped(Exception):
    """Ends a run in the middle of it."""


def trained(directory, task="quadratic", until=None, **changes):
    """Train (until an event of the kind ``until``) and return the result."""
    study = Study.default(task).replace(**{"epochs": 40, **changes} if task == "quadratic" else changes)

    def on_event(event):
        if until is not None and isinstance(event, until):
            raise Stopped

    with contextlib.suppress(Stopped):
        study.run(directory, executor="inline", on_event=on_event)
    return Result.load(directory)


STUDIES = {
    "one rate": {"lrs": [0.1]},
    "twelve rates": {"lrs": "1e-4..5/12"},
    "as many rates as get labels": {"lrs": [1e-3, 1e-2, 0.1, 1, 1.9, 2.1, 10]},
    "several seeds": {"lrs": [0.1, 1, 10], "seeds": 3},
    "all diverged": {"lrs": [10, 100]},
    "all diverged before the first evaluation": {"lrs": [1e20, 1e21]},
    "two diverged at one time": {"lrs": [0.1, 1, 10, 10.5, 11]},
    "nothing moved": {"lrs": [1e-9, 1e-8]},
    "one evaluation": {"lrs": [0.1, 1], "epochs": 10},
    "a fraction of an epoch": {"task": "digits", "lrs": [1e-3, 1e-2], "seeds": 1, "epochs": 0.5, "evaluate_every": 0.1},
    "one epoch": {"task": "digits", "lrs": [1e-3, 1e-2], "seeds": 1, "epochs": 1},
    "nothing trained yet": {"lrs": [0.1, 1], "until": Started},
    "one trial trained": {"lrs": [0.1, 1], "until": Advanced},
    "another objective": {"task": "digits", "lrs": [1e-3, 1e-2], "seeds": 2, "epochs": 2, "objective": "val_loss"},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("figures")
    return {name: trained(root / name, **settings) for name, settings in STUDIES.items()}


@pytest.fixture(scope="module")
def drawn(results):
    """Draw a study, once, on a figure of the size that is saved, and return it laid out."""

    @functools.cache
    def draw(name):
        figure = Figure(figsize=(11, 4), layout="constrained")
        FigureCanvasAgg(figure)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            results[name].plot("curves", ax=figure.subplots(1, 2))
            figure.canvas.draw()
        return figure

    return draw


def boxes(figure, ax):
    """Return the labels of an axes with where they are drawn."""
    renderer = figure.canvas.get_renderer()
    return {text.get_text(): text.get_window_extent(renderer) for text in ax.texts}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_drawn_without_a_warning(drawn, name):
    assert drawn(name).axes


@pytest.mark.parametrize("name", STUDIES)
def test_labels_do_not_touch_and_stay_on_the_page(drawn, name):
    figure = drawn(name)
    page = figure.bbox
    for ax in figure.axes[:2]:
        found = boxes(figure, ax)
        for (one, box), (other, other_box) in itertools.combinations(found.items(), 2):
            assert not box.overlaps(other_box), (one, other)
        for text, box in found.items():
            assert box.x0 >= page.x0, text
            assert box.x1 <= page.x1, text
            assert box.y0 >= page.y0, text
            assert box.y1 <= page.y1, text


@pytest.mark.parametrize("name", STUDIES)
def test_every_rate_can_be_found_in_the_figure(results, drawn, name):
    result, figure = results[name], drawn(name)
    rates = {trial.lr for trial in result.judged if trial.step}
    for ax in figure.axes[:2]:
        if len(rates) > MOST_LABELS:
            assert len(figure.axes) == 3
        else:
            assert len(figure.axes) == 2
            assert {
                float(text.get_text().split()[0].rstrip(",")) for text in ax.texts if text.get_text()[0].isdigit()
            } == rates


def test_a_study_without_evaluations_says_so(drawn):
    figure = drawn("nothing trained yet")
    assert [text.get_text() for text in figure.axes[0].texts] == ["no evaluation yet"]


def test_a_diverged_rate_is_marked_at_the_edge_where_it_ended(results, drawn):
    result = results["several seeds"]
    ended = sorted(t.diverged / result.steps_per_epoch for t in result.judged if t.diverged)
    assert len(ended) == 3
    for ax in drawn("several seeds").axes:
        marks = [line for line in ax.lines if line.get_marker() == "x"]
        assert sorted(float(x) for line in marks for x in line.get_xdata()) == ended
        assert all((line.get_ydata() == 1.0).all() for line in marks)
        assert len(marks) == len({line.get_gid() for line in marks})  # a rate's crosses fade as one
        assert any("diverged" in text.get_text() for text in ax.texts)


def test_only_the_recommended_rate_is_bold(results, drawn):
    result = results["as many rates as get labels"]
    for ax in drawn("as many rates as get labels").axes:
        bold = [text.get_text() for text in ax.texts if text.get_fontweight() in ("bold", 700)]
        assert [float(text) for text in bold] == [result.recommendation.lr]


def test_the_axes_carry_words_and_units(drawn):
    loss, accuracy = drawn("one epoch").axes
    assert [ax.get_title(loc="left") for ax in (loss, accuracy)] == ["Training Loss Curve", "Validation Accuracy Curve"]
    assert loss.get_ylabel() == "training loss"
    assert accuracy.get_ylabel() == "validation accuracy, %"
    assert {ax.get_xlabel() for ax in (loss, accuracy)} == {"epoch"}


def test_the_lines_are_the_means_over_seeds(results):
    result = results["another objective"]
    _, panel = curves.panels(result)
    for line in panel.lines:
        frame = result.evaluations.query("lr == @line.lr and step > 0")
        assert np.allclose(line.y, frame.groupby("epoch")["val_loss"].mean())
        assert np.allclose(line.low, frame.groupby("epoch")["val_loss"].min())
        assert np.allclose(line.high, frame.groupby("epoch")["val_loss"].max())


def test_a_lost_rate_does_not_squash_the_others(results):
    _, panel = curves.panels(results["as many rates as get labels"])
    assert panel.limits[1] < 10


def lines_of(*counts, ended=()):
    x = np.array([1.0, 2.0])
    return [
        Line(lr=10.0**-i, x=x, y=x, low=x, high=x, ended=ended, n_seeds=max(counts), n_drawn=n)
        for i, n in enumerate(counts)
    ]


def test_what_is_said_of_seeds_is_true_of_the_lines():
    assert lines.seeds_words([], None) == ""
    assert lines.seeds_words(lines_of(1, 1), None) == "One seed a rate."
    assert lines.seeds_words(lines_of(2, 2), None) == "Lines: means of 2 seeds; bands: from the lowest to the highest."
    assert lines.seeds_words(lines_of(1, 3), None).startswith("Lines: means of 1 to 3 seeds a rate; bands")
    many = lines_of(*[2] * (MOST_LABELS + 1))
    assert lines.seeds_words(many, None) == "Lines: means of 2 seeds."  # bands of so many would be a fog
    assert "the recommended rate's band: from" in lines.seeds_words(many, 1.0)


def test_a_study_that_has_not_started_has_nothing_to_explain(results):
    assert curves.words(results["nothing trained yet"]).note == ""
    assert curves.words(results["one trial trained"]).note in ("", "One seed a rate.")


def test_triangles_and_crosses_are_explained_and_do_not_hide_each_other():
    panel = synthetic([5.0, 7.0, 1.0])
    said = lines.marks_words([(panel.lines, 1.0)])
    assert said == ["Triangles at the upper edge: a line that ends above the frame."]
    crossed = dataclasses.replace(panel.lines[2], ended=(1.5,), n_seeds=2)
    said = lines.marks_words([((*panel.lines[:2], crossed), 1.0)])
    assert said[0].startswith("Crosses at the upper edge")
    assert said[1].startswith("Triangles there")
    for shown in (panel.lines, tuple(dataclasses.replace(line, ended=(2.0,)) for line in panel.lines)):
        figure = Figure(figsize=(5.5, 4), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        made = dataclasses.replace(panel, lines=shown)
        curves.draw_panel(ax, made, palette.colours([line.lr for line in shown]), best=None, horizon=2)
        figure.canvas.draw()
        marks = [line for line in ax.lines if (line.get_gid() or "").startswith("ended")]
        assert len(marks) >= 2
        found = [mark.get_window_extent(figure.canvas.get_renderer()) for mark in marks]
        for box, other in itertools.combinations(found, 2):
            assert abs(box.x0 - other.x0) > 6 * figure.dpi / 72


def lightness(colour):
    """CIELAB L* of a colour under its own white (CIE 15:2004)."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return 116 * luminance ** (1 / 3) - 16 if luminance > 216 / 24389 else luminance * 24389 / 27


def test_lightness_is_computed_as_published():
    assert np.allclose(
        [lightness(c) for c in ("#000000", "#ffffff", "#ff0000", "#0000ff")], [0, 100, 53.24, 32.30], atol=0.01
    )


@pytest.mark.parametrize("count", [2, 3, 7, 12])
def test_the_lightness_of_colours_rises_steadily_with_the_rate(count):
    lrs = np.logspace(-5, 1, count)
    rising = [lightness(colour) for colour in palette.colours(lrs).values()]
    steps = np.diff(rising)
    assert np.all(steps > 0)
    assert steps.min() > 0.4 * steps.mean()


def test_the_whole_ramp_rises_in_lightness_and_stays_readable_on_white():
    rising = [lightness(palette.ramp()(place)) for place in np.linspace(0, 1, 256)]
    assert np.all(np.diff(rising) > 0)
    assert rising[0] > 15
    assert rising[-1] < 65


def test_colours_go_by_the_logarithm_and_one_rate_has_one():
    middle = matplotlib.colors.to_rgb(palette.colours([1e-4, 1e-3, 1e-2])[1e-3])
    assert np.allclose(middle, palette.ramp()(0.5)[:3], atol=0.02)
    assert palette.colours([1e-3, 1e-2]) == {**palette.colours([1e-2, 1e-3])}
    assert list(palette.colours([1e-3])) == [1e-3]


def synthetic(heights, logarithmic=False):
    x = np.array([1.0, 2.0])
    lines = tuple(
        Line(lr=10.0**-i, x=x, y=np.array([h, h]), low=np.array([h, h]), high=np.array([h, h]), ended=(), n_seeds=1)
        for i, h in enumerate(heights)
    )
    return Panel(title="", ylabel="", share=False, percent=0, lines=lines, limits=(0.1, 1.0), logarithmic=logarithmic)


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize(
    "heights",
    [
        [0.5] * 7,
        [1.0] * 7,
        [0.1] * 7,
        [0.5, 0.5],
        [0.99, 1.0, 1.0, 0.98],
        [5.0, 7.0, 1.0],
        list(np.linspace(0.5, 0.52, 7)),
    ],
)
def test_labels_at_one_height_are_moved_apart(heights, logarithmic):
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    FigureCanvasAgg(figure)
    ax, panel = figure.subplots(), synthetic(heights, logarithmic)
    curves.draw_panel(ax, panel, palette.colours([line.lr for line in panel.lines]), best=None, horizon=2)
    placed = sorted(text.xy[1] for text in ax.texts)
    assert len(placed) == len(heights)
    assert np.diff(placed).min() > 0.95 * LABEL_GAP
    figure.canvas.draw()
    found = boxes(figure, ax)
    for box, other in itertools.combinations(found.values(), 2):
        assert not box.overlaps(other)


@pytest.mark.parametrize(
    ("name", "kind"), [("one epoch", "svg"), ("twelve rates", "svg"), ("one epoch", "pdf"), ("one epoch", "png")]
)
def test_a_result_drawn_twice_is_the_same_file(results, tmp_path, name, kind):
    result = results[name]
    first = figures.save(result, "curves", tmp_path / f"a.{kind}").read_bytes()
    again = Result.load(result.directory)
    assert figures.save(again, "curves", tmp_path / f"b.{kind}").read_bytes() == first


def test_text_in_svg_stays_text(results, tmp_path):
    text = figures.save(results["one epoch"], "curves", tmp_path / "a.svg").read_text()
    assert "Training Loss Curve" in text
    assert "Validation Accuracy Curve" in text


def test_drawing_leaves_the_settings_of_matplotlib_alone(results, tmp_path):
    before = dict(matplotlib.rcParams)
    figures.save(results["one epoch"], "curves", tmp_path / "a.svg")
    results["one epoch"].plot(ax=Figure().subplots(1, 2))
    assert dict(matplotlib.rcParams) == before


def test_saving_replaces_a_file_and_leaves_nothing_else(results, tmp_path):
    path = tmp_path / "a.svg"
    path.write_text("older")
    assert figures.save(results["one epoch"], "curves", path) == path
    assert [one.name for one in tmp_path.iterdir()] == ["a.svg"]
    assert path.read_text().startswith("<?xml")


def test_plot_makes_its_own_axes(results):
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_backend()
    plt.switch_backend("agg")
    try:
        axes = results["one epoch"].plot()
        assert len(axes) == 2
        plt.close(axes[0].figure)
    finally:
        plt.switch_backend(before)


def test_plot_wants_as_many_axes_as_the_figure_has_panels(results):
    with pytest.raises(SpecError, match="figure 'curves' wants 2 axes, got 1"):
        results["one epoch"].plot("curves", ax=Figure().subplots())
    with pytest.raises(SpecError, match="no figure is named 'rate'"):
        results["one epoch"].plot("rate")
