"""The figure ``rates``, drawn from results made by hand: what it shows, and that nothing touches or leaves the page."""

from __future__ import annotations

import functools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from drawing import check_texts
from drawing import drawn as laid_out
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import etude
import fabricate
from etude.present import curves, figures, response
from etude.present.axes import draw_rate_axis, measure, spread
from etude.result import Result

RNG = np.random.default_rng(3)
GRID = [float(f"{lr:.3g}") for lr in np.logspace(-5, -1, 13)]
DENSE = [float(f"{lr:.3g}") for lr in np.logspace(-6, 0, 40)]


def error(x):
    return 0.0113 * 10 ** (0.28 * (x + 2.85) ** 2)


def accuracies(lr, count):
    return [float(1 - error(math.log10(lr)) * math.exp(0.07 * RNG.standard_normal())) for _ in range(count)]


def losses(lr, count):
    return [
        float(10 ** (0.35 * (math.log10(lr) + 3) ** 2) * math.exp(0.15 * RNG.standard_normal())) for _ in range(count)
    ]


def studies():
    scores = {lr: accuracies(lr, 3) for lr in GRID}
    scores[GRID[-2]][:2] = ["collapsed", "collapsed"]
    scores[GRID[-1]] = ["diverged", "collapsed", "diverged"]
    located = fabricate.curve(
        GRID[2:10], lambda x: 1 - error(x), lambda x: 0.12 * error(x), optimum=1.4e-3, optimum_interval=[9.2e-4, 2.4e-3],
        plateau=fabricate.plateau(5.3e-4, 3e-3, inner=(8e-4, 2e-3), outer=(3e-4, 5e-3)),
    )  # fmt: skip
    dense = {lr: losses(lr, 10) for lr in DENSE}
    for i, lr in enumerate(DENSE[-9:]):
        dense[lr][: i + 2] = ["diverged"] * (i + 2)
    edge = {lr: [0.2 + 0.05 * (math.log10(lr) + 1) ** 2 + d for d in (0.003, -0.004)] for lr in (1e-3, 1e-2, 1e-1)}
    open_ended = fabricate.curve(
        list(edge), lambda x: 0.2 + 0.05 * (x + 1) ** 2, 0.012, optimum=0.1, optimum_interval=[3.3e-2, 0.1], open=["high"],
        plateau=fabricate.plateau(5e-2, 0.1, outer=(3e-2, 0.1), open=["high"]),
    )  # fmt: skip
    small = {"metric": "val_loss", "direction": "minimize", "margin": 0.004, "margin_text": "± 0.004"}
    return {
        "a curve": fabricate.result(scores, response=located, best=GRID[6]),
        "no curve": fabricate.result({1e-4: [0.973, 0.974], 1e-3: [0.989, 0.988], 1e-2: [0.97, 0.962]}),
        "one rate": fabricate.result({1e-3: [0.982, 0.984]}),
        "one trial": fabricate.result({1e-3: [0.982]}),
        "one seed": fabricate.result({lr: accuracies(lr, 1) for lr in GRID}),
        "all diverged": fabricate.result({lr: ["diverged"] * 3 for lr in (0.1, 1.0, 10.0)}),
        "nothing scored": fabricate.result({lr: ["pending"] for lr in (0.1, 1.0)}),
        "forty rates, ten seeds": fabricate.result(
            dense, best=DENSE[20], **small,
            response=fabricate.curve(DENSE[:34], lambda x: 10 ** (0.35 * (x + 3) ** 2), 0.1, optimum=1e-3,
                                     optimum_interval=[7e-4, 1.5e-3], plateau=fabricate.plateau(4e-4, 2.2e-3)),
        ),
        "an edge": fabricate.result(edge, response=open_ended, **small),
        "less than a decade": fabricate.result({1e-3: [0.81, 0.82], 1.5e-3: [0.83, 0.84], 3e-3: [0.75, "diverged"]}),
        "stalled and failed": fabricate.result({1e-9: ["stalled"] * 2, 1e-3: [0.6, 0.7], 0.1: ["failed"] * 2}),
    }  # fmt: skip


STUDIES = studies()


