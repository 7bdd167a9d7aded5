"""The evidence on a rate: verdicts of seeds, binning, second opinions, and notes."""

import dataclasses
import time

import made
import numpy as np
import pytest
from made import judge, study, verdicts

from etude.analysis.evidence import BINS, MOST_RATES, binned

X = np.linspace(-5, -1, 9)


def test_verdicts_of_a_parabola_rise_from_too_low_over_good_to_too_high():
    found = judge(study(lambda x: made.parabola(x, bend=0.6), X, 3, 0.02))
    order = ["too low", "good", "too high"]
    words = [order.index(rate.verdict) for rate in found.rates]
    assert words == sorted(words)
    assert set(words) == {0, 1, 2}
    for rate in found.rates:
        e = rate.evidence
        assert e["n_scored"] == e["n_trials"] == e["n_agree"] == 3
        assert e["p_within"] + e["p_worse"] == pytest.approx(1)
        assert e["p_diverged_low"] <= e["p_diverged"] <= e["p_diverged_high"]
        assert (e["gap"] == 0) == (rate.lr == 1e-3)
        assert e["regret"] >= -1e-9


def test_gaps_and_grades_are_of_the_metrics_unit():
    found = judge(study(made.parabola, X, 3, 0.02))
    best = next(rate for rate in found.rates if rate.lr == found.recommendation.lr)
    for rate in found.rates:
        assert rate.evidence["gap"] == pytest.approx(rate.evidence["mean"] - best.evidence["mean"])


@pytest.mark.parametrize(("seeds", "bar"), [(1, 0.95), (3, 0.9)])
def test_a_rate_is_called_worse_from_a_chance_on_that_is_higher_with_one_seed(seeds, bar):
    chances = {"worse": [], "unresolved": []}
    for case in range(12):
        for rate in judge(study(lambda x: made.parabola(x, bend=0.3), X, seeds, 0.05, rng=case)).rates:
            if rate.grade in chances:
                chances[rate.grade].append(rate.evidence["p_worse"])
    assert max(chances["unresolved"]) < bar <= min(chances["worse"])
    assert max(chances["unresolved"]) > bar - 0.05


def test_a_stalled_rate_below_is_too_low_and_above_is_diverged():
    curves = [c for c in study(made.parabola, X, 2, 0.02) if 1e-4 < c.lr < 1e-2]
    ends = [made.stalled(lr, s) for lr in (1e-7, 10.0) for s in range(2)]
    words = verdicts(judge([*curves, *ends]))
    assert words[1e-7] == "too low"
    assert words[10.0] == "diverged"


def test_few_rates_are_left_as_they_are():
    curves = study(made.parabola, np.linspace(-5, -1, MOST_RATES), 1)
    kept, how = binned(curves)
    assert how is None
    assert kept == curves


