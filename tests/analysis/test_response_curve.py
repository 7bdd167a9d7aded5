"""The rate-response curve beside a naive reference: one Gaussian process after another, in plain NumPy."""

import itertools

import made
import numpy as np
import pytest
from scipy import stats

from etude.analysis import noise, response

X = np.array([-5.0, -4.2, -3.5, -3.0, -2.4, -1.5])
Y = np.array([1.3, 0.6, 0.15, 0.0, 0.3, 1.1])
GRID = np.linspace(-5, -1.5, 36)
SMOOTH = {"KINK": 1e-12, "KINKED": ((0.6, 0.3),)}  # no kink


@pytest.fixture
def fixed(monkeypatch):
    """Set constants of the response; the cache of prior draws does not know them."""

    def set_constants(**constants):
        response._prior.cache_clear()
        for name, value in constants.items():
            monkeypatch.setattr(response, name, value)

    yield set_constants
    response._prior.cache_clear()


def covariance(a, b, length, height, kink=np.inf):
    d = np.sqrt(5) * np.abs(a[:, None] - b) / length
    basis = [np.vander(points - X.mean(), 3) for points in (a, b)]
    smooth = height**2 * (1 + d + d**2 / 3) * np.exp(-d) + response.TREND_SD**2 * basis[0] @ basis[1].T
    return smooth + response.KINK_SD**2 * np.outer(*(np.maximum(points - kink, 0) for points in (a, b)))


def posterior(grid, x, y, variance, *smoothness):
    """Mean and variance at ``grid`` given ``y`` at ``x``, and the evidence (Rasmussen & Williams 2006, algorithm 2.1)."""
    total = covariance(x, x, *smoothness) + np.diag(variance)
    across = covariance(grid, x, *smoothness)
    mean = across @ np.linalg.solve(total, y)
    spread = np.diag(covariance(grid, grid, *smoothness) - across @ np.linalg.solve(total, across.T))
    evidence = stats.multivariate_normal(np.zeros(len(x)), total, allow_singular=True).logpdf(y)
    return mean, spread, evidence


def mixture(parts, weights):
    """Mean and variance of a mixture of normals."""
    weights = np.exp(weights - np.max(weights))
    weights /= weights.sum()
    means, variances = (np.array(of) for of in zip(*parts, strict=True))
    mean = weights @ means
    return mean, weights @ (variances + (means - mean) ** 2), weights


def test_one_length_height_and_noise_give_the_closed_form(fixed):
    fixed(LENGTHS=(0.6,), HEIGHTS=(0.3,), CLIFF=0.0, **SMOOTH)
    drawn = response.draw(X, Y[None], np.full((1, 1, 6), 0.01), GRID, low=np.array([X[0]]), draws=6000)
    centre = np.median(Y)
    mean, variance, _ = posterior(GRID, X, Y - centre, np.full(6, 0.01), 0.6, 0.3)
    error = np.sqrt(variance / 6000)
    assert np.isfinite(drawn.curve).all()
    assert (np.abs(drawn.curve[0].mean(0) - mean - centre) < 5 * error + 1e-3).all()
    np.testing.assert_allclose(drawn.curve[0].std(0), np.sqrt(variance), rtol=0.06)
    low, high = np.quantile(drawn.curve[0], [0.025, 0.975], axis=0)
    np.testing.assert_allclose(high - low, 2 * 1.96 * np.sqrt(variance), rtol=0.09)
    at, spread, _ = posterior(X, X, Y - centre, np.full(6, 0.01), 0.6, 0.3)
    np.testing.assert_allclose(drawn.rates[0].mean(0), at + centre, atol=0.01)
    np.testing.assert_allclose(drawn.rates[0].std(0), np.sqrt(spread), rtol=0.06)