@functools.cache
def drawn(name):
    figure = Figure(figsize=figures.FIGURES["rates"].size, layout="constrained")
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        STUDIES[name].plot("rates", ax=figure.subplots())
        figure.canvas.draw()
    return figure


def by_gid(ax, prefix):
    return [line for line in ax.lines if (line.get_gid() or "").startswith(prefix)]


@pytest.mark.parametrize("name", STUDIES)
def test_labels_do_not_touch_and_stay_on_the_page(name):
    check_texts(drawn(name))


@pytest.mark.parametrize("name", STUDIES)
def test_no_dot_is_left_out_and_none_lies_outside_the_frame(name):
    (ax,) = drawn(name).axes
    shown = [v for line in by_gid(ax, "seeds:") for v in line.get_ydata()]
    learned = [t["score"] for t in STUDIES[name].analysis["trials"] if t["dynamics"] == "smooth"]
    assert sorted(shown) == sorted(learned)
    low, high = ax.get_ylim()
    assert all(low <= v <= high for v in shown)


@pytest.mark.parametrize("name", STUDIES)
def test_every_lost_trial_is_counted_above_the_frame(name):
    (ax,) = drawn(name).axes
    counts = [text.get_text() for text in ax.texts if "/" in text.get_text()]
    lost = sum(t.status in ("diverged", "failed") for t in STUDIES[name].judged) + sum(
        t["dynamics"] in ("collapsed", "stalled") for t in STUDIES[name].analysis["trials"]
    )
    assert sum(int(text.split("/")[0]) for text in counts) == lost
    assert len(by_gid(ax, "lost")) == len(counts)


@pytest.mark.parametrize("name", STUDIES)
def test_only_the_recommended_rate_is_bold(name):
    (ax,) = drawn(name).axes
    bold = [text.get_text() for text in ax.texts if text.get_fontweight() in ("bold", 700)]
    lr = STUDIES[name].recommendation.lr
    assert [float(text) for text in bold] == ([] if lr is None else [lr])


def test_the_curve_is_drawn_where_there_is_one():
    located = STUDIES["a curve"].analysis["response"]
    (line,) = by_gid(drawn("a curve").axes[0], "response")
    assert np.array_equal(line.get_ydata(), located["mean"])
    assert not by_gid(drawn("no curve").axes[0], "response")


def test_an_open_end_is_an_arrow_and_is_not_written_as_an_end():
    (ax,) = drawn("an edge").axes
    texts = [text.get_text() for text in ax.texts]
    assert "best rate: above 3.3e-2 (95 %)" in texts
    assert [text.get_gid() for text in ax.texts if (text.get_gid() or "").startswith("open")] == ["open-high"]
    assert "best rate: 9.2e-4 to 2.4e-3 (95 %)" in [text.get_text() for text in drawn("a curve").axes[0].texts]
    assert response.interval_text((1e-3, 1e-1), ("low",)) == "best rate: below 0.1 (95 %)"
    assert response.interval_text((1e-3, 1e-1), ("low", "high")) == "best rate: not told from these"


def test_the_margin_lies_on_the_worse_side_of_the_best():
    up, down = response.rates_figure(STUDIES["a curve"]), response.rates_figure(STUDIES["an edge"])
    assert up.level == max(STUDIES["a curve"].analysis["response"]["mean"])
    assert down.level == min(STUDIES["an edge"].analysis["response"]["mean"])
    for name, data in (("a curve", up), ("an edge", down)):
        dashed = [line for line in drawn(name).axes[0].lines if line.get_linestyle() == "--"]
        assert [line.get_ydata()[0] for line in dashed] == [data.level - data.sign * data.delta]


@pytest.mark.parametrize(
    ("name", "words"),
    [("all diverged", "no trial has learned"), ("nothing scored", "no score at the horizon yet")],
)
def test_an_empty_frame_says_why(name, words):
    assert words in [text.get_text() for text in drawn(name).axes[0].texts]


def test_axes_have_words_and_units():
    assert drawn("a curve").axes[0].get_ylabel() == "validation accuracy, %"
    assert drawn("an edge").axes[0].get_ylabel() == "validation loss"
    (ax,) = drawn("a curve").axes
    assert ax.get_title(loc="left") == "Validation accuracy after 5 epochs, by learning rate"
    assert [tick.get_text() for tick in ax.get_xticklabels() if tick.get_text()] == [
        "1e-5",
        "1e-4",
        "1e-3",
        "1e-2",
        "0.1",
    ]
    assert drawn("forty rates, ten seeds").axes[0].get_yscale() == "log"