def many(count, rng, seeds=1):
    """As many random rates, each with as many seeds, as final values."""
    x = np.sort(rng.uniform(-5, -1, count // seeds))
    return study(made.parabola, x, seeds, 0.05, start=None, rng=1)


@pytest.mark.parametrize("seeds", [1, 5])
def test_many_rates_go_into_bins_of_equal_width_named_by_a_rate_of_theirs(seeds):
    curves = many(1000, np.random.default_rng(0), seeds)
    found, how = binned(curves)
    assert len(found) == len(curves)
    names = sorted({c.lr for c in found})
    assert 40 <= len(names) <= BINS
    assert set(names) <= {c.lr for c in curves}
    width = 4 / BINS
    for before, after in zip(curves, found, strict=True):
        assert abs(np.log10(before.lr / after.lr)) <= width
        assert after.metrics is before.metrics
    pairs = [(c.lr, c.seed) for c in found]
    assert len(set(pairs)) == len(pairs), "two runs of one bin are two seeds"
    tried = len({c.lr for c in curves})
    assert (
        how
        == f"{tried} rates in {len(names)} bins of {width:.2g} decades, each named by the rate nearest to its middle"
    )


def test_ten_thousand_trials_are_binned_and_judged():
    curves = many(10_000, np.random.default_rng(0))
    began = time.monotonic()
    found = judge(curves, unit="")
    assert time.monotonic() - began < 20
    assert found.binned.startswith(f"{len({c.lr for c in curves}):,} rates in 48 bins of 0.083 decades")
    assert any(found.binned in note for note in found.notes)
    assert len(found.trials) == 10_000
    assert [t.lr for t in found.trials] == [c.lr for c in curves], "trials keep their own rate"
    assert len(found.rates) <= BINS
    assert 10**-3.3 < found.recommendation.lr < 10**-2.7
    low, high = found.recommendation.optimum_interval
    assert low <= 1e-3 <= high


def second(curves, **fields):
    return judge(curves, second=("val_accuracy", "maximize"), **fields).second_opinion


def with_accuracy(curves, at, rng):
    """Adds an accuracy whose best rate is 10**``at``."""
    made_of = []
    for c in curves:
        last = 1 - 0.1 * np.exp(made.parabola(np.log10(c.lr), at, 0.4, 0.0) + 0.02 * rng.standard_normal())
        values = np.linspace(0.1, max(0.11, last), len(c.steps))
        made_of.append(
            dataclasses.replace(
                c,
                metrics={**c.metrics, "val_accuracy": values},
                errors={**c.errors, "val_accuracy": np.full(len(values), np.nan)},
            )
        )
    return made_of


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_metric_that_wants_another_rate_by_a_decade_is_told_and_one_that_agrees_is_not(seeds):
    curves = study(lambda x: made.parabola(x, bend=1.0), X, seeds, 0.02)
    other = second(with_accuracy(curves, -2.0, np.random.default_rng(0)))
    assert other.disagrees
    assert 5e-3 < other.lr < 2e-2
    assert "times higher" in other.why
    assert other.metric == "val_accuracy"
    same = second(with_accuracy(curves, -3.0, np.random.default_rng(0)))
    assert not same.disagrees
    lower = second(with_accuracy(curves, -4.0, np.random.default_rng(0)))
    assert lower.disagrees
    assert "times lower" in lower.why


def test_a_disagreement_is_in_the_summary_and_agreement_is_not():
    curves = study(lambda x: made.parabola(x, bend=1.0), X, 3, 0.02)
    ask = {"second": ("val_accuracy", "maximize")}
    apart, alike = (judge(with_accuracy(curves, at, np.random.default_rng(0)), **ask) for at in (-2.0, -3.0))
    assert sum("Another view" in line for line in apart.summary) == 1
    assert not any("Another view" in line for line in alike.summary)


def test_no_second_opinion_where_none_is_asked_or_the_metric_is_not_there():
    curves = study(made.parabola, X, 2, 0.02)
    assert judge(curves).second_opinion is None
    assert second(curves) is None


def test_the_timescale_of_weight_decay_is_told_right():
    curves = study(made.parabola, np.arange(-4.0, -1.0), 1)
    (note,) = judge(curves, weight_decay=0.1, steps_per_epoch=500).notes
    assert "from 100,000 steps at 1e-4 to 1,000 at 1e-2 (200 to 2 epochs)" in note
    assert "λ = 0.1" in note
    (note,) = judge(curves, weight_decay=0.01).notes
    assert "from 1,000,000 steps at 1e-4 to 10,000 at 1e-2;" in note
    assert "epoch" not in note


def test_without_decay_or_with_one_rate_there_is_no_note():
    curves = study(made.parabola, np.arange(-4.0, -1.0), 1)
    assert judge(curves).notes == ()
    assert judge(curves, weight_decay=0.0).notes == ()
    assert judge(curves[:1], weight_decay=0.1).notes == ()


def test_a_trial_that_has_not_reached_the_horizon_has_no_score():
    short = made.trial(1e-2, 0.05)
    short = dataclasses.replace(
        short, steps=short.steps[:4], epochs=short.epochs[:4], metrics={"val_loss": short.metrics["val_loss"][:4]},
        errors={"val_loss": short.errors["val_loss"][:4]}, status="paused",
    )  # fmt: skip
    found = judge([*study(made.parabola, np.arange(-5.0, -2.0), 1), short])
    assert np.isnan(found.trials[-1].score)
    assert verdicts(found)[1e-2] == "undetermined"


def test_a_trial_that_went_on_is_judged_at_the_horizon():
    def carried_on(c):
        metrics = {"val_loss": np.append(c.metrics["val_loss"], 99.0)}
        errors = {"val_loss": np.append(c.errors["val_loss"], np.nan)}
        times = {"steps": np.append(c.steps, 70), "epochs": np.append(c.epochs, 7.0), "end_step": 70}
        return dataclasses.replace(c, metrics=metrics, errors=errors, **times)

    curves = study(made.parabola, X, 1)
    assert [t.score for t in judge(map(carried_on, curves)).trials] == [t.score for t in judge(curves).trials]


def test_a_failed_trial_says_what_its_code_raised_and_costs_its_rate_nothing():
    def failed(c):
        nothing = {"steps": c.steps[:0], "epochs": c.epochs[:0], "metrics": {}, "errors": {}}
        return dataclasses.replace(c, status="failed", failure="OSError: gone", **nothing)

    found = judge(
        failed(c) if c.lr == 1e-5 or (c.lr, c.seed) == (1e-3, 1) else c for c in study(made.parabola, X, 3, 0.02)
    )
    assert found.recommendation.lr == 1e-3
    assert found.rates[0].reason == "Its code raised (3 of 3 seeds): OSError: gone"
    assert found.rates[0].verdict == "undetermined"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("hung: step 9 was not done after 60 s", "It hung: step 9 was not done after 60 s."),
        ("memory: its process held 900 MiB; it was ended", "Its process held 900 MiB; it was ended."),
        ("its worker process died 3 times", "Its worker process died 3 times."),
        ("ValueError: its worker process died", "Its code raised: ValueError: its worker process died"),
    ],
)
def test_only_what_the_code_raised_is_said_to_be_raised(failure, words):
    curves = study(made.parabola, X, 1, 0.02)
    lost = dataclasses.replace(made.diverged(10.0), status="failed", failure=failure)
    assert judge([*curves, lost]).rates[-1].reason == words


