"""The figure ``verdicts``: a row a rate, its word, its gap to the best and the evidence, for any study."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from drawing import check_texts, drawn, parts
from matplotlib.figure import Figure

import etude
import fabricate
from etude.notation import format_rate
from etude.present import figures, verdicts
from etude.present.figures import FIGURES
from etude.result import Result

DENSE = [float(f"{lr:.3g}") for lr in np.logspace(-6, 1, 40)]


def curves(lrs, seeds, *, metric="val_loss", epochs=(0, 1, 2), low=0.1, lost=math.inf):
    """Rows of curves whose final value is best near 1e-3, with a little noise; rates from ``lost`` on are not finite."""
    rows = []
    for lr, seed, epoch in itertools.product(lrs, range(seeds), epochs):
        away = (math.log10(lr) + 3) ** 2
        value = low + 0.2 * away + (1.5 if epoch == 0 else 0.3 / max(epoch, 1)) + 0.01 * math.sin(97 * seed + 31 * away)
        rows.append({"lr": lr, "seed": seed, "epoch": epoch, metric: math.inf if lr >= lost and epoch else value})
    return pd.DataFrame(rows)


def failed():
    made = fabricate.result({1e-3: ["failed", "pending"], 0.1: ["failed"] * 2})
    del made.__dict__["analysis"]  # it is judged as a run is
    return made


MADE = {
    "losses": lambda _: etude.judge(curves([1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1.0], 3, lost=1.0)),
    "one rate": lambda _: etude.judge(curves([1e-3], 1)),
    "forty rates, ten seeds": lambda _: etude.judge(curves(DENSE, 10, lost=1.0)),
    "all diverged": lambda _: etude.judge(curves([0.1, 1.0], 2, lost=1e-9)),
    "failed": lambda _: failed(),
    "a paused search": lambda tmp: fabricate.searched(
        tmp / "run", {1e-5: [0.06], 1e-4: [0.06], 3e-3: [1.0, 1.0], 1e-2: [1.0, 1.0], 3e-2: [1.0, 1.0], 1.0: [0.06]}
    ),
    "scores below 0": lambda _: etude.judge(
        curves([1e-4, 1e-3, 1e-2, 0.1], 2, metric="val_score", low=-2.0), objective="max:val_score"
    ),
    "final values": lambda _: etude.judge(curves([1e-4, 1e-3, 1e-2], 3, epochs=(2,)).drop(columns="epoch")),
}  # fmt: skip


@functools.cache
def _made(name, root):
    return MADE[name](root)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("verdicts")
    return lambda name: _made(name, root)


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", MADE)
def test_labels_do_not_touch_and_every_rate_has_its_row(made, name, narrow):
    result = made(name)
    figure = drawn(result, "verdicts", narrow=narrow)
    check_texts(figure)
    said = [rate["lr"] for rate in result.analysis["rates"]]
    assert parts(figure, "label") == parts(figure, "verdict") == sorted(map(format_rate, said))
    (ax,) = figure.axes
    words = [t.get_text() for t in ax.texts if (t.get_gid() or "").startswith("verdict")]
    assert words == [rate["verdict"] for rate in result.analysis["rates"]]
    bold = [t.get_text() for t in ax.texts if t.get_fontweight() in ("bold", 700)]
    assert [float(text) for text in bold] == [lr for lr in [result.recommendation.lr] if lr is not None]


@pytest.mark.parametrize("name", MADE)
def test_gaps_are_those_of_the_result_and_diverged_rates_have_none(made, name):
    result = made(name)
    figure = drawn(result, "verdicts")
    (ax,) = figure.axes
    shown = {line.get_gid(): line for line in ax.lines if line.get_gid()}
    for rate in result.analysis["rates"]:
        key, gap = format_rate(rate["lr"]), rate["evidence"]["gap"]
        times = 100 if result.analysis["margin_text"].endswith("points") else 1
        if rate["verdict"] == "diverged":
            assert f"lost:{key}" in shown
            assert f"gap:{key}" not in shown
        elif rate["lr"] == result.recommendation.lr:
            assert shown[f"recommended:{key}"].get_xdata()[0] == 0
        elif gap is not None:
            assert shown[f"gap:{key}"].get_xdata()[0] == pytest.approx(times * gap)
            low, high = ax.get_xlim()
            assert low <= times * gap <= high


def test_a_gap_beyond_all_others_is_an_arrow_with_its_number(made):
    data = verdicts.verdicts_figure(made("losses"))
    far = dataclasses.replace(data.strips[0], gap=1e30)
    ax = Figure().subplots()
    verdicts.draw_verdicts(ax, dataclasses.replace(data, strips=(far, *data.strips[1:])))
    assert "1.0e30" in [text.get_text() for text in ax.texts]
    assert ax.get_xlim()[1] < 1e5
    assert [line.get_marker() for line in ax.lines if line.get_gid() == "gap:1e-4"] == [">"]


def test_the_evidence_is_said_in_few_words(made):
    def evidence(name):
        return {strip.lr: strip.evidence for strip in verdicts.verdicts_figure(made(name)).strips}

    assert evidence("losses")[1.0] == ("3 of 3 diverged", "from epoch 1")
    assert evidence("losses")[1e-4][0] == "3 of 3 seeds agree"
    assert evidence("one rate")[1e-3] == ("one seed",)
    assert evidence("failed") == {1e-3: ("1 of 2 failed", "1 of 2 not finished"), 0.1: ("2 of 2 failed",)}
    paused = verdicts.verdicts_figure(made("a paused search")).strips
    assert paused[0].evidence == ("paused at 6 %",)
    assert paused[0].behind > 0
    assert paused[0].gap is None


def test_the_margin_is_shaded_in_the_unit_of_the_axis(made):
    result = made("a paused search")
    data = verdicts.verdicts_figure(result)
    assert data.xlabel == "gap to the best, points"
    assert data.delta == 100 * result.analysis["margin"]
    assert verdicts.verdicts_figure(made("losses")).xlabel == "gap to the best, validation loss"
    assert "Shaded: within the margin" in data.note


def test_the_figure_grows_with_the_rates(made):
    few, many = (FIGURES["verdicts"].inches(made(name)) for name in ("one rate", "forty rates, ten seeds"))
    assert few[0] == many[0]
    assert many[1] - few[1] == pytest.approx(39 * FIGURES["verdicts"].row[0])


def test_who_cannot_see_it_is_told_every_verdict(made):
    said = figures.FIGURES["verdicts"].words(made("losses")).alt
    assert "1e-4: too low" in said
    assert "1: diverged" in said
    assert "(recommended)" in said


@pytest.mark.parametrize("width", [1e-6, 0.2, 3.0, 1e4])
@pytest.mark.parametrize("reach", [3, 50, 9000])
def test_ticks_are_round_and_have_room(width, reach):
    limits = (-0.5 * width, reach * width)
    ticks = verdicts.gap_ticks(limits, width, 0.1)
    assert 0 in ticks
    assert len(ticks) >= 2
    places = np.arcsinh(np.array(ticks) / width)
    assert np.diff(places).min() >= 0.1 * (np.arcsinh(limits[1] / width) - np.arcsinh(limits[0] / width)) * 0.999
    assert all(f"{tick:.0e}" == f"{tick:.1e}".replace(".0", "") for tick in ticks)


def test_a_result_with_no_rate_says_so(finished_bowl):
    result = Result.load(finished_bowl)
    empty = Result(result.directory, result.stored, result.objective)
    empty.__dict__["analysis"] = {
        **result.analysis,
        "rates": [],
        "recommendation": {**result.analysis["recommendation"], "lr": None},
    }
    (ax,) = drawn(empty, "verdicts").axes
    assert "no rate has been tried yet" in [text.get_text() for text in ax.texts]
