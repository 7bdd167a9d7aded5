"""The figure ``stability``: gradient norm and update-to-weight ratio by step, thinned, for any study that recorded them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from drawing import check_texts, drawn, parts

import etude
import fabricate
from etude.errors import SpecError
from etude.notation import format_rate
from etude.present import figures, stability, steps
from etude.present.lines import MOST_LABELS
from etude.result import Result

DENSE = [float(f"{lr:.3g}") for lr in np.logspace(-6, 0, 40)]


def recorded(scores, count=100):
    """A result made by hand whose trials recorded ``count`` steps, or 7 where they diverged."""
    made = fabricate.result(scores)
    rng = np.random.default_rng(0)
    history = {}
    for trial in made.stored.trials:
        n = trial.diverged or count
        noise = np.exp(0.1 * rng.standard_normal((2, n)))
        ratio = trial.lr / np.sqrt(np.arange(1, n + 1))
        of = {
            "step": np.arange(1, n + 1),
            "loss": 1 / np.arange(1, n + 1),
            "grad_norm": noise[0],
            "update_ratio": ratio * noise[1],
        }
        if trial.diverged:
            of["grad_norm"] = np.append(10.0 ** np.arange(n - 1), math.nan)
        history[trial.id] = {name: v if name == "step" else v.astype("<f4") for name, v in of.items()}
    made.__dict__["history"] = history
    return made


MADE = {
    "digits": lambda root: Result.load(root["digits"]),
    "one seed and a diverged rate": lambda root: Result.load(root["bowl"]),
    "one rate": lambda _: recorded({1e-3: [0.98]}),
    "forty rates, ten seeds": lambda _: recorded({lr: [0.9] * 10 for lr in DENSE}),
    "all diverged": lambda _: recorded({lr: ["diverged"] * 3 for lr in (0.1, 1.0)}),
    "some seeds diverged": lambda _: recorded({1e-3: [0.98, 0.97], 1e-2: [0.9, "diverged"], 1.0: ["diverged"] * 2}),
    "failed": lambda _: recorded({1e-3: [0.98, 0.97], 1e-2: ["failed"] * 2}),
    "a paused search": lambda root: fabricate.searched(
        root["tmp"] / "run", {1e-5: [0.06], 3e-3: [1.0, 1.0], 1e-2: [1.0, 0.25], 1.0: [0.06]}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory, finished_digits, finished_bowl):
    root = {"tmp": tmp_path_factory.mktemp("stability"), "digits": finished_digits, "bowl": finished_bowl}
    return functools.cache(lambda name: MADE[name](root))


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", MADE)
def test_labels_do_not_touch_and_every_rate_has_its_lines(made, name, narrow):
    result = made(name)
    figure = drawn(result, "stability", narrow=narrow)
    check_texts(figure)
    lrs = {format_rate(t.lr) for t in result.judged if t.id in result.history}
    assert parts(figure, "line") == sorted(2 * [*lrs])
    assert len(figure.axes) == (3 if len(lrs) > MOST_LABELS else 2)
    assert {ax.get_yscale() for ax in figure.axes[:2]} == {"log"}


@pytest.mark.parametrize("name", MADE)
def test_the_lines_are_medians_over_seeds_of_what_was_recorded(made, name):
    result = made(name)
    frame = result.steps
    for panel, column in zip(stability.panels(result), ("grad_norm", "update_ratio"), strict=True):
        for line in panel.lines:
            assert len(line.x) <= steps.BUCKETS
            whole = {(t.lr, t.seed) for t in result.judged if t.status == "completed"}
            of = frame[frame["lr"] == line.lr]
            if any(result.is_paused(t) for t in result.judged if t.lr == line.lr) and not line.is_paused:
                of = of[[(line.lr, seed) in whole for seed in of["seed"]]]
            by_step = of.dropna(subset=[column]).groupby("step")[column]
            if frame["step"].max() <= steps.BUCKETS:  # a step a bucket
                assert np.allclose(line.y, by_step.median())
                assert np.allclose(line.low, by_step.min())
                assert np.allclose(line.high, by_step.max())
                assert np.allclose(line.x, list(by_step.groups))
            ended = [t.diverged for t in result.judged if t.lr == line.lr and t.diverged]
            assert line.ended == tuple(sorted(ended))


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("last", [1, 2, 119, 121, 5000])
def test_thinning_takes_the_median_of_every_bucket(last, is_log):
    rng = np.random.default_rng(last)
    edges = steps.bucket_edges(last, is_log=is_log)
    counted = np.arange(1, last + 1)[rng.random(last) < 0.7]  # a loop of one's own logs some steps
    values = rng.lognormal(size=len(counted))
    found = steps.thin(counted, values, edges)
    assert len(found) == len(edges) - 1 <= steps.BUCKETS
    assert (edges[0], edges[-1]) == (0, last)
    for value, (low, high) in zip(found, itertools.pairwise(edges), strict=True):
        inside = values[(counted > low) & (counted <= high)]
        assert value == pytest.approx(np.median(inside)) if len(inside) else math.isnan(value)


def test_the_rule_of_thumb_is_drawn_and_named(made):
    norm, ratio = drawn(made("digits"), "stability").axes
    assert [line.get_ydata()[0] for line in ratio.lines if line.get_gid() == "rule"] == [1e-3]
    assert not [line for line in norm.lines if line.get_gid() == "rule"]
    low, high = ratio.get_ylim()
    assert low < 1e-3 < high
    said = figures.FIGURES["stability"].words(made("digits"))
    assert "rule of thumb (Karpathy, cs231n)" in said.note
    assert "Last update-to-weight ratio of 1e-4" in said.alt


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("level", [3e-4, 1e-3, 3e-3])
def test_the_name_of_the_rule_of_thumb_covers_no_line(level, narrow):
    result = recorded({1e-4: [0.9], 1e-3: [0.95], 1e-2: [0.9]})
    for trial in result.stored.trials:  # a line that falls through the rule, early or late
        steps_taken = np.arange(1, 101)
        ratio = level * (trial.lr / 1e-4) * 10 ** (0.2 * np.sin(steps_taken)) * 0.5 ** (steps_taken / 30)
        result.history[trial.id]["update_ratio"] = ratio.astype("<f4")
    figure = drawn(result, "stability", narrow=narrow)
    ax = figure.axes[1]
    names = [text for text in ax.texts if text.get_text().startswith("rule of thumb")]
    assert narrow or names
    for text in names:
        assert not text.get_path_effects()
        box = text.get_window_extent(figure.canvas.get_renderer())
        for line in ax.lines:
            if (line.get_gid() or "").startswith("line"):
                places = ax.transData.transform(np.stack(line.get_data(), axis=1))
                at = np.linspace(0, len(places) - 1, 2000)
                fine = np.stack([np.interp(at, np.arange(len(places)), places[:, i]) for i in (0, 1)], axis=1)
                assert not box.count_contains(fine)


def test_a_diverged_rate_is_marked_where_it_ended_and_does_not_squash_the_others(made):
    result = made("some seeds diverged")
    # What is lost is told from the verdicts, which this result has by hand.
    result.analysis["rates"][-1]["verdict"] = "diverged"
    figure = drawn(result, "stability")
    for ax in figure.axes:
        marks = [line for line in ax.lines if line.get_marker() == "x"]
        assert sorted(float(x) for line in marks for x in line.get_xdata()) == [7.0, 7.0, 7.0]
    assert stability.panels(result)[0].limits[1] < 1e7


def test_runs_that_recorded_no_norm_have_no_such_figure(made, tmp_path):
    elsewhere = etude.judge(
        pd.DataFrame({"lr": [0.1, 0.1, 1, 1], "epoch": [0, 1, 0, 1], "val_loss": [2.0, 1.0, 2.0, 1.5]})
    )
    result = made("digits")
    of_own = dataclasses.replace(result)
    of_own.__dict__["history"] = {
        key: {**of, "grad_norm": np.full(len(of["step"]), np.nan), "update_ratio": np.full(len(of["step"]), np.nan)}
        for key, of in result.history.items()
    }
    for one in (elsewhere, of_own):
        assert "stability" not in figures.names(one)
        with pytest.raises(SpecError, match="figure 'stability' needs gradient norms recorded by step"):
            one.plot("stability")
    assert "stability" in figures.names(result)
