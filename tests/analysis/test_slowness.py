"""Too slow, by how much: exact power laws are carried on right, and what cannot be told is refused."""

import dataclasses
import math

import numpy as np
import pytest

from etude.analysis import Curve
from etude.analysis.scale import Scale
from etude.analysis.slowness import mean_curve, slowness

LOSS = Scale(kind="positive", sign=-1)
HORIZON = 64.0
TIMES = np.arange(0, 65, 2.0)


def curve(function, times=TIMES, seed=0, **changes):
    value = np.array([function(t) for t in times])
    fields = {
        "lr": 1e-3, "seed": seed, "status": "completed", "steps": (times * 10).astype(int), "epochs": times,
        "metrics": {"val_loss": value}, "errors": {"val_loss": np.full(len(value), np.nan)}, "loss": np.empty(0), "end_step": 640,
    }  # fmt: skip
    return Curve(**{**fields, **changes})


def power(slow, exponent=0.5):
    return lambda t: 2.3 * (1 + t / slow) ** -exponent if t == 0 else 2.0 * (t / slow) ** -exponent


def ask(mine, best, horizon=HORIZON):
    return slowness([mine], [best], "val_loss", LOSS, horizon)


@pytest.mark.parametrize("factor", [1.3, 2.0, 3.0])
@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.0])
def test_an_exact_power_law_is_carried_on(factor, exponent):
    """``factor`` times as slow: it needs ``factor`` times as long, and the best rate was there after 1/``factor`` of it."""
    found = ask(curve(power(factor, exponent)), curve(power(1.0, exponent)))
    assert found.needs == pytest.approx((factor * HORIZON, factor * HORIZON), rel=1e-6)
    assert found.reason == ""
    assert found.reached == min(t for t in TIMES if t >= HORIZON / factor - 1e-9)


def test_scatter_widens_the_interval_which_holds_the_truth():
    rng = np.random.default_rng(0)
    held, told = 0, 0
    for _ in range(60):
        mine, best = (curve(lambda t, s=slow: power(s)(t) * math.exp(0.01 * rng.normal())) for slow in (1.6, 1.0))
        found = ask(mine, best)
        if math.isfinite(found.needs[0]):
            told += 1
            held += found.needs[0] <= 1.6 * HORIZON <= found.needs[1]
            assert HORIZON <= found.needs[0] <= found.needs[1]
        else:
            assert found.reason
    assert told >= 10
    assert held / told >= 0.85


def test_a_noisy_curve_is_refused():
    rng = np.random.default_rng(1)
    told = 0
    for _ in range(20):
        mine, best = (curve(lambda t, s=slow: power(s)(t) * math.exp(0.5 * rng.normal())) for slow in (4.0, 1.0))
        told += math.isfinite(ask(mine, best).needs[0])
    assert told <= 2


def test_a_curve_that_saturates_is_refused():
    found = ask(curve(lambda t: 0.5 + 1.8 * math.exp(-t / 8)), curve(power(1.0)))
    assert all(math.isnan(end) for end in found.needs)
    assert found.reason == "more than twice as long, how much longer cannot be told"


def test_a_flat_or_rising_curve_is_not_improving():
    for mine in (lambda t: 1.0, lambda t: 1.0 + 0.01 * t):
        found = ask(curve(mine), curve(power(1.0)))
        assert math.isnan(found.needs[0])
        assert found.reason == "it is not improving any more"


def test_far_beyond_its_own_past_is_refused():
    found = ask(curve(power(100.0)), curve(power(1.0)))
    assert math.isnan(found.needs[0])
    assert "cannot be told" in found.reason


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_evaluations_are_refused(count):
    times = np.linspace(0, HORIZON, count + 1)
    found = ask(curve(power(2.0), times), curve(power(1.0), times))
    assert math.isnan(found.needs[0])
    assert found.reason


def test_final_values_alone_say_only_that():
    last = np.array([HORIZON])
    found = ask(curve(power(2.0), last), curve(power(1.0), last))
    assert found.reason == "only final values are known"
    assert math.isnan(found.needs[0])
    assert found.reached == HORIZON


def test_the_best_was_as_good_at_the_first_evaluation_that_was():
    best = curve(lambda t: 2.0 if t < 20 else 0.5)
    assert ask(curve(lambda t: 1.9 if t < 20 else 0.5001), best).reached == 20
    assert math.isnan(ask(curve(lambda t: 0.1), best).reached)


def test_what_lies_beyond_the_horizon_does_not_count():
    long = np.arange(0, 129, 2.0)
    for mine_times, best_times in ((long, TIMES), (TIMES, long), (long, long)):
        found = ask(curve(power(2.0), mine_times), curve(power(1.0), best_times))
        assert found.needs == pytest.approx((2 * HORIZON, 2 * HORIZON), rel=1e-6)
        assert found.reached == HORIZON / 2


def test_seeds_are_averaged_where_all_were_evaluated():
    odd = np.array([t for t in TIMES if t % 4 == 0])
    a, b = curve(lambda t: 1 / (t + 1)), curve(lambda t: 4 / (t + 1), odd, seed=1)
    times, mean = mean_curve([a, b], "val_loss", LOSS, HORIZON)
    assert times.tolist() == odd.tolist()
    np.testing.assert_allclose(np.exp(mean), 2 / (odd + 1), rtol=1e-9)
    gone = curve(lambda t: math.nan, seed=2)
    assert mean_curve([a, b, gone], "val_loss", LOSS, HORIZON)[0].tolist() == odd.tolist()
    apart = curve(lambda t: 1.0, np.array([1.0, 3.0]), seed=3)
    assert len(mean_curve([a, apart], "val_loss", LOSS, HORIZON)[0]) == 0
    assert len(mean_curve([], "val_loss", LOSS, HORIZON)[0]) == 0
    assert len(mean_curve([a], "other", LOSS, HORIZON)[1]) == 0


def test_a_hole_in_a_curve_is_left_out():
    mine = curve(power(2.0))
    mine.metrics["val_loss"][7] = math.nan
    found = ask(mine, curve(power(1.0)))
    assert found.needs == pytest.approx((2 * HORIZON, 2 * HORIZON), rel=1e-6)


def test_the_unit_of_time_does_not_matter():
    def in_steps(c):
        return dataclasses.replace(c, epochs=c.epochs * 100)

    rng = np.random.default_rng(3)
    mine, best = (curve(lambda t, s=slow: power(s)(t) * math.exp(0.005 * rng.normal())) for slow in (1.5, 1.0))
    here = ask(mine, best)
    there = ask(in_steps(mine), in_steps(best), 100 * HORIZON)
    assert math.isfinite(here.needs[0])
    np.testing.assert_allclose(there.needs, 100 * np.array(here.needs), rtol=1e-9)
