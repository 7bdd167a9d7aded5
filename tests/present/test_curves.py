"""The options of the figure ``curves``: by epoch or step, on what scales, smoothed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from drawing import check_texts, drawn, parts
from matplotlib.figure import Figure

import etude
import fabricate
from etude.errors import SpecError
from etude.present import curves, steps
from etude.present.lines import smoothed
from etude.result import Result


@pytest.fixture(scope="module")
def digits(finished_digits):
    return Result.load(finished_digits)


@pytest.fixture(scope="module")
def elsewhere():
    """Curves counted in steps, of which no epoch is known, with a loss between two evaluations."""
    rows = [
        {
            "lr": lr,
            "step": step,
            "train_loss": 1 / (1 + lr * step),
            "val_loss": 1.1 / (1 + lr * step) if step % 5 == 0 else None,
        }
        for lr in (0.1, 1.0)
        for step in range(21)
    ]
    return etude.judge(pd.DataFrame(rows))


def test_by_step_the_loss_is_that_of_every_step_and_evaluations_lie_at_theirs(digits):
    loss, accuracy = curves.panels(digits, curves.Options(x="step"))
    for line in loss.lines:
        of = digits.steps.query("lr == @line.lr").groupby("step")["loss"]
        assert line.x.tolist() == list(of.groups)
        assert np.allclose(line.y, of.median())
        assert np.allclose(line.high, of.max())
    for line in accuracy.lines:
        of = digits.evaluations.query("lr == @line.lr and step > 0").groupby("step")["val_accuracy"]
        assert line.x.tolist() == list(of.groups)
        assert np.allclose(line.y, of.mean())


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize(
    "options",
    [
        {"x": "step"},
        {"x": "step", "xscale": "log", "smooth": 0.9},
        {"yscale": "linear"},
        {"yscale": "log", "xscale": "log"},
    ],
    ids=["step", "log-step-smooth", "linear", "log-log"],
)
def test_every_option_is_drawn_and_labels_do_not_touch(digits, options, narrow):
    figure = drawn(digits, "curves", narrow=narrow, **options)
    check_texts(figure)
    for ax in figure.axes:
        assert ax.get_xscale() == options.get("xscale", "linear")
        assert ax.get_xlabel() == options.get("x", "epoch")
        assert (ax.get_xscale() == "log") <= (ax.get_xlim()[0] > 0)
        if options.get("yscale") == "linear":
            assert ax.get_yscale() == "linear"
    if options.get("yscale") == "log":  # an accuracy's is over the error left
        assert [ax.get_yscale() for ax in figure.axes] == ["log", "function"]
    loss_only = sorted({*parts(figure, "line")})  # evaluations beside the loss of every step stay as they are
    assert parts(figure, "raw") == (loss_only if "smooth" in options else [])


def test_smoothing_is_a_bias_corrected_moving_average_and_keeps_the_raw_line(digits):
    values = np.array([3.0, 1.0, 2.0, 5.0])
    mean, found = 0.0, []
    for t, value in enumerate(values, 1):  # Kingma & Ba 2015, algorithm 1
        mean = 0.8 * mean + 0.2 * value
        found.append(mean / (1 - 0.8**t))
    assert np.allclose(smoothed(values, 0.8), found)
    assert smoothed(np.full(50, 2.0), 0.99) == pytest.approx(2.0)
    plain, smooth = (curves.panels(digits, curves.Options(smooth=by)) for by in (0.0, 0.5))
    for before, after in zip(plain[1].lines, smooth[1].lines, strict=True):
        assert before.raw is None
        assert np.allclose(after.raw, before.y)
        assert np.allclose(after.y, smoothed(before.y, 0.5))  # the mean over seeds of lines at the same places
    figure = drawn(digits, "curves", smooth=0.5)
    raw = [line for line in figure.axes[0].lines if (line.get_gid() or "").startswith("raw")]
    assert len(raw) == 3
    assert all(line.get_alpha() < 0.5 for line in raw)


def test_by_step_evaluations_are_not_smoothed_and_by_epoch_labels_stand_at_what_was_reached(digits):
    plain, smooth = (curves.panels(digits, curves.Options(x="step", smooth=by))[1] for by in (0.0, 0.9))
    for before, after in zip(plain.lines, smooth.lines, strict=True):
        assert after.raw is None
        assert np.array_equal(after.y, before.y)
    plain, smooth = (curves.panels(digits, curves.Options(smooth=by))[1] for by in (0.0, 0.9))
    assert [line.end for line in smooth.lines] == [line.y[-1] for line in plain.lines]
    assert smooth.lines[0].y[-1] != plain.lines[0].y[-1]
    by_step = steps.step_lines(digits, "loss", smooth=0.9)
    assert [line.end for line in by_step] == [line.y[-1] for line in by_step]  # of many, the average says more


def test_a_diverged_rate_ends_at_its_step(finished_bowl):
    result = Result.load(finished_bowl)
    ends = {t.lr: float(t.diverged) for t in result.judged if t.diverged}
    assert ends
    for panel in curves.panels(result, curves.Options(x="step")):
        assert {line.lr: line.ended for line in panel.lines if line.ended} == {lr: (end,) for lr, end in ends.items()}


def test_a_loss_that_nobody_recorded_is_told_from_one_that_was_not_finite(finished_bowl):
    rows = [
        {"lr": lr, "epoch": e, "val_loss": v}
        for lr, of in {0.1: (3, 2, 1), 9.0: (3, 99, np.nan)}.items()
        for e, v in enumerate(of)
    ]
    loss, judged = curves.panels(etude.judge(pd.DataFrame(rows)))
    assert any(line.ended for line in loss.lines)
    assert loss.silent == "no training loss recorded"
    assert judged.limits is not None
    assert curves.panels(Result.load(finished_bowl))[0].silent == "no finite value"


def test_curves_that_are_counted_in_steps_stay_so(elsewhere):
    assert elsewhere.unit == "step"
    plain, by_step = curves.panels(elsewhere), curves.panels(elsewhere, curves.Options(x="step"))
    assert [line.x.tolist() for line in plain[1].lines] == [line.x.tolist() for line in by_step[1].lines]
    if steps.has(elsewhere, "loss"):
        assert len(by_step[0].lines[0].x) > len(plain[0].lines[0].x)
    check_texts(drawn(elsewhere, "curves", x="step"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"x": "steps"}, "plot: x: expected epoch or step, got 'steps'; did you mean 'step'?"),
        ({"xscale": "auto"}, "plot: xscale: expected linear or log, got 'auto'"),
        ({"yscale": "symlog"}, "plot: yscale: expected auto or linear or log, got 'symlog'"),
        ({"smooth": 1.0}, "plot: smooth: expected a number from 0 to less than 1, such as 0.9, got 1.0"),
        ({"smooth": float("nan")}, "plot: smooth: expected a number from 0"),
        ({"smooth": "0.9"}, "plot: smooth: expected a number from 0"),
        ({"smoth": 0.9}, "plot: figure 'curves' has no option 'smoth'; did you mean 'smooth'?"),
    ],
    ids=["x", "xscale", "yscale", "one", "nan", "text", "name"],
)
def test_options_that_cannot_be_are_refused(digits, options, said):
    with pytest.raises(SpecError) as refused:
        digits.plot("curves", ax=Figure().subplots(1, 2), **options)
    assert str(refused.value).startswith(said)


def test_options_that_the_records_do_not_bear_are_refused(elsewhere):
    final = etude.judge(pd.DataFrame({"lr": [0.1, 1.0], "val_score": [-1.0, -2.0]}), objective="max:val_score")
    with pytest.raises(SpecError, match="x: expected epoch, since no loss was recorded by step"):
        final.plot("curves", ax=Figure().subplots(1, 2), x="step")
    with pytest.raises(SpecError, match="yscale: val_score has no value above 0"):
        final.plot("curves", ax=Figure().subplots(1, 2), yscale="log")
    with pytest.raises(SpecError, match="counted in steps"):
        elsewhere.plot("curves", ax=Figure().subplots(1, 2), x="epoch")
    with pytest.raises(SpecError, match="figure 'rates' has no options, got x"):
        elsewhere.plot("rates", ax=Figure().subplots(), x="step")


def test_a_figure_that_cannot_be_drawn_leaves_none_open(elsewhere):
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_fignums()
    with pytest.raises(SpecError):
        elsewhere.plot("curves", x="epoch")
    assert plt.get_fignums() == before


def test_a_paused_search_is_drawn_by_step(tmp_path):
    found = fabricate.searched(tmp_path / "run", {1e-5: [0.06], 3e-3: [1.0, 1.0], 1e-2: [1.0, 0.25], 1.0: [0.06]})
    check_texts(drawn(found, "curves", x="step", smooth=0.5))


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_large_numbers_have_commas_on_every_axis(narrow):
    rows = [
        {"lr": lr, "step": step, "train_loss": 7e4 / (1 + lr * step), "val_rmse": 5e4 / (1 + lr * step) + 2e4}
        for lr in (1e-5, 1e-4)
        for step in range(0, 20001, 1000)
    ]
    result = etude.judge(pd.DataFrame(rows), objective="min:val_rmse")
    figure = drawn(result, "curves", narrow=narrow)
    check_texts(figure)
    for ax in figure.axes:
        across, up = ([label.get_text() for label in axis.get_ticklabels()] for axis in (ax.xaxis, ax.yaxis))
        for texts in (across, up):
            assert any("," in text for text in texts)
            assert all(text == f"{float(text.replace(',', '')):,.6g}" for text in texts if text)
    assert figure.axes[1].get_title(loc="left") == "Validation RMSE Curve"
    assert "1e-4: 36,667" in curves.words(result).alt
    (ax,) = drawn(result, "rates", narrow=narrow).axes
    assert "40,000" in [label.get_text() for label in ax.get_yticklabels()]


@pytest.mark.parametrize(
    ("metric", "title"),
    [("val_accuracy", "Validation Accuracy"), ("val_f1_macro", "Validation F1 Macro"), ("mIoU", "mIoU"),
     ("val_rouge-l", "Validation Rouge-L"), ("val_mae", "Validation MAE")],
)  # fmt: skip
def test_a_title_has_a_metric_as_people_write_it(metric, title):
    rows = [{"lr": lr, "epoch": epoch, metric: lr * epoch} for lr in (0.1, 0.2) for epoch in range(3)]
    result = etude.judge(pd.DataFrame(rows), objective=f"max:{metric}")
    assert curves.panels(result)[1].title == f"{title} Curve"


def test_the_name_of_a_paused_rate_covers_no_line(tmp_path):
    found = fabricate.searched(tmp_path / "run", {1e-4: [0.1], 1e-3: [0.25], 1e-2: [1.0, 1.0], 3e-2: [1.0], 1.0: [1.0]})
    for narrow in (False, True):
        figure = drawn(found, "curves", narrow=narrow)
        check_texts(figure)
        for ax in figure.axes:
            (name,) = [text for text in ax.texts if text.get_text() == "1e-4 paused"]
            box = name.get_window_extent(figure.canvas.get_renderer())
            for line in ax.lines:
                if (line.get_gid() or "").startswith("line"):
                    x, y = (np.interp(np.linspace(0, 1, 999), np.linspace(0, 1, len(v)), v) for v in line.get_data())
                    assert not box.count_contains(ax.transData.transform(np.stack([x, y], axis=1)))