@pytest.mark.parametrize("lrs", [[1e-3], [1e-3, 2e-3], [1.1e-3, 1.2e-3, 1.3e-3, 1.9e-3], GRID, DENSE, [1e-12, 1e6]])
def test_there_are_ticks_for_any_rates(lrs):
    ax = Figure().subplots()
    draw_rate_axis(ax, lrs)
    low, high = ax.get_xlim()
    assert low < min(lrs) <= max(lrs) < high
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert min(len(lrs), 2) <= len(ticks) <= 11
    assert all(float(label.get_text()) == pytest.approx(tick, rel=1e-2)
               for label, tick in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True))  # fmt: skip


def test_the_axis_of_a_metric_follows_its_range():
    assert measure(np.array([0.5, 0.99]), share=True).logarithmic
    assert not measure(np.array([0.97, 0.99]), share=True).logarithmic
    assert not measure(np.array([0.5, 30.0]), share=True).share
    assert measure(np.array([0.1, 1.0]), share=False).logarithmic
    assert not measure(np.array([-0.1, 1.0]), share=False).logarithmic
    assert measure(np.array([np.nan]), share=False).limits is None
    for axis in (measure(np.array([0.5, 0.99]), share=True), measure(np.array([0.1, 1.0]), share=False)):
        forward, _ = axis.functions
        low, high = (float(forward(v)) for v in axis.limits)
        foot = axis.with_foot(0.2)
        assert foot.limits[1] == axis.limits[1]
        assert (low - float(forward(foot.limits[0]))) / (high - float(forward(foot.limits[0]))) == pytest.approx(0.2)
    assert np.diff(spread([0.5, 0.5, 0.51], 0.1)).min() >= 0.099


def test_a_real_run_is_drawn_and_saved(finished_digits, tmp_path):
    made = Result.load(finished_digits)
    path = figures.save(made, "rates", tmp_path / "rates.svg")
    assert "learning rate" in path.read_text()
    data = response.rates_figure(made)
    assert [point.lr for point in data.points] == [1e-4, 1e-2, 1.0]
    assert sum(len(p.scores) + sum(p.lost.values()) for p in data.points) == 6


@pytest.mark.parametrize("top", [1, 100])
def test_an_accuracy_is_percent_in_words_whether_it_goes_to_1_or_to_100(top):
    rows = [
        {"lr": lr, "seed": seed, "epoch": epoch, "val_accuracy": top * (best - 0.2 / epoch + 0.001 * seed)}
        for lr, best in ((1e-4, 0.8), (1e-3, 0.95), (1e-2, 0.9))
        for seed in (0, 1)
        for epoch in (1, 2, 4)
    ]
    result = etude.judge(pd.DataFrame(rows))
    assert response.rates_figure(result).percent * top == 100
    assert "1e-3: 90.05 %" in response.words(result).alt
    assert "1e-3: 90.05 %" in curves.words(result).alt
    assert [panel.percent for panel in curves.panels(result)] == [0, 100 / top]


def noisy(scores, errors, **fields):
    """A result whose rates have these standard errors."""
    made = fabricate.result(scores, **fields)
    for rate, error in zip(made.analysis["rates"], errors, strict=True):
        rate["evidence"]["mean_error"] = error
    return made


@pytest.mark.parametrize(
    ("scores", "errors", "fields"),
    [
        ({1e-3: [0.852], 1e-2: [0.94], 0.1: [0.934]}, (0.016, 0.0106, 0.0111), {}),
        ({1e-3: [0.62], 1e-2: [0.995], 0.1: [0.99]}, (0.02, 0.003, 0.005), {}),
        ({1e-3: [0.9], 1e-2: [0.1], 0.1: [0.3]}, (0.3, 0.02, 0.2),
         {"metric": "val_loss", "direction": "minimize", "margin": 0.02, "margin_text": "± 0.02"}),
    ],
    ids=["shares", "shares-log", "losses"],
)  # fmt: skip
@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_whiskers_are_whole(scores, errors, fields, narrow):
    (ax,) = laid_out(noisy(scores, errors, **fields), "rates", narrow=narrow).axes
    low, high = ax.get_ylim()
    ends = [line.get_ydata() for line in by_gid(ax, "error:")]
    assert len(ends) == 3
    assert all(low < end.min() and end.max() < high for end in ends)


