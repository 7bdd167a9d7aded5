"""LR sensitivity: known integrals, the cap at the loss before training, lost rates, the covered share, and the reasons."""

import made
import numpy as np
import pytest
from scipy import integrate

from etude.analysis.answer import Answer
from etude.analysis.noise import Noise
from etude.analysis.scale import Scale, find_scale
from etude.analysis.sensitivity import ANCHOR, sensitivity

LOSS = Scale(kind="positive", sign=-1)
HALF = np.log10(ANCHOR)


def exact(x, level, at, scale=LOSS, best=None, sd=0.0):
    """An answer without doubt: every draw is the truth (or ± ``sd`` of it)."""
    even = np.asarray(level, float) / scale.unit if scale.kind == "linear" else np.log(level)
    lowest = even.min() if best is None else best
    away, unknown = sd * np.linspace(-1, 1, 5)[:, None], np.full(len(x), np.nan)
    return Answer(
        lrs=tuple(10.0**a for a in x),
        noise=Noise(x=x, mean=even, variance=unknown, total=unknown, count=np.ones(len(x)), df=0.0),
        values=even + away, candidates=tuple(range(len(x))), best=np.full(5, lowest), place=np.full(5, at), grid=np.empty(0),
        curve=None, bounds=(x[0], x[-1]), closed=(False, False), why_no_curve="",
    )  # fmt: skip


def ask(answer, start=np.inf, lost=(), scale=LOSS):
    pick = answer.lrs[int(answer.values.mean(0).argmin())]
    return sensitivity(answer, pick, {lr: lr in lost for lr in answer.lrs}, start, scale)


def integral(x, level, at, cap=np.inf):
    """The mean over [at ± log10 30], where tried, of min(ℓ, ℓ₀) − ℓ*, linear between rates."""
    a, b = max(at - HALF, x[0]), min(at + HALF, x[-1])
    fine = np.unique(np.concatenate([np.linspace(a, b, 20_001), x[(x > a) & (x < b)]]))
    return integrate.trapezoid(np.interp(fine, x, np.minimum(level, cap)) - np.min(level), fine) / (b - a)


def test_a_fine_parabola_has_its_known_integral():
    """The mean over ±h of c·u² is c·h²/3."""
    x = np.linspace(-5, -1, 401)
    found = ask(exact(x, 0.1 + 0.4 * (x + 3) ** 2, -3.0), start=100.0)
    assert found.value == pytest.approx(0.4 * HALF**2 / 3, rel=1e-3)
    assert found.low == pytest.approx(found.value)
    assert found.high == pytest.approx(found.value)
    assert found.covered == pytest.approx(1.0)
    assert found.range == pytest.approx((1e-3 / 30, 1e-3 * 30), rel=1e-2)


@pytest.mark.parametrize("at", [-3.0, -3.4, -4.6])
@pytest.mark.parametrize("cap", [100.0, 0.5])
def test_a_coarse_grid_is_joined_by_straight_lines_and_capped_at_its_rates(at, cap):
    x = np.linspace(-5, -1, 7)
    level = 0.1 + 0.4 * (x - at) ** 2
    found = ask(exact(x, level, at), start=cap)
    assert found.value == pytest.approx(integral(x, level, at, cap), rel=1e-3)
    assert found.start == cap


def test_a_lost_rate_counts_as_the_loss_before_training():
    x = np.linspace(-5, -1, 9)
    level = 0.1 + 0.4 * (x + 3) ** 2
    lost = {10.0 ** x[-3]}
    found = ask(exact(x, level, -3.0), start=2.3, lost=lost)
    known = np.where(np.arange(9) == 6, 2.3, level)
    assert found.value == pytest.approx(integral(x, known, -3.0, 2.3), rel=1e-3)
    unknown = ask(exact(x, level, -3.0), start=np.nan, lost=lost)
    assert unknown.value is None
    assert unknown.reason == "a rate was lost, and the metric before training is not known"


def test_without_a_start_nothing_is_capped():
    x = np.linspace(-5, -1, 9)
    level = np.exp(np.abs(x + 3))
    found = ask(exact(x, level, -3.0), start=np.nan)
    assert found.value == pytest.approx(integral(x, level, -3.0), rel=1e-3)
    assert found.start is None


def test_the_covered_share_is_told_and_too_little_is_refused():
    x = np.linspace(-5, -2.5, 6)
    level = 0.1 + 0.4 * (x + 3) ** 2
    part = ask(exact(x, level, -3.0), start=9.0)
    assert part.covered == pytest.approx((0.5 + HALF) / (2 * HALF))
    assert part.value == pytest.approx(integral(x, level, -3.0, 9.0), rel=1e-3)
    narrow = np.linspace(-3.2, -2.8, 5)
    little = ask(exact(narrow, 0.1 + (narrow + 3) ** 2, -3.0), start=9.0)
    assert little.value is None
    assert "14 %" in little.reason
    assert little.covered == pytest.approx(0.4 / (2 * HALF))


def test_doubt_makes_an_interval_that_holds_the_value():
    x = np.linspace(-5, -1, 9)
    found = ask(exact(x, 0.1 + 0.4 * (x + 3) ** 2, -3.0, sd=0.2), start=9.0)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    "scale",
    [find_scale("maximize", [0.1, 0.9]), find_scale("maximize", [-3.0, 1.0, 9.0]), find_scale("minimize", [-3.0, 9.0])],
)
def test_it_is_in_the_metrics_unit(scale):
    """An error of a share, or a negated metric: what is to be made small."""
    x = np.linspace(-5, -1, 9)
    level = 0.05 + 0.1 * (x + 3) ** 2
    found = ask(exact(x, level, -3.0, scale), start=np.nan, scale=scale)
    assert found.value == pytest.approx(integral(x, level, -3.0), rel=1e-3)


def test_reasons():
    x = np.linspace(-4, -3, 2)
    two = exact(x, np.array([0.1, 0.2]), -4.0)
    assert ask(two).reason == "three rates are needed, 2 tried"
    assert sensitivity(None, None, {}, 2.3, LOSS).reason == "no rate is recommended"
    assert sensitivity(two, None, {}, 2.3, LOSS).value is None


def test_of_a_study_it_is_near_the_truth_and_a_flatter_one_costs_less():
    x = np.linspace(-5, -1, 13)
    steep, flat = (
        made.judge(made.study(lambda a, b=bend: made.parabola(a, bend=b), x, 3, 0.01)) for bend in (0.4, 0.1)
    )
    level = np.exp(made.parabola(x))
    assert steep.sensitivity.value == pytest.approx(integral(x, level, -3.0, made.START), rel=0.08)
    assert steep.sensitivity.low < integral(x, level, -3.0, made.START) < steep.sensitivity.high
    assert flat.sensitivity.value < 0.5 * steep.sensitivity.value
    assert steep.sensitivity.start == pytest.approx(made.START)


def test_a_diverged_rate_in_a_study_costs_what_training_gained():
    x = np.linspace(-5, -2, 7)
    whole = made.judge([*made.study(made.parabola, x, 2, 0.01), made.diverged(0.0316228), made.diverged(0.0316228, 1)])
    without = made.judge(made.study(made.parabola, x, 2, 0.01))
    assert whole.sensitivity.value > without.sensitivity.value + 0.1
    assert whole.sensitivity.covered == pytest.approx(1, abs=0.02)