# Curves of which nothing was recorded before training.


def late(curve):
    """The same trial without what was recorded at step 0."""
    return dataclasses.replace(
        curve, steps=curve.steps[1:], epochs=curve.epochs[1:],
        metrics={name: values[1:] for name, values in curve.metrics.items()},
        errors={name: values[1:] for name, values in curve.errors.items()},
    )  # fmt: skip


def flat(lr, loss, seed=0):
    """A trial that had learned all that it would before its first evaluation."""
    return late(made.trial(lr, loss, seed, start=loss))


def test_without_step_0_a_curve_that_lies_flat_may_have_learned_and_one_that_blew_up_is_never_good():
    found = judge([
        late(made.trial(1e-4, 0.8)), late(made.trial(1e-3, 0.30, start=0.31)), late(made.trial(1e-2, 0.44)),
        late(made.trial(0.1, 40.0, start=900.0)),
    ])  # fmt: skip
    assert found.recommendation.lr == 1e-3
    assert verdicts(found)[1e-3] == "good"
    assert verdicts(found)[0.1] == "too high"
    assert {trial.dynamics for trial in found.trials} <= {"smooth", "oscillating"}
    assert "whether a rate never moved, or ended where it had started, is not told" in found.notes[0]


def test_without_step_0_the_unit_of_progress_is_not_made_by_a_run_that_blew_up():
    found = judge([
        *(late(made.trial(lr, loss)) for lr, loss in ((1e-4, 0.8), (1e-3, 0.3), (1e-2, 0.4))),
        late(made.trial(0.1, 40.0, start=1e6)),
    ])  # fmt: skip
    assert found.margin < 0.1  # 2 % of what training gained