def test_a_whisker_ends_where_a_share_does():
    (ax,) = laid_out(noisy({1e-3: [0.9], 1e-2: [0.97]}, (0.02, 0.05)), "rates").axes
    assert max(line.get_ydata().max() for line in by_gid(ax, "error:")) == 1.0 == ax.get_ylim()[1]


@pytest.mark.parametrize(("half", "is_whole"), [(0.03, True), (0.6, False)])
def test_the_band_is_whole_where_that_does_not_squash_the_data(half, is_whole):
    lrs = [1e-4, 1e-3, 1e-2, 0.1]
    shape = fabricate.curve(lrs, lambda x: 1.0 + 0.1 * (x + 2) ** 2, half, optimum=1e-2, optimum_interval=[5e-3, 2e-2])
    scores = {lr: [1.0 + 0.1 * (math.log10(lr) + 2) ** 2] for lr in lrs}
    result = fabricate.result(scores, response=shape, best=1e-2, metric="val_loss", direction="minimize",
                              margin=0.01, margin_text="± 0.01")  # fmt: skip
    (ax,) = laid_out(result, "rates").axes
    low, high = ax.get_ylim()
    assert (low < min(shape["low"]) and max(shape["high"]) < high) == is_whole
    (lowest,), (highest,) = scores[1e-2], scores[1e-4]
    assert (highest - lowest) / (high - low) > 0.45


def with_curve(best, interval, *, width=0.01, span=None, lrs=(1e-4, 1e-3, 1e-2, 0.1), **fields):
    """A result with a curve (a parabola about 1e-2), that an interval of the optimum and a plateau are made up for."""
    shape = fabricate.curve(
        list(lrs), lambda x: 0.92 - 0.03 * (x + 2) ** 2, width, optimum=1e-2, optimum_interval=list(interval),
        plateau=None if span is None else fabricate.plateau(*span), **fields,
    )  # fmt: skip
    return fabricate.result({lr: [0.92 - 0.03 * (math.log10(lr) + 2) ** 2] for lr in lrs}, response=shape, best=best)


def told(figure, gid):
    """The texts of a name, with where they lie."""
    texts = [text for text in figure.axes[0].texts if (text.get_gid() or "").split(":")[0] == gid]
    return [(text.get_text(), text.get_window_extent(figure.canvas.get_renderer())) for text in texts]


@pytest.mark.parametrize(
    ("best", "interval", "is_above"),
    [(1e-2, (8e-3, 1.2e-2), False), (1e-3, (4e-4, 4e-2), True), (1e-2, (4e-4, 4e-2), True), (1e-4, (1e-4, 0.1), True)],
    ids=["narrow", "wide-low", "wide-high", "whole"],
)
def test_what_is_said_of_the_interval_stays_in_the_frame(best, interval, is_above):
    figure = laid_out(with_curve(best, interval), "rates")
    (ax,) = figure.axes
    ((_, box),), ((_, name),) = told(figure, "interval"), told(figure, "recommended")
    frame = ax.get_window_extent()
    assert frame.x0 < box.x0
    assert box.x1 < frame.x1
    assert not box.overlaps(name)
    bar = ax.transAxes.transform((0, response.BAR))[1]
    assert (box.y0 > bar) == is_above
    check_texts(figure)


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("best", [1e-4, 1e-3, 0.1])
def test_the_name_of_the_recommended_rate_is_picked_with_it_and_lies_above_its_diamond(best, narrow):
    figure = laid_out(with_curve(best, (1e-3, 1e-2)), "rates", narrow=narrow)
    (ax,) = figure.axes
    (text,) = [text for text in ax.texts if (text.get_gid() or "").startswith("recommended")]
    (diamond,) = by_gid(ax, "recommended")
    assert text.get_gid() == diamond.get_gid()
    box, frame = text.get_window_extent(figure.canvas.get_renderer()), ax.get_window_extent()
    x = ax.transData.transform((best, 0.9))[0]
    assert box.x0 < x < box.x1
    assert frame.x0 < box.x0
    assert box.x1 < frame.x1
    assert narrow or (box.x0 + box.x1) / 2 == pytest.approx(x, abs=1)


