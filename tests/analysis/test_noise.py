"""The noise between runs: the additive fit beside least squares, known answers, dead seeds, and the margin."""

import numpy as np
import pytest

from etude.analysis import noise
from etude.analysis.scale import find_scale


def least_squares(y_RS):
    """Residuals and degrees of freedom of y = rate + seed, by dummies."""
    rate, seed = np.nonzero(np.isfinite(y_RS))
    R, S = y_RS.shape
    design = np.zeros((len(rate), R + S))
    design[np.arange(len(rate)), rate] = design[np.arange(len(rate)), R + seed] = 1
    y = y_RS[rate, seed]
    fit, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    return y - design @ fit, len(rate) - int(rank)


def residuals(y_RS):
    have = np.isfinite(y_RS)
    mean_R, seed_S = noise._additive(y_RS, have, noise._groups(have, have.sum(0) >= 2))
    return (y_RS - mean_R[:, None] - seed_S)[have]


def holes(case):
    """Tables with missing cells in which every seed has two rates and every rate a seed."""
    rng = np.random.default_rng(case)
    while True:
        R, S = rng.integers(2, 9), rng.integers(2, 7)
        y = 3 * rng.normal(size=(R, 1)) + rng.normal(size=S) + 0.3 * rng.normal(size=(R, S))
        y[rng.random((R, S)) < 0.3] = np.nan
        have = np.isfinite(y)
        if have.any(1).all() and (have.sum(0) >= 2).all() and least_squares(y)[1] > 0:
            return y


@pytest.mark.parametrize("case", range(20))
def test_the_additive_fit_is_least_squares_with_missing_cells(case):
    y = holes(case)
    expected, df = least_squares(y)
    np.testing.assert_allclose(residuals(y), expected, atol=1e-6)
    have = np.isfinite(y)
    typical = noise.measure_table(np.zeros(len(y)), y)  # rates all in one place: one pool
    own_df = have.sum(1) - 1
    if df == have.sum() - len(y) - (y.shape[1] - 1):
        pooled = (expected**2).sum() / df
        squares = np.array([(expected[np.nonzero(have)[0] == i] ** 2).sum() for i in range(len(y))])
        squares *= own_df.sum() / df
        np.testing.assert_allclose(typical.variance, (4 * pooled + squares) / (4 + own_df), rtol=1e-5)


def test_a_ring_of_rates_that_share_one_seed_each_is_least_squares_too():
    """Each rate shares a seed with the next: alternating means creep."""
    rng = np.random.default_rng(0)
    y = np.full((10, 10), np.nan)
    for i in range(10):
        y[i, i], y[i, (i + 1) % 10] = rng.normal(size=2)
    np.testing.assert_allclose(residuals(y), least_squares(y)[0], atol=1e-6)


def test_two_groups_that_share_no_seed_have_their_own_degrees_of_freedom():
    """A grid refined with other seeds: 3 rates with seeds 0 to 2, 3 rates with seeds 3 to 5."""
    rng = np.random.default_rng(0)
    sums = []
    for _ in range(400):
        y = np.full((6, 6), np.nan)
        y[:3, :3], y[3:, 3:] = rng.normal(size=(2, 3, 3)) + 5 * rng.normal(size=(2, 1, 3))
        assert least_squares(y)[1] == 8
        sums.append(noise.measure_table(np.zeros(6), y).variance.mean())
    assert np.mean(sums) == pytest.approx(1.0, rel=0.07)


def test_a_table_without_holes_has_its_means_and_the_textbook_variance():
    rng = np.random.default_rng(3)
    y = rng.normal(size=(5, 4)) + np.arange(5)[:, None]
    found = noise.measure_table(np.zeros(5), y)
    np.testing.assert_allclose(found.mean, y.mean(1), atol=1e-12)
    residual = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    pooled = (residual**2).sum() / 12
    assert found.df == pytest.approx(12)
    assert found.variance.mean() == pytest.approx(pooled, rel=1e-9)


def test_what_the_seeds_share_is_found_and_taken_out():
    """The same seeds at every rate, nothing else: no noise of differences, all of it shared."""
    seeds = np.array([-0.3, 0.0, 0.1, 0.2])
    y = np.arange(4.0)[:, None] + seeds
    found = noise.measure_table(np.arange(4.0), y)
    assert found.variance == pytest.approx(np.zeros(4), abs=1e-12)
    assert found.shared == pytest.approx(np.full(4, seeds.var(ddof=1)))
    assert found.correlation == pytest.approx(1.0)
    assert found.sd(0) == pytest.approx(seeds.std(ddof=1))


def test_what_seeds_share_at_some_rates_alone_is_in_the_noise_of_a_run_there():
    """Rates that hardly learn scatter little and share nothing; at the others most of the luck comes with the seed."""
    rng, learns = np.random.default_rng(6), np.arange(10) // 5 == 1
    x = 0.5 * np.arange(10)
    of_a_run, shared = [], []
    for _ in range(400):
        y = np.where(
            learns[:, None], 0.3 * rng.normal(size=3) + 0.1 * rng.normal(size=(10, 3)), 0.02 * rng.normal(size=(10, 3))
        )
        found = noise.measure_table(x, y)
        of_a_run.append(found.sd(8) ** 2)
        shared.append(found.shared[[1, 8]])
    assert np.mean(of_a_run) == pytest.approx(0.3**2 + 0.1**2, rel=0.1)
    assert np.mean(shared, 0)[0] < 0.1 * np.mean(shared, 0)[1]


