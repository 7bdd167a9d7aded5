"""Any set of curves gives verdicts, numbers that are finite or None, no warnings, and sentences without nan or inf."""

import dataclasses
import math
import re
import warnings

import made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etude.analysis import Curve, analyse

KINDS = {
    "share": lambda t, rng: np.clip(0.1 + 0.8 * t + 0.05 * rng.normal(size=len(t)), 0, 1),
    "percent": lambda t, rng: np.clip(10 + 80 * t + 5 * rng.normal(size=len(t)), 0, 100),
    "loss": lambda t, rng: np.exp(-2 * t + 0.1 * rng.normal(size=len(t))),
    "negative": lambda t, rng: -3 + rng.normal(size=len(t)),
    "constant": lambda t, rng: np.full(len(t), 0.5),
    "one": lambda t, rng: np.ones(len(t)),
    "zero": lambda t, rng: np.zeros(len(t)),
    "huge": lambda t, rng: 10.0 ** rng.uniform(-200, 200, size=len(t)),
    "r2": lambda t, rng: 1 - np.exp(rng.normal(size=len(t))),
    "tiny": lambda t, rng: 1e-300 * np.exp(rng.normal(size=len(t))),
}
STATUSES = ("completed", "completed", "completed", "diverged", "failed", "pending", "running", "paused")
WORDS = {"diverged", "too low", "good", "unstable", "too high", "undetermined"}