def test_lengths_heights_and_noises_are_weighted_by_their_evidence(fixed):
    lengths, heights, variances = (0.3, 2.4), (0.05, 0.8), np.array([[0.001] * 6, [0.3] * 6])
    fixed(LENGTHS=lengths, HEIGHTS=heights, CLIFF=0.0, KINK=1e-12, KINKED=((0.3, 0.05),))
    likely = np.array([0.2, 0.8])
    drawn = response.draw(X, Y[None], variances[None], GRID, low=np.array([X[0]]), likely_M=likely, draws=6000)
    parts, evidence = [], []
    for (length, height), m in itertools.product(itertools.product(lengths, heights), (0, 1)):
        mean, spread, found = posterior(GRID, X, Y - np.median(Y), variances[m], length, height)
        parts.append((mean, spread))
        evidence.append(found + np.log(likely[m]))
    mean, variance, weights = mixture(parts, evidence)
    assert weights.max() < 0.95, "the case is to tell something"
    assert (np.abs(drawn.curve[0].mean(0) - mean - np.median(Y)) < 5 * np.sqrt(variance / 6000) + 2e-3).all()
    np.testing.assert_allclose(drawn.curve[0].std(0), np.sqrt(variance), rtol=0.08)


def test_kinks_are_weighted_by_their_evidence(fixed):
    """Half of the curves have a kink a priori, anywhere on the grid; the reference has its own covariance for each place."""
    lengths, heights = (0.6, 1.2), (0.1, 0.3)
    fixed(LENGTHS=lengths, HEIGHTS=heights, CLIFF=0.0, KINK=0.5, KINKED=((1.2, 0.1),))
    y, variance = np.array([1.4, 1.0, 0.6, 0.35, 0.0, 1.2]), np.full(6, 0.01)
    drawn = response.draw(X, y[None], variance[None, None], GRID, low=np.array([X[0]]), draws=20_000)
    kinks = GRID[1:-1]
    smoothness = [*itertools.product(lengths, heights), *((1.2, 0.1, kink) for kink in kinks)]
    parts, evidence = [], []
    for one in smoothness:
        mean, spread, found = posterior(GRID, X, y - np.median(y), variance, *one)
        parts.append((mean, spread))
        evidence.append(found + np.log(0.5 / (4 if len(one) == 2 else len(kinks))))
    mean, spread, weights = mixture(parts, evidence)
    assert 0.05 < weights[:4].sum() < 0.95, "the case is to tell something"
    assert weights[4:].max() < 0.9
    assert (np.abs(drawn.curve[0].mean(0) - mean - np.median(y)) < 5 * np.sqrt(spread / 20_000) + 1e-3).all()
    np.testing.assert_allclose(drawn.curve[0].std(0), np.sqrt(spread), rtol=0.05)


def test_the_place_of_the_cliff_is_weighted_by_what_each_place_predicts(fixed):
    fixed(LENGTHS=(0.6,), HEIGHTS=(0.3,), **SMOOTH)
    y = np.array([1.3, 0.6, 0.15, 0.0, 0.35, 4.0])
    variance = np.full(6, 0.05)
    draws = 20_000
    drawn = response.draw(X, y[None], variance[None, None], GRID, low=np.array([X[0]]), draws=draws)
    shifted, spread = y - np.median(y), np.ptp(y)
    places = {3: 2, 4: 1, 5: 0}  # from the best rate on; how many rates lie over the cliff
    found = []
    for last, over in places.items():
        _, _, evidence = posterior(GRID, X[: last + 1], shifted[: last + 1], variance[: last + 1], 0.6, 0.3)
        prior = np.log(1 - response.CLIFF) if over == 0 else np.log(response.CLIFF / 2)
        found.append(prior + evidence - over * np.log(spread + 1))
    weights = np.exp(np.array(found) - max(found))
    weights /= weights.sum()
    reach = drawn.reach[0]
    shares = [(reach < X[4]).mean(), ((reach >= X[4]) & (reach < X[5])).mean(), (reach >= X[5]).mean()]
    np.testing.assert_allclose(shares, weights, atol=2 / draws)
    assert min(shares) > 1e-3, "the case is to tell something"


