"""What the results say of each rate: the interval holds, more seeds narrow it, equal rates are seldom told apart."""

import made
import numpy as np
import pytest

from etude.analysis import answer as answers
from etude.analysis.scale import Scale

LOSS = Scale(kind="positive", sign=-1)
X = np.linspace(-5, -1, 9)


def simulate(count, seeds, sd=0.05, rng=0, x=X):
    """Answers of ``count`` parabolas whose optimum is known, and the optima."""
    rng = np.random.default_rng(rng)
    at = rng.uniform(-4, -2, count)
    y = np.array(
        [made.parabola(x, a, rng.uniform(0.2, 0.6))[:, None] + sd * rng.normal(size=(len(x), seeds)) for a in at]
    )
    return made.conclude_all(made.tables(y, x)), at


def ask(scores, **fields):
    given = {"barred": (), "lost": (), "stalled": (), "examples": {}, **fields}
    return answers.answer(scores, **given)


def single(function, x=X):
    return {float(10.0**a): {0: float(function(a))} for a in x}


def of_rates(function):
    return [(lr, list(by_seed.values())) for lr, by_seed in single(function).items()]


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_holds_the_optimum(seeds):
    made_of, at = simulate(80, seeds)
    held = 0
    for one, truth in zip(made_of, at, strict=True):
        (low, high), open_ends = one.interval()
        held += ("low" in open_ends or low <= truth) and ("high" in open_ends or truth <= high)
    assert held / 80 >= 0.9


def test_the_interval_holds_an_optimum_where_two_lines_meet():
    """It is narrower than the rates are apart; a smooth curve passes the kink and holds it in two thirds."""
    rng, x = np.random.default_rng(4), np.linspace(-5, -1, 13)
    at = rng.uniform(-4, -2, 80)
    slope, steep = rng.uniform((0.2, 0.3), (1, 3), (80, 2)).T[..., None]
    y = slope * np.maximum(at[:, None] - x, 0) + steep * np.maximum(x - at[:, None], 0)
    noisy = y[..., None] + 0.03 * rng.normal(size=(*y.shape, 10))
    ends = np.array([one.interval()[0] for one in made.conclude_all(made.tables(noisy, x))])
    held = (ends[:, 0] <= at) & (at <= ends[:, 1])
    assert held.mean() >= 0.9
    assert np.diff(ends).mean() < 0.8 * (x[1] - x[0])


def test_more_seeds_do_not_widen_the_interval():
    widths = []
    for seeds in (3, 6, 12):
        ends = [one.interval()[0] for one in simulate(40, seeds, sd=0.1)[0]]
        widths.append(np.mean([high - low for low, high in ends]))
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 0.8 * widths[0]


def test_one_seed_infers_the_noise_that_went_in():
    """Within a factor of two on average; several seeds measure it, and what the curve takes is about that."""
    for seeds, sd in ((1, 0.03), (1, 0.1), (5, 0.1)):
        found = [float(np.nanmedian(one.inferred)) for one in simulate(40, seeds, sd=sd)[0]]
        assert 0.5 * sd < np.sqrt(np.mean(found)) < 2 * sd, (seeds, sd)


def test_the_interval_is_of_use():
    (low, high), open_ends = simulate(1, 5, sd=0.02)[0][0].interval()
    assert open_ends == ()
    assert high - low < 0.5


