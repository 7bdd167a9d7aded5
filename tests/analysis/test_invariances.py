"""What must not matter: the order of the trials, the unit of the metric, the names of the seeds, the unit of time."""

import dataclasses
import math

import made
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import study, verdicts

from etude.analysis import values

X = np.linspace(-5, -1, 9)


def lost_some(curves):
    """A study with a cliff: the highest rate diverges, and a seed of the one below; the lowest never moves."""
    top, below = sorted({c.lr for c in curves})[-1:-3:-1]
    low = min(c.lr for c in curves)
    changed = {
        (c.lr, c.seed): made.diverged(c.lr, c.seed)
        if c.lr == top or (c.lr == below and c.seed == 0)
        else made.stalled(c.lr, c.seed)
        for c in curves
        if c.lr in (top, low) or (c.lr == below and c.seed == 0)
    }
    return [changed.get((c.lr, c.seed), c) for c in curves]


def search(curves):
    """A study of which a search took five rates to the end, one of them with three seeds, and left the others early."""
    ends = {10.0**x: end for x, end in zip((-5.0, -4.5, -2.0, -1.5, -1.0), (1, 2, 6, 1, 2), strict=True)}
    said = [(c, next((end for lr, end in ends.items() if abs(lr / c.lr - 1) < 0.01), 6)) for c in curves]
    return [
        c if end == 6 else made.paused(c, end) for c, end in said if c.seed == 0 or (end == 6 and 3e-4 < c.lr < 3e-3)
    ]


STUDIES = {
    "one seed": study(made.parabola, X, 1, 0.03, rng=1),
    "three seeds": study(made.parabola, X, 3, 0.05, 0.03, rng=2),
    "a cliff": lost_some(study(made.parabola, X, 3, 0.05, rng=3)),
    "three rates": study(made.parabola, X[3:6], 2, 0.05, rng=4),
    "holes": [c for i, c in enumerate(study(made.parabola, X, 3, 0.05, rng=5)) if i % 5],
    "final values": study(made.parabola, X, 3, 0.05, rng=6, start=None),
    "errors known": study(made.parabola, X, 1, 0.01, rng=7, error=0.003),
    "a search": search(study(made.parabola, X, 3, 0.05, rng=8)),
}


def judge(curves, **asked):
    curves = list(curves)
    return made.judge(curves, searched=any(c.status == "paused" for c in curves), **asked)


def shares(curves, top=1.0):
    """The same trials with an accuracy in [0, ``top``], whose error is a tenth of the loss."""
    return [
        dataclasses.replace(
            c,
            metrics={"val_accuracy": top * (1 - 0.1 * np.minimum(c.metrics["val_loss"], 9.0)), "val_loss": c.metrics["val_loss"]},
            errors={"val_accuracy": top * 0.1 * c.errors["val_loss"], "val_loss": c.errors["val_loss"]},
        ) for c in curves
    ]  # fmt: skip


def same(a, b, unit=1.0):
    """The same verdicts and recommendation, and numbers in another unit."""
    assert verdicts(a) == verdicts(b)
    assert [r.grade for r in a.rates] == [r.grade for r in b.rates]
    assert a.margin_source == b.margin_source
    one, other = a.recommendation, b.recommendation
    for name in ("lr", "optimum_interval", "interval_open", "bracket", "within_margin", "edge", "provisional"):
        assert getattr(one, name) == getattr(other, name), name
    assert (one.next_run is None) == (other.next_run is None)
    if one.next_run and other.next_run:
        assert (one.next_run.seeds, one.next_run.lrs) == (other.next_run.seeds, other.next_run.lrs)
    pairs = [(a.margin, b.margin), (a.noise.sd, b.noise.sd)]
    pairs += [(one.estimate[name], other.estimate[name]) for name in ("value", "standard_error", "own_mean")]
    pairs += [
        (getattr(a.sensitivity, name), getattr(b.sensitivity, name)) for name in ("value", "low", "high", "start")
    ]
    pairs += list(zip(a.response.mean, b.response.mean, strict=True))
    for mine, theirs in pairs:
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine * unit == pytest.approx(theirs, rel=1e-6)
    assert (a.seed_plan and a.seed_plan.more) == (b.seed_plan and b.seed_plan.more)
    assert a.response.optimum == b.response.optimum