SHAPES = {"wide": (2e-3, 5e-2), "slim": (9e-3, 1.1e-2), "low": (1e-4, 2e-4), "high": (5e-2, 0.1)}


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("case", [*SHAPES, *STUDIES, "dense"])
def test_the_plateau_is_named_where_it_covers_nothing_or_not_at_all(case, narrow):
    if case == "dense":
        lrs = [float(f"{lr:.3g}") for lr in np.logspace(-4, 0, 30)]
        result = with_curve(lrs[15], (9e-3, 1.1e-2), span=(8e-3, 1.2e-2), lrs=lrs)
    else:
        result = with_curve(1e-2, (9e-3, 1.1e-2), span=SHAPES[case]) if case in SHAPES else STUDIES[case]
    figure = laid_out(result, "rates", narrow=narrow)
    (ax,) = figure.axes
    for _, box in told(figure, "plateau"):
        assert ax.get_window_extent().count_contains([(box.x0, box.y0), (box.x1, box.y1)]) == 2
        for line in [*by_gid(ax, "seeds"), *by_gid(ax, "response")]:
            x, y = line.get_data()
            (x, y) = (
                (x, y)
                if len(x) < 2
                else [np.interp(np.linspace(0, 1, 999), np.linspace(0, 1, len(x)), v) for v in (x, y)]
            )
            assert not box.count_contains(ax.transData.transform(np.stack([x, y], axis=1)))
    if case in ("slim", "low", "high") and not narrow:
        assert told(figure, "plateau")


def test_an_arrow_of_an_open_end_stays_on_the_page():
    for narrow in (False, True):
        figure = laid_out(STUDIES["an edge"], "rates", narrow=narrow)
        (arrow,) = [text.arrow_patch for text in figure.axes[0].texts if text.get_gid() == "open-high"]
        assert arrow.get_window_extent(figure.canvas.get_renderer()).x1 <= figure.bbox.x1


def test_every_mark_is_explained():
    note = response.rates_figure(with_curve(1e-2, (9e-3, 1.1e-2), span=(2e-3, 5e-2))).note
    assert (
        "Bar at the foot: where the best rate lies (95 %); circle: its estimate; diamond: the recommended rate." in note
    )
    assert "Upright shade: rates within 0.1 points of the best, by estimate." in note
    assert "best, surely (dark), by estimate, perhaps (pale)." in response.rates_figure(STUDIES["a curve"]).note
    assert "; arrow: not told from these rates;" in response.rates_figure(STUDIES["an edge"]).note
    assert response.rates_figure(STUDIES["no curve"]).note.endswith("Diamond: the recommended rate.")
    assert response.rates_figure(STUDIES["all diverged"]).note == ""


def test_the_plateau_and_the_recommended_rate_are_named_apart_below_a_high_heading():
    lrs = [float(f"{lr:.3g}") for lr in np.logspace(-5, 0, 40)]
    scores = {lr: [0.92 - 0.03 * (math.log10(lr) + 2.5) ** 2] * 10 for lr in lrs}
    scores |= {lr: ["stalled"] * 10 for lr in lrs[:2]} | {
        lr: ["diverged"] * 10 for lr in lrs[-2:]
    }  # rows of upright texts
    shape = fabricate.curve(
        lrs[2:-2], lambda x: 0.92 - 0.03 * (x + 2.5) ** 2, 0.005, optimum=3e-3, optimum_interval=[2.5e-3, 4e-3],
        plateau=fabricate.plateau(2e-3, 5e-3, inner=(2.5e-3, 4e-3), outer=(1.5e-3, 6e-3)),
    )  # fmt: skip
    figure = laid_out(fabricate.result(scores, response=shape, best=lrs[20]), "rates")
    check_texts(figure)
    assert told(figure, "plateau")