def test_two_lowest_rates_that_begin_alike_tell_where_all_began():
    curves = [flat(1e-6, made.START), flat(1e-5, made.START), *map(late, study(made.parabola, np.arange(-4.0, -1.0)))]
    collapsed = flat(1.0, made.START)
    found = judge([*curves, collapsed])
    assert [verdicts(found)[lr] for lr in (1e-6, 1e-5, 1.0)] == ["too low", "too low", "diverged"]
    assert found.trials[0].dynamics == found.trials[-1].dynamics == "stalled"
    assert "1e-6 and 1e-5 begin alike, so that is taken for where all began" in found.notes[0]


def test_a_curve_with_step_0_tells_where_the_others_began():
    begun = study(made.parabola, np.arange(-5.0, -1.0))
    found = judge([*begun, flat(1.0, made.START)])
    assert found.trials[-1].dynamics == "stalled"
    assert found.notes == ()


# Rates that are exactly alike.


@pytest.mark.parametrize(("seeds", "loss"), [(1, 0.5), (3, 0.5), (3, 0.0)])
def test_rates_that_end_exactly_alike_are_never_called_worse_and_nothing_more_is_asked_for(seeds, loss):
    found = judge([made.trial(lr, loss, s) for lr in (1e-5, 1e-4, 1e-3, 1e-2) for s in range(seeds)])
    assert set(verdicts(found).values()) <= ({"good"} if seeds > 1 else {"good", "undetermined"})
    assert found.response.reason == "not located: all rates end alike"
    assert found.recommendation.conclusion.startswith("All 4 rates end exactly alike")
    assert found.recommendation.next_run is None


def test_where_most_rates_end_alike_it_is_not_said_of_all():
    found = judge([made.trial(lr, 0.5) for lr in (1e-5, 1e-4, 1e-3, 1e-2)] + [made.trial(0.1, 0.6)])
    assert found.response.reason == "not located: most rates end alike"
    assert found.recommendation.edge is None
    assert found.recommendation.next_run.lrs == ()


@pytest.mark.parametrize("rng", range(40))
def test_a_rate_that_scored_better_than_the_recommended_one_is_never_called_worse(rng):
    """With one seed a step down and a long flat part can make the curve sure of what a single score denies."""
    step = study(lambda x: np.where(x < -3.4, -2.0, 0.5 + 0.05 * x), X, 1, 0.05, rng=rng)
    found = judge(step)
    assert not [r.lr for r in found.rates if r.evidence["gap"] < 0 and r.grade == "worse"]


# One seed, and a loss of which training moves but a part.


def test_one_seed_of_a_language_models_loss_tells_the_rates_that_are_plainly_too_high():
    losses = {1e-5: 3.60, 3e-5: 3.40, 1e-4: 3.25, 3e-4: 3.17, 1e-3: 3.15, 3e-3: 3.30, 1e-2: 3.60}
    found = judge([made.trial(lr, loss, start=4.0) for lr, loss in losses.items()])
    words = verdicts(found)
    assert found.recommendation.lr == 1e-3
    assert words[1e-2] == words[3e-3] == "too high"
    assert words[1e-5] == words[3e-5] == "too low"
    assert found.recommendation.interval_open == ()


def test_a_gain_within_the_margin_is_said_to_be_none():
    chance = [
        made.trial(lr, 0.69 - gain, start=0.693, error=0.02) for lr, gain in ((1e-4, 0.001), (1e-3, 0.004), (1e-2, 0.0))
    ]
    said = judge(chance, margin=0.02).notes
    assert said[0].startswith("Even the best rate ends within the margin of where training began (0.693)")
    assert judge(study(made.parabola, np.arange(-4.0, -1.0))).notes == ()
