"""The chance of losing a trial: rising in the rate, never certain from a few trials, and calibrated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from etude.analysis import divergence


def ask(x, lost, total):
    return divergence.chance(np.array(x, float), np.array(lost, float), np.array(total, float))


@given(
    st.lists(
        st.tuples(st.floats(-6, 2), st.integers(0, 5), st.integers(0, 5)),
        min_size=1,
        max_size=8,
        unique_by=lambda t: t[0],
    )
)
@settings(deadline=None, max_examples=60)
def test_it_rises_with_the_rate(counts):
    x, lost, more = zip(*sorted(counts), strict=True)
    chance, low, high = ask(x, lost, np.add(lost, more))
    for values in (chance, low, high):
        assert (np.diff(values) >= -1e-12).all()
        assert ((values >= 0) & (values <= 1)).all()
    assert (low <= high).all()


def test_none_of_three_is_not_never_and_none_of_thirty_says_more():
    _, low, few = ask([-3], [0], [3])
    chance, _, many = ask([-3], [0], [30])
    assert 0.15 < few[0] < 0.8
    assert low[0] < 0.01
    assert many[0] < 0.5 * few[0]
    assert chance[0] < 0.05


def test_all_of_three_is_not_always():
    chance, low, high = ask([-3], [3], [3])
    assert chance[0] > 0.6
    assert low[0] < 0.75
    assert high[0] > 0.97


def test_neighbours_lend_strength():
    alone = ask([-3], [0], [3])[2][0]
    with_a_higher_one_that_holds = ask([-3, -2], [0, 0], [3, 30])[2][0]
    with_a_higher_one_lost = ask([-3, -2.9], [0, 3], [3, 3])[0][0]
    assert with_a_higher_one_that_holds < 0.6 * alone
    assert with_a_higher_one_lost > ask([-3, -1], [0, 3], [3, 3])[0][0]


def test_a_loss_far_below_the_cliff_is_a_lapse_and_bars_nothing():
    """One seed lost at a low rate, and 27 higher ones that held: the higher rates are not doomed by it."""
    chance, _, _ = ask(np.linspace(-5, -1, 10), [1] + [0] * 9, [3] * 10)
    assert chance[-1] < 0.2


def test_a_rate_without_trials_lies_between_its_neighbours():
    chance, low, high = ask([-3, -2, -1], [0, 0, 5], [5, 0, 5])
    assert chance[0] < chance[1] < chance[2]
    assert high[1] - low[1] > max(high[0] - low[0], high[2] - low[2])


def test_nothing_in_nothing_out():
    assert [len(part) for part in ask([], [], [])] == [0, 0, 0]


@pytest.mark.parametrize("seeds", [1, 3, 10])
def test_its_intervals_hold_the_truth(seeds):
    rng = np.random.default_rng(1)
    x = np.linspace(-5, -1, 9)
    held, predicted, happened = [], [], []
    for _ in range(60):
        truth = special.expit((x - rng.uniform(-4, 0)) / rng.choice([0.05, 0.2, 0.4]))
        lost = rng.binomial(seeds, truth)
        chance, low, high = ask(x, lost, np.full(9, seeds))
        held.append(((low - 1e-3 <= truth) & (truth <= high + 1e-3)).mean())
        predicted.append(chance)
        happened.append(truth)
    assert np.mean(held) >= 0.93
    p, t = np.ravel(predicted), np.ravel(happened)
    for a, b in ((0.02, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.98)):
        inside = (p >= a) & (p < b)
        assert abs(p[inside].mean() - t[inside].mean()) < 0.1, (a, b)