def test_seeds_that_share_nothing_have_no_correlation_on_average():
    rng = np.random.default_rng(4)
    found = [noise.measure_table(np.arange(5.0), rng.normal(size=(5, 4))) for _ in range(200)]
    assert np.mean([f.correlation for f in found]) < 0.12
    assert np.mean([f.variance.mean() for f in found]) == pytest.approx(1.0, rel=0.06)


def test_one_seed_a_rate_measures_nothing_and_says_so():
    for y in ([[1.0], [2.0]], [[1.0, np.nan], [np.nan, 2.0]]):
        found = noise.measure_table(np.arange(2.0), np.array(y))
        assert not found.measured
        assert found.df == 0
        assert np.isnan(found.variance).all()
        assert np.isnan(found.sd(0))
        assert found.mean.tolist() == [1.0, 2.0]


def test_one_rate_with_seeds_measures_its_own_scatter():
    y = np.array([[1.0, 2.0, 4.0]])
    found = noise.measure_table(np.zeros(1), y)
    assert found.variance[0] == pytest.approx(y.var(ddof=1))
    assert found.correlation is None
    assert found.df == pytest.approx(2)


def test_few_cells_that_could_all_be_shared_are_not_centred_away():
    """Two rates of which each has a seed of the third: no degree of freedom is left for the noise."""
    y = np.array([[1.0, 2.0], [3.0, np.nan], [np.nan, 5.0]])
    found = noise.measure_table(np.arange(3.0), y)
    assert found.measured
    assert found.variance == pytest.approx(np.full(3, 0.5), rel=1e-6)


def test_a_noisy_neighbourhood_keeps_its_noise():
    """Ten times the noise two decades to the right stays there."""
    rng = np.random.default_rng(5)
    x = np.linspace(-5, -1, 9)
    sd = np.where(x > -2.5, 1.0, 0.1)
    found = [noise.measure_table(x, sd[:, None] * rng.normal(size=(9, 4))).variance for _ in range(100)]
    left, right = np.sqrt(np.mean(found, 0))[[1, -2]]
    assert left < 0.3
    assert right > 0.75


def test_order_of_rates_and_seeds_does_not_matter():
    rng = np.random.default_rng(6)
    scores = {10.0**i: {s: float(v) for s, v in enumerate(rng.normal(size=3))} for i in range(4)}
    turned = {lr: dict(reversed(scores[lr].items())) for lr in reversed(scores)}
    a, b = noise.measure(scores), noise.measure(turned)
    assert a.mean.tolist() == b.mean.tolist()
    assert a.variance.tolist() == b.variance.tolist()


def test_a_dead_seed_is_outlying_and_scatter_is_not():
    rng = np.random.default_rng(7)
    scores = {10.0**i: {s: i % 3 + 0.02 * float(rng.normal()) for s in range(5)} for i in range(5)}
    assert noise.outlying(scores) == set()
    scores[100.0][3] = 9.0
    assert noise.outlying(scores) == {(100.0, 3)}
    scores[100.0][3] = -9.0  # far better is luck, not death
    assert noise.outlying(scores) == set()
    two = {lr: dict(list(s.items())[:2]) for lr, s in scores.items()}
    two[100.0][1] = 9.0
    assert noise.outlying(two) == set(), "of two seeds none is the odd one"


@pytest.mark.parametrize("seeds", [3, 4, 5, 10])
@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_scatter_is_seldom_called_a_dead_seed(seeds, growing, slope):
    """Flat or not, even where the noise grows to four times to the right (the noise of benchmarks/coverage.py)."""
    rng = np.random.default_rng(8)
    x = np.linspace(-5, -1, 9)
    sd = 0.05 * (1 + growing * 2 * np.clip(x + 3, 0, 1.5))
    alarms = 0
    for _ in range(150):
        y = slope * np.abs(x + 3)[:, None] + sd[:, None] * rng.normal(size=(9, seeds)) + 0.02 * rng.normal(size=seeds)
        alarms += bool(noise.outlying({10.0**a: dict(enumerate(row)) for a, row in zip(x, y.tolist(), strict=True)}))
    assert alarms / 150 <= 0.04


def test_the_margin_takes_the_first_that_is_known():
    share = find_scale("maximize", [0.2, 0.9], "val_accuracy")
    assert noise.margin(0.3, 0.1, share, 0.9, 0.01, 0.5) == (0.3, "given")
    assert noise.margin(0.0, 0.1, share, 0.9, 0.01, 0.5) == (0.0, "given")
    value, source = noise.margin(None, 0.1, share, 0.9, 0.01, 0.5)
    assert value == pytest.approx(0.1 * 0.1)
    assert source == "standard deviation between seeds"
    assert noise.margin(None, np.nan, share, 0.9, 0.01, 0.5) == (0.01, "standard error over the validation examples")
    value, source = noise.margin(None, 0.0, share, 0.9, np.nan, -0.5)
    assert value == pytest.approx(0.01)
    assert source == "a guess: 2 % of what training gained"