@st.composite
def inputs(draw):
    """Curves and the question asked of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    evaluations = draw(st.sampled_from([0, 1, 2, 3, 6, 12]))
    kind = draw(st.sampled_from(sorted(KINDS)))
    lrs = draw(st.lists(st.floats(-8, 3), max_size=9, unique=True))
    seeds, clean = draw(st.integers(1, 4)), draw(st.booleans())
    curves = []
    for lr, seed in ((10.0**x, s) for x in lrs for s in range(seeds)):
        if rng.random() < 0.15:
            continue
        status = "completed" if clean else str(rng.choice(STATUSES))
        count = evaluations if status == "completed" else int(rng.integers(0, evaluations + 1))
        time = np.linspace(0, 1, max(count, 1))[:count]
        value = KINDS[kind](time, rng).astype(float)
        loss = np.abs(rng.normal(size=count)) * rng.choice([1, 1e30, 1e-30])
        if not clean and count and rng.random() < 0.2:
            value[rng.integers(0, count)] = rng.choice([np.nan, np.inf, -np.inf])
        if not clean and count and rng.random() < 0.1:
            loss[-1] = np.nan
        metrics = {"m": value}
        metrics |= {name: loss for name, odds in (("val_loss", 0.8), ("train_loss", 0.5)) if rng.random() < odds}
        steps = [np.empty(0), np.abs(rng.normal(size=200)), np.full(30, np.inf), np.abs(rng.normal(size=5))]
        curves.append(
            Curve(
                lr=lr, seed=seed if rng.random() < 0.8 else int(rng.integers(10, 99)), status=status, steps=np.arange(count) * 10,
                epochs=np.arange(count) * 1.0, metrics=metrics,
                errors={name: np.full(count, rng.choice([np.nan, 0.01, 0.0])) for name in metrics},
                loss=steps[rng.integers(0, 4)], end_step=10 * max(0, evaluations - 1),
                diverged_step=5 if status == "diverged" else None, failure="ValueError: x" if status == "failed" else None,
            )
        )  # fmt: skip
    asked = {
        "metric": "m", "direction": draw(st.sampled_from(["maximize", "minimize"])),
        "margin": draw(st.sampled_from([None, None, 0.0, 0.1, 1e9])), "horizon_step": 10 * max(0, evaluations - 1),
        "horizon": float(max(0, evaluations - 1)), "unit": draw(st.sampled_from(["epoch", "step", ""])),
        "second": draw(st.sampled_from([None, ("val_loss", "minimize"), ("train_loss", "minimize")])),
        "searched": draw(st.booleans()),
        "weight_decay": draw(st.sampled_from([None, 0.1])), "steps_per_epoch": draw(st.sampled_from([None, 100])),
        "expected": {c.lr: {"m": [0.0, 1.0], "verdict": ["good"]} for c in curves[:2]},
    }  # fmt: skip
    return curves, asked


def not_finite(value, path=""):
    """Where there is an infinity in a value, NaN being the mark of a number that is not known in evidence and scores."""
    if isinstance(value, dict):
        return [found for key, part in value.items() for found in not_finite(part, f"{path}.{key}")]
    if isinstance(value, (list, tuple)):
        return [found for part in value for found in not_finite(part, path)]
    return [path] if isinstance(value, float) and math.isinf(value) else []


def nans(value, path=""):
    if isinstance(value, dict):
        return [found for key, part in value.items() for found in nans(part, f"{path}.{key}")]
    if isinstance(value, (list, tuple)):
        return [found for part in value for found in nans(part, path)]
    return [path] if isinstance(value, float) and math.isnan(value) else []


@given(inputs())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_curves_give_verdicts_finite_numbers_and_sentences(given_input):
    curves, asked = given_input
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = analyse(curves, **asked)
    lrs = sorted({c.lr for c in curves})
    assert [rate.lr for rate in found.rates] == lrs
    assert {rate.verdict for rate in found.rates} <= WORDS
    assert len(found.trials) == len(curves)
    assert not not_finite(dataclasses.asdict(found))
    for part in (
        found.recommendation,
        found.response,
        found.sensitivity,
        found.noise,
        found.seed_plan,
        found.second_opinion,
    ):
        assert part is None or not nans(dataclasses.asdict(part)), part
    for text in made.sentences(found):
        assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE), text
        assert "{" not in text
        assert asked["unit"] or "epoch" not in text or text in found.notes
    best = found.recommendation
    assert best.reason
    assert best.conclusion
    if best.lr is None:
        assert not any(rate.verdict == "good" for rate in found.rates)
        assert best.estimate == {}
        return
    assert best.lr in lrs
    assert found.margin is not None
    assert found.margin >= 0
    words = made.verdicts(found)
    assert words[best.lr] == "good"
    assert best.lr in best.within_margin
    for lr in best.within_margin:
        assert words[lr] == "good", "what is within the margin is good"
    good = [rate.lr for rate in found.rates if rate.verdict == "good"]
    for rate in found.rates:
        if rate.verdict == "too low":
            assert rate.lr < max(good)
        if rate.verdict in ("too high", "unstable"):
            assert rate.lr > min(good)
        assert rate.evidence["n_agree"] <= rate.n_trials
        assert 0 <= rate.evidence["p_diverged_low"] <= rate.evidence["p_diverged_high"] <= 1
    if best.optimum_interval is not None:
        low, high = best.optimum_interval
        assert 0 < low <= high
    for rate in found.rates:
        if rate.evidence["n_scored"] == 0 and rate.evidence["n_paused"]:
            assert rate.grade is None
            assert rate.verdict != "good"
        assert rate.evidence["n_paused"] == 0 or asked["searched"]
    if best.bracket:
        assert best.bracket[0] < best.lr < best.bracket[1]
    if best.next_run:
        assert all(0 < lr < math.inf for lr in best.next_run.lrs)
        assert best.next_run.seeds is None or best.next_run.seeds >= (1 if asked["searched"] else 2)
    if found.sensitivity.value is not None:
        assert found.sensitivity.low <= found.sensitivity.high
        assert 0 < found.sensitivity.covered <= 1 + 1e-9
    for low, mean, high in zip(found.response.low, found.response.mean, found.response.high, strict=True):
        assert low <= mean <= high or high <= mean <= low


@pytest.mark.parametrize("lrs", [(1e-300, 1e-299), (1e300, 1e299), (5e-324, 1e308), (1e-3, 1e-3 * (1 + 1e-15))])
@pytest.mark.parametrize("seeds", [1, 3])
def test_rates_at_the_ends_of_what_a_number_holds(lrs, seeds):
    curves = [made.trial(lr, 0.1 * (i + 1) + 0.001 * s, s) for i, lr in enumerate(lrs) for s in range(seeds)]
    found = made.judge(curves)
    assert found.recommendation.lr == lrs[0]
    assert found.recommendation.next_run is not None
    assert all(math.isfinite(lr) and lr > 0 for lr in found.recommendation.next_run.lrs)


@pytest.mark.parametrize("count", [4, 8])
def test_rates_next_to_each_other_have_a_curve_or_a_reason(count):
    """All within a ten-thousandth of a decade."""
    x = -3 + 1e-5 * np.arange(count)
    curves = [made.trial(10.0**a, 0.1 + 0.01 * (i % 3), s) for i, a in enumerate(x) for s in range(2)]
    found = made.judge(curves)
    assert found.recommendation.lr in {c.lr for c in curves}
    assert found.response.located or found.response.reason


@pytest.mark.parametrize("order", [1, -1])
def test_the_same_rate_and_seed_twice_is_no_error(order):
    curves = [made.trial(lr, final, 0) for lr, final in ((1e-3, 0.1), (1e-3, 0.2), (1e-2, 0.5))]
    found = made.judge(curves[::order])
    assert found.recommendation.lr == 1e-3
    assert [rate.n_trials for rate in found.rates] == [2, 1]
    failed = dataclasses.replace(
        curves[1], status="failed", failure="x", steps=np.empty(0, int), epochs=np.empty(0), metrics={}, errors={}
    )
    again = made.judge([curves[0], failed, curves[2]][::order])
    assert again.recommendation.lr == 1e-3
    assert again.recommendation.estimate["own_mean"] == pytest.approx(0.1)
    assert again.rates[1].evidence["gap"] == pytest.approx(0.4)
