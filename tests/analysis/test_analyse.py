"""Verdicts from curves made by hand: arrays in, values out."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.analysis import Curve, analyse, dynamics, noise
from etude.analysis.reading import TABLE, RateEvidence, sentence
from etude.analysis.scale import find_scale

EPOCHS, STEPS = 5, 100
RNG = np.random.default_rng(0)


def curve(lr, accuracies, seed=0, losses=None, error=0.001, status="completed", **changes):
    """A trial evaluated at step 0 and at each epoch."""
    accuracy = np.array([0.1, *accuracies])
    loss = np.array([2.3, *(losses if losses is not None else 2.5 * (1 - np.array(accuracies)))])
    count = len(accuracy)
    steps = np.arange(count) * STEPS
    fields = {
        "steps": steps,
        "epochs": np.arange(count, dtype=float),
        "metrics": {"val_accuracy": accuracy, "val_loss": loss, "train_loss": np.array([np.nan, *loss[1:]])},
        "errors": {name: np.full(count, error) for name in ("val_accuracy", "val_loss", "train_loss")},
        "loss": np.repeat(loss[1:], STEPS),
        "end_step": EPOCHS * STEPS,
    }
    return Curve(lr=lr, seed=seed, status=status, **{**fields, **changes})


SLOW = curve(1e-4, [0.92, 0.94, 0.955, 0.965, 0.973])
GOOD = curve(1e-3, [0.978, 0.985, 0.987, 0.989, 0.989])
WILD = curve(1e-2, [0.953, 0.964, 0.952, 0.968, 0.970])
STILL = curve(1e-9, [0.1] * 5, losses=[2.3] * 5)
BROKEN = curve(1, [0.11] * 5, losses=[900.0, 3.0, 2.31, 2.31, 2.31])
NAN = curve(10, [], status="diverged", diverged_step=7)


def judge(*curves, metric="val_accuracy", direction="maximize", margin=None, expected=None):
    return analyse(
        curves,
        metric=metric,
        direction=direction,
        margin=margin,
        horizon_step=EPOCHS * STEPS,
        horizon=EPOCHS,
        expected=expected,
    )


def verdicts(analysis):
    return {rate.lr: rate.verdict for rate in analysis.rates}


def test_the_articles_three_rates():
    analysis = judge(SLOW, GOOD, WILD)
    assert verdicts(analysis) == {1e-4: "too low", 1e-3: "good", 1e-2: "unstable"}
    assert analysis.recommendation.lr == 1e-3
    assert analysis.recommendation.provisional
    assert analysis.recommendation.bracket == (1e-4, 1e-2)
    assert analysis.margin == 0.001
    assert analysis.margin_source == "standard error over the validation examples"
    low, good, high = analysis.rates
    assert (
        low.reason
        == "Still improving at the end: 97.3 ± 0.1 % after 5 epochs, 1.6 points short of the best, which had as much after 1 epoch."
    )
    assert good.reason == "The best: 98.9 ± 0.1 % after 5 epochs."
    assert high.reason == (
        "Restless: fell back by 1.2 points between two evaluations and ended at 97.0 ± 0.1 %, 1.9 points short of the best."
    )
    assert analysis.recommendation.conclusion == (
        "Train at 1e-3: it reaches 98.9 % validation accuracy in 5 epochs; 1e-4 is too low and 1e-2 is unstable."
    )
    assert analysis.recommendation.next_run.seeds == 3


def test_what_never_moved_is_too_low_and_what_broke_is_diverged():
    analysis = judge(STILL, GOOD, BROKEN, NAN)
    assert verdicts(analysis) == {1e-9: "too low", 1e-3: "good", 1: "diverged", 10: "diverged"}
    words = {trial.lr: trial.dynamics for trial in analysis.trials}
    assert words == {1e-9: "stalled", 1e-3: "smooth", 1: "collapsed", 10: None}
    assert "step 7" in analysis.rates[3].reason


def test_a_rate_that_stalls_above_the_good_ones_is_diverged():
    assert verdicts(judge(GOOD, curve(0.1, [0.1] * 5, losses=[2.3] * 5)))[0.1] == "diverged"


def test_what_ends_worse_above_and_calm_is_too_high():
    calm = curve(1e-2, [0.94, 0.945, 0.95, 0.953, 0.955])
    assert verdicts(judge(SLOW, GOOD, calm))[1e-2] == "too high"


def test_overfitting_is_no_collapse():
    # The validation loss ends above its start while the training loss is gone and the accuracy is fine.
    overfit = curve(1e-3, [0.9, 0.93, 0.94, 0.94, 0.94], losses=[0.5, 1.0, 2.0, 3.0, 4.0])
    overfit.metrics["train_loss"][1:] = [0.5, 0.1, 0.01, 0.001, 0.0001]
    assert judge(SLOW, overfit).trials[1].dynamics != "collapsed"


def test_seeds_measure_the_noise_and_make_the_margin():
    curves = [
        curve(lr, [*np.linspace(mean - 0.05, mean - 0.01, 4), mean + shift], seed=seed)
        for lr, mean in ((1e-4, 0.95), (1e-3, 0.985), (1e-2, 0.97))
        for seed, shift in enumerate((-0.002, 0.0, 0.002))
    ]
    analysis = judge(*curves)
    assert analysis.margin_source == "standard deviation between seeds"
    assert 0.0005 < analysis.margin < 0.004
    assert not analysis.recommendation.provisional
    assert analysis.recommendation.estimate["n_seeds"] == 3
    assert verdicts(analysis)[1e-3] == "good"


def test_low_power_earns_no_praise():
    near = curve(1e-2, [0.95, 0.96, 0.97, 0.98, 0.9875], error=0.004)
    best = curve(1e-3, [0.95, 0.96, 0.97, 0.98, 0.9895], error=0.004)
    analysis = judge(best, near, margin=0.001)
    assert verdicts(analysis)[1e-2] == "undetermined"
    assert analysis.margin_source == "given"
    wide = judge(best, near, margin=0.02)
    assert verdicts(wide)[1e-2] == "good"


def test_two_equal_rates_are_both_good_with_one_seed_and_with_three():
    twin = curve(2e-3, GOOD.metrics["val_accuracy"][1:])
    analysis = judge(SLOW, GOOD, twin)
    assert verdicts(analysis) == {1e-4: "too low", 1e-3: "good", 2e-3: "good"}
    assert analysis.recommendation.within_margin == (1e-3, 2e-3)
    curves = [
        curve(lr, [*GOOD.metrics["val_accuracy"][1:-1], 0.989 + shift], seed=seed)
        for lr, shifts in ((1e-3, (0.001, 0.0, -0.001)), (2e-3, (0.0, -0.001, 0.001)))
        for seed, shift in enumerate(shifts)
    ]
    assert verdicts(judge(*curves)) == {1e-3: "good", 2e-3: "good"}


def test_a_rate_with_a_stalled_seed_is_not_recommended_for_the_others():
    curves = [curve(1e-2, GOOD.metrics["val_accuracy"][1:] + 0.005, seed=s) for s in (0, 1)]
    curves += [curve(1e-2, [0.1] * 5, losses=[2.3] * 5, seed=2)]
    curves += [curve(1e-3, GOOD.metrics["val_accuracy"][1:], seed=s) for s in (0, 1, 2)]
    assert judge(*curves).recommendation.lr == 1e-3


def test_a_metric_without_standard_errors_is_not_restless_by_its_noise():
    noisy = curve(1e-2, [0.95, 0.97, 0.95, 0.97, 0.955], error=np.nan)
    assert judge(GOOD, noisy).trials[1].dynamics == "smooth"


def test_a_rate_whose_code_raised_says_why():
    failed = curve(1e-2, [], status="failed", failure="ValueError: no")
    assert judge(GOOD, failed).rates[1].reason == "Its code raised: ValueError: no"


def test_a_rate_that_lost_a_seed_is_never_best():
    curves = [curve(1e-2, GOOD.metrics["val_accuracy"][1:] + 0.005, seed=s) for s in (0, 1)]
    curves += [curve(1e-2, [], seed=2, status="diverged", diverged_step=9)]
    curves += [curve(1e-3, GOOD.metrics["val_accuracy"][1:], seed=s) for s in (0, 1, 2)]
    analysis = judge(*curves)
    assert analysis.recommendation.lr == 1e-3
    assert verdicts(analysis)[1e-2] != "good"
    assert "noise" not in analysis.rates[1].reason


def test_edges_and_what_to_try_next():
    analysis = judge(SLOW, GOOD)
    assert analysis.recommendation.edge == "high"
    assert analysis.recommendation.next_run.lrs == (1e-2, 1e-1)
    assert "not bracketed" in analysis.recommendation.reason
    lost = judge(BROKEN, NAN)
    assert lost.recommendation.lr is None
    assert lost.recommendation.next_run.lrs == (0.01, 0.1)
    still = judge(STILL)
    assert still.recommendation.lr is None
    assert still.recommendation.next_run.lrs == (1e-8, 1e-7)
    assert verdicts(still) == {1e-9: "too low"}
    between = judge(STILL, NAN).recommendation
    assert all(1e-9 < lr < 10 for lr in between.next_run.lrs)


def test_unfinished_trials_are_undetermined_and_said():
    running = curve(1e-2, [0.95, 0.96], status="running")
    analysis = judge(SLOW, GOOD, running)
    assert verdicts(analysis)[1e-2] == "undetermined"
    assert analysis.rates[2].reason == "No score at the horizon: not trained that far."
    assert analysis.recommendation.provisional


def test_expected_beside_observed():
    expected = {
        1e-4: {"verdict": ["good"]},
        1e-3: {"verdict": ["good"], "val_accuracy": [0.97, 0.98]},
        1e-2: {"verdict": ["unstable", "diverged"], "val_accuracy": [0.9, 0.99]},
        1e-9: {"verdict": ["good"]},
    }
    outcomes = {r.lr: r.expected and r.expected["outcome"] for r in judge(SLOW, GOOD, WILD, expected=expected).rates}
    assert outcomes == {1e-4: "disagree", 1e-3: "disagree", 1e-2: "agree"}
    near = judge(GOOD, SLOW, expected={1e-3: {"val_accuracy": [0.9885, 0.995]}}).rates[1].expected
    assert near["outcome"] == "undetermined"
    assert near["parts"][0]["observed"] == pytest.approx(0.989)


@given(order=st.permutations([SLOW, GOOD, WILD, STILL, NAN]))
@settings(deadline=None, max_examples=20)
def test_the_order_of_the_trials_does_not_matter(order):
    assert judge(*order) == pytest.approx(judge(SLOW, GOOD, WILD, STILL, NAN)) or str(judge(*order)) == str(
        judge(SLOW, GOOD, WILD, STILL, NAN)
    )


@given(unit=st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=20)
def test_the_unit_of_the_loss_does_not_matter(unit):
    def rescaled(c):
        metrics = {name: v * unit if "loss" in name else v for name, v in c.metrics.items()}
        errors = {name: v * unit if "loss" in name else v for name, v in c.errors.items()}
        import dataclasses

        return dataclasses.replace(c, metrics=metrics, errors=errors, loss=c.loss * unit)

    curves = [SLOW, GOOD, WILD, STILL, BROKEN]
    kwargs = {"metric": "val_loss", "direction": "minimize"}
    assert verdicts(judge(*map(rescaled, curves), **kwargs)) == verdicts(judge(*curves, **kwargs))


@pytest.mark.parametrize(
    "curves",
    [
        [],
        [GOOD],
        [NAN],
        [curve(1e-3, [])],
        [curve(1e-3, [1.0] * 5, losses=[0.0] * 5, error=0.0)],
        [curve(lr, [0.5] * 5, losses=[1.0] * 5) for lr in (1e-3, 1e-2)],
        [curve(1e-3, [np.nan] * 5, losses=[np.nan] * 5), GOOD],
        [curve(lr, [0.9, 0.95, 0.96, 0.97, 0.98], seed=s) for lr, s in ((1e-3, 0), (1e-3, 1), (1e-2, 0), (0.1, 5))],
        [curve(1e-3, [0.9], losses=[-3.0]), curve(1e-2, [0.8], losses=[-1.0])],
        [curve(1e-3, [], status="failed"), curve(1e-2, [], status="pending")],
    ],
)
@pytest.mark.parametrize("objective", [("val_accuracy", "maximize"), ("val_loss", "minimize")])
def test_any_input_gives_a_value_or_a_reason(curves, objective):
    analysis = judge(*curves, metric=objective[0], direction=objective[1])
    assert all(rate.verdict and rate.reason for rate in analysis.rates)
    assert analysis.recommendation.reason
    if analysis.recommendation.lr is not None:
        assert np.isfinite(analysis.recommendation.estimate["value"])


def test_a_settled_curve_is_seldom_called_restless():
    """The claim behind FALSE_ALARM: flat curves with binomial noise, correlated as evaluations are, any length."""
    for count in (5, 20, 60):
        alarms = 0
        for _ in range(400):
            shared = RNG.normal(size=1)
            own = RNG.normal(size=count)
            rho = dynamics.EVALUATION_CORRELATION
            score = 0.97 + 0.002 * (np.sqrt(rho) * shared + np.sqrt(1 - rho) * own)
            setback, *_ = dynamics._setbacks(score, np.full(count, 0.002))
            alarms += setback > 0
        assert alarms / 400 <= dynamics.FALSE_ALARM + 0.03, count


def test_a_real_setback_is_seen():
    setback, share, recoveries = dynamics._setbacks(WILD.metrics["val_accuracy"][1:], np.full(5, 0.0017))
    assert setback == pytest.approx(0.012)
    assert share > 0.25
    assert recoveries == 1


def test_a_spike_is_seen_and_minibatch_noise_is_none():
    calm = 2.3 * np.exp(-np.arange(500) / 50) + 0.1 * RNG.exponential(size=500)
    assert dynamics._spikes(calm, 2.3, 2.2) == 0
    spiked = calm.copy()
    spiked[300:310] = 5.0
    assert dynamics._spikes(spiked, 2.3, 2.2) == 1


def test_pooled_noise_finds_the_scatter_between_seeds():
    """1,000 studies of 4 rates × 3 seeds with a known scatter, seeds shared in part."""
    own, shared, correlation = [], [], []
    for _ in range(1000):
        scores = 0.05 * RNG.normal(size=3) + 0.08 * RNG.normal(size=(4, 3)) + np.array([[0.0], [-1.0], [-0.5], [1.0]])
        measured = noise.measure({10.0**i: dict(enumerate(row)) for i, row in enumerate(scores)})
        assert measured.df == pytest.approx(4, abs=2.5)
        own.append(measured.variance.mean())
        shared.append((measured.total - measured.variance).mean())
        correlation.append(measured.correlation)
    assert np.sqrt(np.mean(own)) == pytest.approx(0.08, rel=0.05)
    assert np.sqrt(np.mean(shared)) == pytest.approx(0.05, rel=0.15)
    assert np.mean(correlation) == pytest.approx(0.05**2 / (0.05**2 + 0.08**2), abs=0.1)


def test_every_sentence_can_be_written():
    base = dict.fromkeys(RateEvidence.__dataclass_fields__, 0)
    scale = find_scale("maximize", [0.5, 0.9])
    written = set()
    kinds = (
        "n_diverged",
        "n_collapsed",
        "n_stalled",
        "n_failed",
        "n_unfinished",
        "n_restless",
        "n_outlying",
        "n_scored",
        "n_paused",
    )
    for verdict, n, kind, unit, gap in itertools.product(
        ("too low", "good", "too high", "unstable", "diverged", "undetermined"),
        (1, 3),
        kinds,
        ("epoch", ""),
        (0.02, -0.02),
    ):
        for best, top, last, setback, grade in itertools.product(
            (True, False), (True, False), (0.0, 0.1), (0.0, 0.05), ("worse", "unresolved", None)
        ):
            e = RateEvidence(**{
                **base, "verdict": verdict, "n_trials": n, "n_scored": 0 if kind in ("n_failed", "n_unfinished", "n_paused") else n,
                kind: n, "is_best": best, "is_top": top, "last_change": last,
                "last_change_error": math.nan if grade is None else 0.01, "behind_seen": best,
                "setback": setback, "grade": grade, "mean": 0.9, "mean_all": 0.9, "diverged_unit": "step",
                "gap": gap, "mean_error": 0.01, "horizon": 5.0, "unit": unit, "best_reached": 1.0 if best else math.nan,
                "needs_low": 7.0, "needs_high": 11.0,
                "paused_at": 0.5 if kind == "n_paused" and unit else math.nan, "paused_mean": 0.6,
                "behind": math.nan if last else gap, **({"n_diverged": 1} if kind == "n_paused" and top else {}),
                "needs_reason": "", "some_learned": kind != "n_stalled",
                "failure": "ValueError: no" if best else "memory: its process held 2 MiB" if top else "hung: step 7",
            })  # fmt: skip
            text = sentence(e, scale)
            assert "{" not in text
            assert unit or "epoch" not in text
            written.add(next(i for i, (predicate, _) in enumerate(TABLE) if predicate(e)))
    assert len(written) >= len(TABLE) - 1


@pytest.mark.parametrize("offset", [-0.4, 0.4])
def test_a_training_loss_that_lies_beside_the_validation_loss_is_no_movement(offset):
    """A rate far too low hardly moves; that its noisy training loss is of other examples must not look like a collapse."""
    rng = np.random.default_rng(0)
    noise_of = 0.3 * rng.standard_normal(EPOCHS * STEPS)
    loss = np.repeat([2.29, 2.285, 2.28, 2.275, 2.27], STEPS) + offset + noise_of
    low = curve(1e-6, [0.1, 0.101, 0.101, 0.102, 0.102], losses=[2.29, 2.285, 2.28, 2.275, 2.27], loss=loss)
    low.metrics["train_loss"][1:] += offset
    verdicts = {rate.lr: rate.verdict for rate in judge(low, SLOW, GOOD, WILD).rates}
    assert verdicts[1e-6] == "too low"
