"""The scale of a metric: found from its name and range, there and back, and how it reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.analysis.scale import Scale, find_scale


@pytest.mark.parametrize(
    ("direction", "values", "metric", "kind", "top"),
    [
        ("maximize", [0.1, 0.99], "val_accuracy", "share", 1.0),
        ("maximize", [0.1, 0.99], "anything", "share", 1.0),
        ("maximize", [10.0, 99.0], "val_accuracy", "share", 100.0),
        ("maximize", [10.0, 99.0], "val_F1", "share", 100.0),
        ("maximize", [10.0, 99.0], "reward", "linear", 1.0),
        ("maximize", [10.0, 101.0], "val_accuracy", "linear", 1.0),
        ("maximize", [-0.1, 0.9], "val_accuracy", "linear", 1.0),
        ("minimize", [0.1, 2.3], "val_loss", "positive", 1.0),
        ("minimize", [0.0, 2.3], "val_loss", "positive", 1.0),
        ("minimize", [-1.0, 2.3], "val_loss", "linear", 1.0),
        ("minimize", [0.0, 0.0], "val_loss", "linear", 1.0),
        ("minimize", [], "val_loss", "linear", 1.0),
        ("minimize", [np.nan, np.inf], "val_loss", "linear", 1.0),
        ("maximize", [np.nan, 0.5, np.inf], "val_accuracy", "share", 1.0),
    ],
)
def test_the_scale_is_found_from_name_and_range(direction, values, metric, kind, top):
    scale = find_scale(direction, values, metric)
    assert (scale.kind, scale.top) == (kind, top)
    assert scale.sign == (1 if direction == "maximize" else -1)


SCALES = {
    "share": (find_scale("maximize", [0.2, 0.9999], "val_accuracy"), 0.2, 0.9999),
    "percent": (find_scale("maximize", [20.0, 99.99], "val_accuracy"), 20.0, 99.99),
    "positive": (find_scale("minimize", [1e-5, 3.0]), 1e-5, 3.0),
    "linear up": (find_scale("maximize", [-50.0, 3.0, 70.0]), -50.0, 70.0),
    "linear down": (find_scale("minimize", [-50.0, 3.0, 70.0]), -50.0, 70.0),
}


@pytest.mark.parametrize("name", SCALES)
@given(share=st.floats(0, 1), other=st.floats(0, 1))
def test_there_and_back_and_lower_is_better(name, share, other):
    scale, low, high = SCALES[name]
    a, b = low + share * (high - low), low + other * (high - low)
    assert float(scale.metric(scale.even(a))) == pytest.approx(a, rel=1e-9, abs=1e-9 * abs(high))
    if scale.sign * (a - b) > 1e-9 * abs(high):
        assert scale.even(a) < scale.even(b)


@pytest.mark.parametrize("name", SCALES)
def test_the_level_is_how_fast_the_metric_changes(name):
    """A small deviation on the even scale is that share of the level, in the metric's unit."""
    scale, low, high = SCALES[name]
    middle = low + 0.4 * (high - low)
    moved = scale.metric(scale.even(middle) + 1e-6) - scale.metric(scale.even(middle))
    assert float(-scale.sign * moved) == pytest.approx(1e-6 * float(scale.level(middle)), rel=1e-4)


def test_perfect_scores_stay_finite_and_are_the_best():
    share = find_scale("maximize", [0.5, 0.9, 1.0], "val_accuracy")
    assert np.isfinite(share.even(1.0))
    assert share.even(1.0) < share.even(0.9)
    loss = find_scale("minimize", [0.0, 0.5])
    assert np.isfinite(loss.even(0.0))
    assert loss.even(0.0) < loss.even(0.5)


def test_a_draw_far_over_the_cliff_neither_overflows_nor_leaves_the_range():
    with np.errstate(all="raise"):
        assert float(SCALES["share"][0].metric(1e6)) == 0.0
        assert float(SCALES["percent"][0].metric(1e6)) == 0.0
        assert np.isfinite(SCALES["positive"][0].metric(1e6))


def test_percentages_read_as_shares_do():
    share, percent = SCALES["share"][0], SCALES["percent"][0]
    for value in (0.0, 0.5, 0.9876, 0.9951, 1.0):
        assert share.text(value) == percent.text(100 * value)
        assert share.gap_text(value / 100) == percent.gap_text(value)
    assert share.text(0.9876) == "98.8 %"
    assert share.text(0.9951) == "99.51 %"
    assert share.text(np.nan) == "not finite"
    assert Scale(kind="positive", sign=-1).text(0.04213) == "0.0421"


def test_a_linear_unit_is_never_zero():
    assert find_scale("maximize", [-1.0, -1.0, -1.0]).unit == 1.0
    assert find_scale("maximize", [-1.0, -1.0, -1.0, 4.0]).unit == 5.0
    assert find_scale("minimize", [0.0, 0.0]).unit == 1.0