@pytest.mark.parametrize("x", [X, np.array([-3.0, -2.0])])
def test_two_equal_rates_are_seldom_called_different(x):
    """At the rates left and right of the optimum, equally good, and at two rates alone."""
    rng = np.random.default_rng(1)
    sd, called, count = 0.05, 0, 120
    middle = (x[len(x) // 2] + x[len(x) // 2 - 1]) / 2
    truth = 0.5 * np.abs(x - middle)
    y = truth[:, None] + sd * rng.normal(size=(count, len(x), 4))
    tables = made.tables(y, x)
    made_of = made.conclude_all(tables) if len(x) > 3 else [answers.conclude(t, None) for t in tables]
    for one in made_of:
        pick = one.pick()
        delta = one.noise.sd(pick) * float(np.exp(one.noise.mean[pick]))
        p_worse = 1 - (one.gaps(LOSS) < delta).mean(0)
        twins = np.flatnonzero(truth < truth.min() + 1e-9)
        assert len(twins) == 2
        called += bool((p_worse[twins] >= 0.9).any())
    assert called / count <= 0.05


def test_the_pick_loses_little():
    made_of, at = simulate(60, 2, sd=0.15)
    rng_regret = [(X[one.pick()] - a) ** 2 for one, a in zip(made_of, at, strict=True)]
    naive = [(X[one.noise.mean.argmin()] - a) ** 2 for one, a in zip(made_of, at, strict=True)]
    assert np.mean(rng_regret) <= np.mean(naive)


def test_without_four_rates_or_with_all_alike_it_says_why_there_is_no_curve():
    three = ask(single(made.parabola, [-4, -3, -2]))
    assert three.place is None
    told = three.describe(LOSS, 0.1)
    assert (told.located, told.reason) == (False, "not located: a curve needs 4 rates that learned, there are 3")
    assert told.lrs == ()
    alike = ask(single(lambda x: 1.0)).describe(LOSS, 0.1)
    assert alike.reason == "not located: all rates end alike"
    one = ask(single(made.parabola, [-3])).describe(LOSS, 0.1)
    assert one.reason.endswith("there is 1")
    with pytest.raises(ValueError, match="no curve"):
        three.interval()


def test_nothing_gives_nothing():
    assert ask({}) is None


def test_a_barred_rate_is_no_candidate_and_all_barred_leave_none():
    scores = single(made.parabola)
    best = min(scores, key=lambda lr: scores[lr][0])
    free, barred = ask(scores), ask(scores, barred={best})
    assert free.lrs[free.pick()] == best
    assert barred.pick() is not None
    assert barred.lrs[barred.pick()] != best
    assert ask(scores, barred=set(scores)).pick() is None


def test_the_lower_of_two_equal_rates_is_picked():
    made_of = ask({1e-3: {0: 1.0}, 1e-2: {0: 1.0}})
    assert made_of.lrs[made_of.pick()] == 1e-3


def test_a_lost_rate_above_closes_the_upper_end():
    falling = single(lambda x: -0.5 * x)  # better and better up to 1e-1
    open_high = ask(falling)
    assert open_high.interval()[1] == ("high",)
    closed = ask(falling, lost={1.0})
    (low, high), open_ends = closed.interval()
    assert open_ends == ()
    assert -1.5 < low <= -1 < high <= 0, "up to the lost rate, and no further"


def test_a_stalled_rate_below_closes_the_lower_end():
    rising = single(lambda x: 0.5 * x)
    assert ask(rising).interval()[1] == ("low",)
    (low, _), open_ends = ask(rising, stalled={1e-6}).interval()
    assert open_ends == ()
    assert low >= -6


def test_of_two_humps_that_noise_cannot_tell_apart_the_right_one_is_held_too():
    """The right one is the best by less than the scatter; where the left one ended lower the interval is often its alone."""
    rng = np.random.default_rng(0)
    truth = np.minimum(0.6 * np.abs(X + 2), 0.6 * np.abs(X + 4) + 0.01)
    answered = made.conclude_all(made.tables(truth[:, None] + 0.05 * rng.normal(size=(60, 9, 3)), X))
    held = [low <= -2 <= high for (low, high), _ in (one.interval() for one in answered)]
    assert np.mean(held) >= 0.85


def test_two_humps_of_clearly_different_depth_are_told_apart():
    rng = np.random.default_rng(0)
    truth = np.minimum(0.6 * np.abs(X + 2), 0.6 * np.abs(X + 4) + 0.3)
    answered = made.conclude_all(made.tables(truth[:, None] + 0.03 * rng.normal(size=(30, 9, 3)), X))
    assert np.mean([-3 < low <= -2 <= high for (low, high), _ in (one.interval() for one in answered)]) >= 0.9


def test_what_is_described_is_what_was_drawn():
    found = ask(
        {
            lr: {s: y + 0.02 * s for s in range(3)}
            for lr, (y,) in ((k, v.values()) for k, v in single(made.parabola).items())
        }
    )
    told = found.describe(LOSS, 0.01)
    assert told.located
    assert len(told.lrs) == len(told.mean) == len(told.low) == len(told.high) > 20
    assert (np.array(told.low) <= told.mean).all()
    assert (np.array(told.mean) <= told.high).all()
    low, high = told.optimum_interval
    assert low <= told.optimum <= high
    assert told.optimum == pytest.approx(1e-3, rel=0.3)
    plateau = told.plateau
    assert plateau.low <= told.optimum <= plateau.high
    assert plateau.decades == pytest.approx(np.log10(plateau.high / plateau.low), abs=0.02)
    assert plateau.outer[0] <= plateau.low
    assert plateau.high <= plateau.outer[1]
    if plateau.inner:
        assert plateau.low <= plateau.inner[0] <= plateau.inner[1] <= plateau.high


def test_the_plateau_of_an_exact_parabola():
    """Within δ of the bottom: |log η − optimum| < √(log(1 + δ/ℓ*)/bend)."""
    found = ask(single(made.parabola))
    for share in (0.05, 0.2, 0.5):
        plateau = found.describe(LOSS, share * np.exp(-2.0)).plateau
        half = np.sqrt(np.log(1 + share) / 0.4)
        assert np.log10(plateau.high) == pytest.approx(-3 + half, abs=0.12)
        assert np.log10(plateau.low) == pytest.approx(-3 - half, abs=0.12)


def test_a_wider_margin_makes_no_narrower_plateau():
    found = simulate(1, 3)[0][0]
    widths = [found.describe(LOSS, delta).plateau.decades for delta in (0.001, 0.01, 0.05, 0.2, 1.0)]
    assert (np.diff(widths) >= 0).all()
    assert found.describe(LOSS, None).plateau is None


def test_through_two_rates_before_a_cliff_no_curve_is_shown_but_the_interval_reaches_to_the_cliff():
    rng = np.random.default_rng(0)
    means = dict(zip((1e-5, 1e-4, 1e-3, 1e-2, 1e-1), np.array([1.26, 0.64, 3.27, 3.64, 4.17]) / 3, strict=True))
    answered = ask({lr: dict(enumerate(mean + 0.02 * rng.standard_normal(3))) for lr, mean in means.items()})
    told = answered.describe(Scale(kind="positive", sign=-1), 0.02)
    assert told.located
    low, high = told.optimum_interval
    assert low < 1e-4
    assert 5e-4 < high < 1e-3
    assert not told.lrs
    assert told.plateau is None
    assert "cliff" in told.reason


def test_wide_open_at_both_ends_is_not_located():
    rng = np.random.default_rng(3)
    scores = {10.0**a: {s: float(rng.normal()) for s in range(2)} for a in (-4, -3, -2, -1)}
    told = ask(scores).describe(LOSS, 0.01)
    assert not told.located
    assert told.optimum is None
    assert told.optimum_interval is None
    assert told.reason.startswith("not located")


def test_examples_error_widens_what_one_seed_says():
    scores = single(made.parabola, [-4, -3, -2])
    sure, unsure = (ask(scores, examples=dict.fromkeys(scores, error)) for error in (0.01, 0.3))
    assert unsure.values.std(0).min() > 10 * sure.values.std(0).max()
    assert sure.values.std(0) == pytest.approx(np.full(3, 0.01 * np.sqrt(0.5)), rel=0.02)


def test_rates_alone_have_the_spread_of_a_mean_of_their_seeds():
    rng = np.random.default_rng(4)
    found = ask({10.0**a: dict(enumerate((a + rng.normal(size=20)).tolist())) for a in (0, 1)})
    assert found.values.mean(0) == pytest.approx(found.noise.mean, abs=0.02)
    assert found.values.std(0) == pytest.approx(np.sqrt(found.noise.variance / 20), rel=0.1)


def test_the_unit_of_a_loss_moves_no_draw():
    """Another unit shifts the even scale."""
    scores = single(made.parabola)
    for shift in (-6.9, 6.9):
        moved = ask({lr: {s: y + shift for s, y in of.items()} for lr, of in scores.items()})
        assert moved.place.tolist() == ask(scores).place.tolist()
        np.testing.assert_allclose(moved.values - shift, ask(scores).values, atol=1e-6)
