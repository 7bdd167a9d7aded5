"""The bracket, on curves whose beginning and end are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from etude import store
from etude.analysis.ranging import MARGIN, RangeTest, bracket, read

LRS = np.geomspace(1e-7, 10.0, 81)  # ten steps a decade


def curve(falls=1e-3, lost=0.1, noise=0.01, seed=0, until=None):
    """2.3, falling by 1.5 around the rate ``falls``, exploding around ``lost``, not finite from ``until`` on."""
    x = np.log10(LRS)
    loss = 2.3 - 1.5 / (1 + np.exp(-6 * (x - math.log10(falls)))) + 1.5 * (LRS / lost) ** 4
    loss = loss + noise * np.random.default_rng(seed).normal(size=len(x))
    return loss if until is None else np.append(loss[until > LRS], math.inf)


def made(*losses, steps=1000):
    return bracket(LRS, losses, steps=steps)


def test_it_begins_below_where_the_loss_moves_and_ends_above_where_all_is_lost():
    found = made(*(curve(seed=seed) for seed in range(3)))
    assert 1e-4 < found.moves < 1e-3
    assert 0.05 < found.explodes < 0.2
    assert found.low < found.moves / 10**MARGIN
    assert found.high == pytest.approx(found.explodes * 10**MARGIN, rel=0.05)
    assert "begins to fall at" in found.reason
    assert "lost again at" in found.reason


def test_ten_times_the_scale_of_the_rates_moves_both_ends_by_ten():
    one, ten = made(curve(noise=0)), made(curve(1e-2, 1.0, noise=0))
    assert math.log10(ten.low / one.low) == pytest.approx(1, abs=0.05)
    assert math.log10(ten.high / one.high) == pytest.approx(1, abs=0.05)


def test_a_longer_training_looks_lower_and_never_higher():
    lows = [made(curve(), steps=steps).low for steps in (1, 100, 10_000)]
    assert lows[0] > lows[1] > lows[2]
    assert lows[1] / lows[2] == pytest.approx(10, rel=0.1)
    assert made(curve(), steps=1).high == made(curve(), steps=10_000).high


def test_most_seeds_decide_where_all_is_lost():
    found = made(curve(lost=1e-2), curve(lost=0.1, seed=1), curve(lost=0.1, seed=2))
    assert found.explodes == min(found.exploded[1:])
    assert found.exploded[0] < 0.3 * found.explodes
    one_of_two = made(curve(lost=0.01), curve(lost=1e9, seed=1))
    assert (one_of_two.explodes, one_of_two.high) == (None, LRS[-1])
    assert "does not explode" in one_of_two.reason


def test_a_loss_that_is_not_finite_is_lost():
    found = made(*(curve(lost=1e9, until=0.5, seed=seed) for seed in range(2)))
    assert 0.4 < found.explodes < 0.7
    assert made(np.array([math.nan])).explodes == LRS[0]


def test_what_does_not_move_or_only_scatters_has_no_bracket_but_a_reason():
    for seed in range(0, 60, 3):
        scatter = [0.3 * np.random.default_rng(seed + i).normal(size=81) for i in range(3)]
        found = made(*(2.3 + one for one in scatter))
        assert (found.low, found.high, found.moves, found.explodes) == (None, None, None, None)
        assert "nothing can be told" in found.reason
        risen = made(*(2.3 + one + (LRS / 0.1) ** 4 for one in scatter))
        assert (risen.moves, risen.low) == (None, LRS[0])
        assert 0.05 < risen.explodes < 0.5
    assert "nothing can be told" in made(2.3 - 1e-6 * np.linspace(0, 1, 81)).reason  # that is rounding


def test_it_is_stored_and_read_back_as_it_was():
    losses = {3: curve(until=0.5), 8: curve(seed=1)}
    test = read(LRS, losses, horizon_step=500, wall_s=1.5, from_steps=[7, 7], from_lr=1e-3)
    stored = store.plain(test.to_dict())
    again = RangeTest.from_dict(json.loads(json.dumps(stored, allow_nan=False)))
    assert store.plain(again.to_dict()) == stored
    assert again.steps == sum(map(len, losses.values()))
    assert math.isnan(again.losses[0][-1])
    assert (again.seeds, again.picks, again.bracket) == (test.seeds, test.picks, test.bracket)
    assert "decades apart" in test.caution