def test_many_tables_at_once_are_single_ones(fixed):
    rng = np.random.default_rng(0)
    tables = Y + 0.2 * rng.normal(size=(5, 6))
    levels = np.exp(rng.normal(size=(5, 3, 6)) - 4)
    levels[1:3, :, 0] = response.IGNORED
    low = np.array([-5, -4.2, -4.2, -5, -5])
    together = response.draw(X, tables, levels, GRID, low=low, beyond=-1.0, draws=200)
    for n in range(5):
        alone = response.draw(X, tables[n : n + 1], levels[n : n + 1], GRID, low=low[n : n + 1], beyond=-1.0, draws=200)
        np.testing.assert_allclose(together.curve[n], alone.curve[0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(together.rates[n], alone.rates[0], rtol=0, atol=1e-9)
        assert together.reach[n].tolist() == alone.reach[0].tolist()


def test_twice_the_same_is_the_same_and_a_shift_shifts():
    args = (np.full((1, 2, 6), 0.01), GRID)
    once = response.draw(X, Y[None], *args, low=np.array([X[0]]), draws=300)
    again = response.draw(X, Y[None], *args, low=np.array([X[0]]), draws=300)
    assert once.curve.tolist() == again.curve.tolist()
    moved = response.draw(X, Y[None] + 7, *args, low=np.array([X[0]]), draws=300)
    np.testing.assert_allclose(moved.rates, once.rates + 7, atol=1e-6)
    assert moved.curve.argmin(-1).tolist() == once.curve.argmin(-1).tolist()


def test_shifting_all_rates_moves_the_curve_along():
    moved = response.draw(X + 2, Y[None], np.full((1, 2, 6), 0.01), GRID + 2, low=np.array([X[0] + 2]), draws=300)
    here = response.draw(X, Y[None], np.full((1, 2, 6), 0.01), GRID, low=np.array([X[0]]), draws=300)
    np.testing.assert_allclose(moved.rates, here.rates, atol=1e-5)


def test_an_ignored_rate_does_not_bend_the_curve():
    levels = np.full((1, 2, 6), 0.01)
    levels[:, :, 0] = response.IGNORED
    wild = Y.copy()
    wild[0] = 50.0
    low = np.array([X[0]])
    a = response.draw(X, wild[None], levels, GRID, low=low, draws=4000).rates[0, :, 1:]
    b = response.draw(X[1:], Y[None, 1:], levels[:, :, 1:], GRID, low=low, draws=4000).rates[0]
    assert (np.abs(a.mean(0) - b.mean(0)) < 5 * np.hypot(a.std(0), b.std(0)) / np.sqrt(4000)).all()
    np.testing.assert_allclose(a.std(0), b.std(0), rtol=0.1)


def test_no_draw_goes_over_a_lost_rate_nor_below_its_start():
    drawn = response.draw(
        X, Y[None], np.full((1, 2, 6), 0.01), np.linspace(-5, -1, 51), low=np.array([-4.2]), beyond=-1.0, draws=400
    )
    grid = drawn.grid
    cell = grid[1] - grid[0]
    assert np.isinf(drawn.curve[0][:, grid < -4.2 - cell]).all()
    assert (drawn.reach <= -1.0).all()
    for curve, reach in zip(drawn.curve[0], drawn.reach[0], strict=True):
        assert np.isinf(curve[grid > reach + cell]).all()
        assert np.isfinite(curve[(grid > -4.2) & (grid < reach)]).all()
    assert drawn.reach.max() > X[-1], "a cliff may stand between the last rate and the lost one"


def test_a_broken_rate_neither_bends_the_curve_nor_goes_unseen():
    broken = np.array([*Y[:5], 8.0])
    levels = np.full((1, 1, 6), 0.001)
    low = np.array([X[0]])
    with_it = response.draw(X, broken[None], levels, GRID, low=low)
    without = response.draw(X[:5], Y[None, :5], levels[..., :5], GRID[X[4] >= GRID], low=low)
    assert (with_it.reach < X[5]).mean() > 0.9
    here = GRID[X[3] + 1e-9 >= GRID]
    np.testing.assert_allclose(
        with_it.curve[0][:, : len(here)].mean(0), without.curve[0][:, : len(here)].mean(0), atol=0.08
    )


def test_span_and_near_enough():
    assert response.span(np.array([3.0, 0.0, 1.0, 9.0])) == 3.0  # from the best to rank 2 of 4: 0, 1, 3
    assert response.span(np.array([5.0, 5.0, 5.0])) > 0
    mean = np.array([50.0, 40.0, 2.5, 0.0, 1.0, 99.0])
    assert response.near_enough(mean, 1.0).tolist() == [False, True, True, True, True, True]
    kept = response.near_enough(np.array([50.0, 40.0, 30.0, 0.0, 1.0]), 1.0)
    assert kept.tolist() == [False, True, True, True, True], "the best four always"


def test_noise_levels_are_measured_by_seeds_or_bounded_below_by_the_examples():
    rng = np.random.default_rng(2)
    measured = noise.measure_table(np.arange(5.0), rng.normal(size=(5, 4)))
    levels, likely = response.noise_levels(measured, 2.0, np.zeros(5))
    assert levels.shape == (response.MEASURED, 5)
    np.testing.assert_allclose(likely, 1 / response.MEASURED)
    np.testing.assert_allclose(np.median(levels, 0) * 4, measured.variance / 4, rtol=0.2)
    single = noise.measure_table(np.arange(5.0), rng.normal(size=(5, 1)))
    bounded, _ = response.noise_levels(single, 2.0, np.full(5, 0.5))
    assert (bounded * 4 >= 0.5 - 1e-6).all()
    assert bounded.max() == pytest.approx(0.5 / 4, rel=1e-3)  # the examples bound it, `MOST_UNMEASURED` the rest


@pytest.mark.parametrize(("height", "most"), [(0.2, 0.2**2), (2.0, response.MOST_UNMEASURED)])
def test_where_noise_is_not_measured_any_standard_deviation_is_as_likely_up_to_the_largest(height, most):
    single = noise.measure_table(np.arange(5.0), np.arange(5.0)[:, None])
    levels, likely = response.noise_levels(single, height, np.zeros(5))
    sd = np.sqrt(levels[:, 0]) * height
    assert sd.max() == pytest.approx(np.sqrt(most), rel=1e-3)
    # On levels evenly apart on a logarithmic scale a flat density is a weight in proportion to the level itself.
    np.testing.assert_allclose(likely / sd, (likely / sd)[0], rtol=1e-3)
    assert likely.sum() == pytest.approx(1)


def test_a_cliff_may_stand_right_behind_the_second_rate_if_there_is_a_jump():
    """Two rates before the cliff, the optimum between the better one and the cliff: smooth curves through all would miss it."""
    x = np.arange(-5.0, 0.0)
    cliff, slope = np.array([1.26, 0.64, 3.27, 3.64, 4.17]) / 3, np.array([1.26, 0.64, 1.4, 2.8, 4.2]) / 3
    grid = response.points(x[0], x[-1])
    drawn = response.draw(x, np.array([cliff, slope]), np.full((2, 1, 5), 1e-4), grid, low=np.full(2, x[0]))
    behind = (drawn.reach < x[2]).mean(1)
    assert behind[0] > 0.05
    assert behind[1] == 0, "a slope of less than half a span is none"
    place = drawn.grid[drawn.curve[0].argmin(1)]
    assert np.quantile(place, 0.975) > -3.1, "the optimum may be anywhere up to the cliff"


def test_noise_beyond_all_measure_ignores_no_rate():
    """Four rates that end alike but for a millionth, and errors of a tenth: nothing is located, and nothing raises."""
    table = noise.measure_table(np.arange(4.0), np.array([[0.0], [1e-6], [2e-6], [3e-6]]))
    assert (response.noise_levels(table, 2e-6, np.full(4, 0.01))[0] < response.IGNORED).all()
    curves = [made.trial(10.0**-a, 0.5 + 1e-6 * a, error=0.1) for a in range(5)]
    assert not made.judge(curves).response.located
    assert set(made.verdicts(made.judge(curves, margin=0.5)).values()) == {"good"}


def test_the_grid_reaches_from_end_to_end_and_stays_small():
    for low, high in ((-3.0, -2.9), (-5, -1), (-30, 30)):
        grid = response.points(low, high)
        assert (grid[0], grid[-1]) == (low, high)
        assert 41 <= len(grid) <= response.MOST_POINTS + 1


def test_a_parabola_is_found():
    table = made.tables([made.parabola(X, at=-3.2)[:, None]], X)[0]
    place = made.conclude_all([table])[0].place
    assert np.median(place) == pytest.approx(-3.2, abs=0.05)