@pytest.mark.parametrize("name", STUDIES)
@given(data=st.data())
@settings(deadline=None, max_examples=5)
def test_the_order_of_the_trials_does_not_matter(name, data):
    curves = STUDIES[name]
    here, turned = judge(curves), judge(data.draw(st.permutations(curves)))
    assert repr(dataclasses.asdict(here)) == repr(dataclasses.asdict(turned))


@pytest.mark.parametrize("unit", [1e-3, 0.07, 1e3])
@pytest.mark.parametrize("name", STUDIES)
def test_the_unit_of_a_loss_changes_no_verdict_and_scales_the_numbers(name, unit):
    curves = STUDIES[name]
    same(judge(curves), judge([made.scaled(c, unit) for c in curves]), unit)


@pytest.mark.parametrize("name", STUDIES)
def test_an_accuracy_in_percent_is_read_like_one_in_shares(name):
    ask = {"metric": "val_accuracy", "direction": "maximize"}
    a, b = (judge(shares(STUDIES[name], top), **ask) for top in (1.0, 100.0))
    same(a, b, 100.0)
    assert [rate.reason for rate in a.rates] == [rate.reason for rate in b.rates]
    assert a.summary == b.summary


@pytest.mark.parametrize("name", STUDIES)
def test_a_linear_metric_has_no_unit_either(name):
    """A reward that is to be made large: the negated loss."""

    def reward(c, unit):
        turned = {"reward": -unit * c.metrics["val_loss"], "val_loss": c.metrics["val_loss"]}
        return dataclasses.replace(c, metrics=turned, errors={n: np.full(len(v), math.nan) for n, v in turned.items()})

    ask = {"metric": "reward", "direction": "maximize"}
    same(*(judge([reward(c, unit) for c in STUDIES[name]], **ask) for unit in (1.0, 250.0)), 250.0)


@pytest.mark.parametrize("name", STUDIES)
def test_the_names_of_the_seeds_do_not_matter(name):
    renamed = [dataclasses.replace(c, seed=1000 + 7 * c.seed) for c in STUDIES[name]]
    same(judge(STUDIES[name]), judge(renamed))


@pytest.mark.parametrize("name", STUDIES)
def test_another_factor_on_all_rates_moves_the_answer_along(name):
    """Rates in another unit, as of an optimizer that multiplies them: nothing but the rates may change."""
    moved = [dataclasses.replace(c, lr=c.lr * 1024) for c in STUDIES[name]]
    a, b = judge(STUDIES[name]), judge(moved)
    assert {lr * 1024: word for lr, word in verdicts(a).items()} == verdicts(b)
    assert b.recommendation.lr == a.recommendation.lr * 1024
    if a.recommendation.optimum_interval:
        assert b.recommendation.optimum_interval == pytest.approx(
            np.array(a.recommendation.optimum_interval) * 1024, rel=0.02
        )


def test_twice_the_same_is_the_same():
    a, b = (judge(STUDIES["a cliff"]) for _ in range(2))
    assert repr(a) == repr(b)


def test_a_metric_that_nobody_asked_for_does_not_matter():
    def with_another(c):
        other = {"other": np.full(len(c.steps), math.nan)}
        return dataclasses.replace(c, metrics={**c.metrics, **other}, errors={**c.errors, **other})

    curves = STUDIES["three seeds"]
    same(judge(curves), judge(map(with_another, curves)))


def test_values_go_in_unchanged():
    curves = STUDIES["a cliff"]
    before = [{n: v.copy() for n, v in c.metrics.items()} for c in curves]
    assert isinstance(judge(curves), values.Analysis)
    for c, kept in zip(curves, before, strict=True):
        for n, v in kept.items():
            np.testing.assert_array_equal(c.metrics[n], v)
