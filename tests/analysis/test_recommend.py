"""The recommendation: edges and cliffs, dead seeds, what stays open, the seeds to add and the run that teaches most."""

import dataclasses
import math

import made
import numpy as np
import pytest
from made import judge, study, trial, verdicts

from etude.analysis import answer as answers
from etude.analysis.noise import Noise
from etude.analysis.recommend import POWER_Z, seed_plan
from etude.analysis.scale import Scale
from etude.notation import rate_text

X = np.linspace(-5, -1, 9)
LOSS = Scale(kind="positive", sign=-1)


def plan(mean, sd, seeds, delta, draws=4000):
    """The seed plan of rates alone with known means and scatter on the even scale."""
    mean = np.asarray(mean, float)
    rng = np.random.default_rng(0)
    noise = Noise(
        x=np.arange(len(mean), dtype=float),
        mean=mean,
        variance=np.full(len(mean), sd**2),
        total=np.full(len(mean), sd**2),
        count=np.full(len(mean), float(seeds)),
        df=20.0,
    )
    values = mean + sd / np.sqrt(seeds) * rng.standard_normal((draws, len(mean)))
    known = answers.Answer(
        lrs=tuple((10.0 ** np.arange(len(mean))).tolist()), noise=noise, values=values, candidates=tuple(range(len(mean))),
        best=values.min(1), place=None, grid=np.empty(0), curve=None, bounds=(0.0, 1.0), closed=(False, False), why_no_curve="",
    )  # fmt: skip
    return seed_plan(known, delta, LOSS)


# Where the best rate stands.


def test_inside_the_grid_it_is_bracketed_and_has_no_edge():
    found = judge(study(made.parabola, X, 3, 0.02)).recommendation
    assert found.lr == 1e-3
    assert found.edge is None
    assert found.bracket == pytest.approx((10**-3.5, 10**-2.5), rel=1e-5)
    low, high = found.optimum_interval
    assert low < 1e-3 < high
    assert found.interval_open == ()
    assert not found.provisional


@pytest.mark.parametrize(("at", "edge", "word"), [(-6.5, "low", "lowest"), (0.5, "high", "highest")])
def test_at_the_end_of_the_grid_it_is_not_bracketed_and_the_next_run_goes_on(at, edge, word):
    found = judge(study(lambda x: made.parabola(x, at, 0.08), X, 2, 0.02))
    best = found.recommendation
    end = found.rates[0 if edge == "low" else -1].lr
    assert best.lr == end
    assert best.edge == edge
    assert best.bracket is None
    assert best.interval_open == (edge,)
    assert f"it is the {word} rate tried, so the best rate is not bracketed" in best.reason
    outward = -1 if edge == "low" else 1
    assert sorted(best.next_run.lrs) == list(best.next_run.lrs)
    assert sorted(outward * math.log10(lr / end) for lr in best.next_run.lrs) == pytest.approx([0.5, 1.0], abs=0.01)


def test_a_lost_rate_above_the_best_closes_the_interval_and_is_no_edge():
    falling = study(lambda x: -1.0 - 0.4 * x, X, 3, 0.02)
    gone = [made.diverged(1.0, s) for s in range(3)]
    open_end, cliff = judge(falling).recommendation, judge([*falling, *gone])
    assert open_end.edge == "high"
    best = cliff.recommendation
    assert best.lr == 0.1
    assert best.edge is None
    assert best.interval_open == ()
    assert best.bracket == (pytest.approx(10**-1.5, rel=1e-5), 1.0)
    assert best.optimum_interval[1] <= 1.0
    assert verdicts(cliff)[1.0] == "diverged"
    assert best.conclusion.endswith("; 1 diverged.")


def test_a_cliff_with_a_seed_lost_at_the_rate_below_bars_that_rate():
    falling = study(lambda x: -1.0 - 0.4 * x, X, 3, 0.02)
    kept = [c for c in falling if not (c.lr == 0.1 and c.seed == 1)]
    found = judge([*kept, made.diverged(0.1, 1), *(made.diverged(1.0, s) for s in range(3))])
    assert found.recommendation.lr == pytest.approx(10**-1.5, rel=1e-5)
    assert verdicts(found)[0.1] != "good"
    assert found.rates[-2].evidence["n_diverged"] == 1


def test_of_two_humps_the_deeper_is_recommended():
    for deep, shallow in ((-4, -2), (-2, -4)):
        two = lambda x, d=deep, s=shallow: np.minimum(np.abs(x - d), np.abs(x - s) + 0.3)  # noqa: E731
        assert judge(study(two, X, 3, 0.02)).recommendation.lr == pytest.approx(10.0**deep)


# Dead seeds.


def test_a_dead_seed_of_final_values_bars_its_rate_and_is_told():
    finals = study(lambda x: 1.4 * made.parabola(x), X, 3, 0.02, start=None)
    dead = [
        dataclasses.replace(c, metrics={"val_loss": np.array([2.3])}) if (c.lr, c.seed) == (1e-3, 2) else c
        for c in finals
    ]
    whole, found = judge(finals, unit=""), judge(dead, unit="")
    assert whole.recommendation.lr == 1e-3
    rate = next(rate for rate in found.rates if rate.lr == 1e-3)
    assert rate.evidence["n_outlying"] == 1
    assert rate.verdict != "good"
    assert found.recommendation.lr != 1e-3
    assert "1 of its 3 seeds" in rate.reason
    assert found.noise.sd < 2 * whole.noise.sd, "a dead seed is no scatter"


def test_a_dead_seed_with_a_curve_that_never_moved_bars_its_rate():
    curves = [
        made.stalled(c.lr, c.seed) if (c.lr, c.seed) == (1e-3, 2) else c for c in study(made.parabola, X, 3, 0.02)
    ]
    found = judge(curves)
    rate = next(rate for rate in found.rates if rate.lr == 1e-3)
    assert rate.evidence["n_stalled"] == 1
    assert found.recommendation.lr != 1e-3
    assert rate.verdict == "undetermined"
    assert rate.reason.startswith("1 of its 3 seeds never left its starting point;")
    assert 1e-3 not in found.recommendation.within_margin


def test_a_rate_that_lost_most_of_its_seeds_is_diverged():
    finals = study(lambda x: 1.4 * made.parabola(x), X, 5, 0.02, start=None)
    dead = [
        dataclasses.replace(c, status="diverged", diverged_step=4, steps=c.steps[:0], epochs=c.epochs[:0], metrics={}, errors={})
        if c.lr == 0.1 and c.seed < 3 else c for c in finals
    ]  # fmt: skip
    assert verdicts(judge(dead, unit=""))[0.1] == "diverged"


# What stays open.


def test_one_seed_is_provisional_and_asks_for_three():
    found = judge(study(made.parabola, X)).recommendation
    assert found.provisional
    assert found.provisional_reason == "run-to-run noise not measured: one seed"
    assert (found.next_run.seeds, found.next_run.lrs) == (3, ())


def test_unfinished_trials_are_to_be_finished_first():
    curves = study(made.parabola, X, 2, 0.02)
    running = [*curves[:-1], dataclasses.replace(curves[-1], status="running", steps=curves[-1].steps[:3],
               epochs=curves[-1].epochs[:3], metrics={"val_loss": curves[-1].metrics["val_loss"][:3]},
               errors={"val_loss": curves[-1].errors["val_loss"][:3]})]  # fmt: skip
    found = judge(running).recommendation
    assert found.provisional_reason == "training is not finished"
    assert found.next_run.why == "finish what was asked for"
    assert (found.next_run.seeds, found.next_run.lrs) == (None, ())
    assert "1 trial still to finish" in found.reason


def test_within_the_margin_almost_surely_it_says_stop():
    x = np.linspace(-4, -2, 17)
    found = judge(study(made.parabola, x, 4, 0.01), margin=0.05)
    assert found.recommendation.next_run is None
    assert found.seed_plan.more == 0


def test_a_coarse_grid_asks_for_the_rate_between_the_two_that_hold_the_optimum():
    """The optimum in the middle of a gap of a whole decade, the noise small: another rate teaches, seeds do not."""
    found = judge(study(lambda x: made.parabola(x, -2.5, 1.0), np.arange(-5.0, 0.1), 4, 0.01), margin=0.001)
    (where,) = found.recommendation.next_run.lrs
    assert 10**-2.9 < where < 10**-2.1
    assert found.recommendation.next_run.seeds is None
    assert found.recommendation.next_run.why == "the best rate may lie between those tried"


def test_a_fine_grid_with_much_noise_asks_for_seeds():
    found = judge(study(made.parabola, np.linspace(-4, -2, 21), 2, 0.3, rng=1), margin=0.002)
    assert found.recommendation.next_run.lrs == ()
    assert found.recommendation.next_run.seeds > 2


@pytest.mark.parametrize("sd", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("margin", [0.002, 0.02, 0.05])
@pytest.mark.parametrize("seeds", [2, 3])
def test_the_next_run_does_not_ask_for_seeds_that_the_plan_calls_useless(sd, margin, seeds):
    for rng in range(4):
        found = judge(study(made.parabola, np.linspace(-4, -2, 9), seeds, sd, rng=rng), margin=margin)
        plan, then = found.seed_plan, found.recommendation.next_run
        if plan is None or plan.more or then is None or then.seeds is None:
            continue
        assert " and ".join(map(rate_text, plan.lrs)) not in then.why


# How many seeds.


def test_the_seeds_to_add_are_those_of_a_direct_calculation():
    """Rates that differ by d, with a standard deviation of the difference of √2·σ a seed: (z·√2σ/(|d| − δ))² seeds."""
    sd, seeds, delta = 0.1, 3, 0.01
    for gap in (0.09, 0.12):
        found = plan([0.0, gap], sd, seeds, delta)
        needed = math.ceil((POWER_Z * math.sqrt(2) * sd / (math.exp(gap) - 1 - delta)) ** 2)
        assert found.more == pytest.approx(max(1, needed - seeds), abs=1)
        assert "tell them apart" in found.why
        assert f"about {found.more} more seed" in found.why
    delta = 0.15
    found = plan([0.0, 0.05], sd, seeds, delta)
    needed = math.ceil((POWER_Z * math.sqrt(2) * sd / (delta - (math.exp(0.05) - 1))) ** 2)
    assert found.more == pytest.approx(max(1, needed - seeds), abs=1)
    assert "differ by less than the margin" in found.why


def test_the_seeds_planned_would_do_what_is_promised():
    """With that many seeds the two rates are told apart in about the nine cases of ten that the formula stands for."""
    rng = np.random.default_rng(2)
    sd, seeds, delta, gap = 0.1, 3, 0.01, 0.15
    total = seeds + plan([0.0, gap], sd, seeds, delta).more
    error = math.sqrt(2 / total) * sd
    differences = math.exp(gap) - 1 + error * rng.standard_normal(4000)
    assert 0.85 < np.mean(differences > delta) < 0.99


def test_more_seeds_change_nothing_where_it_is_settled():
    apart = plan([0.0, 1.0], 0.05, 4, 0.05)
    assert apart.more == 0
    assert "are told apart" in apart.why
    alike = plan([0.0, 0.001], 0.02, 10, 0.2)
    assert alike.more == 0
    assert "differ by less than the margin" in alike.why


@pytest.mark.parametrize("delta", [0.0, 1e-4])
def test_a_gap_of_unknown_sign_is_not_told_apart_however_small_the_margin(delta):
    """All draws are further apart than such a margin, half of them in either direction."""
    found = plan([0.0, 0.01], 0.3, 2, delta)
    assert found.more is None
    assert "told apart" not in found.why


def test_too_many_seeds_are_not_asked_for():
    found = plan([0.0, math.log(1.1)], 0.3, 3, 0.1)
    assert found.more is None
    assert "more than 30 further seeds" in found.why


def test_no_plan_without_a_rival_or_without_noise():
    assert plan([0.0], 0.1, 3, 0.01) is None
    assert judge(study(made.parabola, X)).seed_plan is None
    assert judge([trial(1e-3, 0.1, s) for s in range(3)]).seed_plan is None


# Little to go by.


def test_all_diverged_all_stalled_and_what_lies_between():
    lost = judge([made.diverged(lr, s) for lr in (0.1, 1.0) for s in range(2)])
    assert lost.recommendation.lr is None
    assert lost.recommendation.reason == "no rate can be recommended yet: all 4 trials diverged or collapsed."
    assert lost.recommendation.next_run.lrs == (0.001, 0.01)
    assert set(verdicts(lost).values()) == {"diverged"}
    still = judge([made.stalled(lr, s) for lr in (1e-8, 1e-7) for s in range(2)])
    assert still.recommendation.lr is None
    assert "all 4 trials never moved" in still.recommendation.reason
    assert still.recommendation.next_run.lrs == (1e-6, 1e-5)
    assert set(verdicts(still).values()) == {"too low"}
    both = judge([made.stalled(1e-7), made.diverged(10.0)])
    assert verdicts(both) == {1e-7: "too low", 10.0: "diverged"}
    assert list(both.recommendation.next_run.lrs) == sorted(both.recommendation.next_run.lrs)
    assert all(1e-7 < lr < 10 for lr in both.recommendation.next_run.lrs)
    for one in (lost, still, both):
        assert one.margin is None
        assert one.noise.reason == one.margin_source == "no rate has learned anything"
        assert one.summary == ()
        assert not one.response.located


def test_all_equal_rates_are_all_good_and_the_lowest_is_taken():
    found = judge([trial(10.0**a, 0.2, s) for a in range(-5, 0) for s in range(2)])
    assert set(verdicts(found).values()) == {"good"}
    assert found.recommendation.lr == 1e-5
    assert found.response.reason == "not located: all rates end alike"


def test_two_rates_and_one():
    two = judge([trial(lr, final + 0.002 * s, s) for lr, final in ((1e-3, 0.1), (1e-2, 0.5)) for s in range(3)])
    assert verdicts(two) == {1e-3: "good", 1e-2: "too high"}
    assert two.recommendation.edge == "low"
    assert two.recommendation.next_run.lrs == (1e-5, 1e-4)
    one = judge([trial(1e-3, 0.1 + 0.002 * s, s) for s in range(3)])
    assert verdicts(one) == {1e-3: "good"}
    assert one.recommendation.edge is None
    assert one.recommendation.bracket is None
    assert one.recommendation.next_run.lrs == (1e-4, 1e-2)
    assert "one rate alone compares with nothing" in one.recommendation.conclusion
    assert one.recommendation.estimate["value"] == pytest.approx(0.102, abs=0.001)


@pytest.mark.parametrize("seeds", [1, 3])
def test_of_final_values_alone_no_sentence_speaks_of_time(seeds):
    finals = study(made.parabola, X, seeds, 0.03, start=None)
    found = judge([*finals, *(made.diverged(1.0, s) for s in range(seeds))], unit="")
    assert found.recommendation.lr == 1e-3
    for text in made.sentences(found):
        assert "epoch" not in text
        assert "step" not in text, text


# What the rate will reach.


def test_the_estimate_is_less_optimistic_than_the_best_of_many():
    """True losses nearly alike: the best of nine is luck, and the estimate takes a good part of it back."""
    own, said = [], []
    for case in range(40):
        found = judge(study(lambda x: made.parabola(x, bend=0.02), X, 2, 0.1, rng=case)).recommendation
        truth = made.parabola(math.log10(found.lr), bend=0.02) + 0.5 * 0.1**2
        own.append(math.log(found.estimate["own_mean"]) - truth)
        said.append(math.log(found.estimate["value"]) - truth)
    assert np.mean(own) < -0.04
    assert np.mean(own) < 1.25 * np.mean(said)


@pytest.mark.parametrize(
    ("seeds", "said"), [(1, "from one seed, so likely a little optimistic"), (2, "without the luck")]
)
def test_what_is_left_of_luck_in_the_estimate_is_told(seeds, said):
    assert said in judge(study(made.parabola, X, seeds, 0.05)).recommendation.estimate["note"]


def test_one_seed_asks_for_a_wider_interval():
    """The same draws, told apart only by whether seeds measured the noise."""
    rng = np.random.default_rng(0)
    wider = 0.0
    for _ in range(5):
        scores = {10.0**x: {0: made.parabola(x) + 0.1 * rng.standard_normal()} for x in X}
        one = answers.answer(scores, barred=(), lost=(), stalled=(), examples={})
        several = dataclasses.replace(one, noise=dataclasses.replace(one.noise, df=5.0))
        (low, high), (own_low, own_high) = one.interval()[0], several.interval()[0]
        assert (low, high) == one.interval(0.97)[0]
        assert (own_low, own_high) == one.interval(0.95)[0]
        assert low <= own_low < own_high <= high
        wider += (high - low) - (own_high - own_low)
    assert wider > 0.1


def test_the_estimates_error_holds_the_truth():
    held = 0
    for case in range(60):
        found = judge(study(made.parabola, X, 3, 0.1, shared=0.1, rng=case)).recommendation
        truth = float(np.exp(made.parabola(math.log10(found.lr)) + 0.5 * (0.1**2 + 0.1**2)))
        held += abs(found.estimate["value"] - truth) <= 2.5 * found.estimate["standard_error"]
    assert held / 60 >= 0.85


def test_the_conclusion_names_every_rate_that_is_not_good():
    found = judge(study(lambda x: made.parabola(x, bend=2.0), np.arange(-4.0, -1.0), 3, 0.01))
    for rate in found.rates:
        assert rate_text(rate.lr) in found.recommendation.conclusion
    many = judge(study(lambda x: made.parabola(x, bend=2.0), X, 3, 0.01)).recommendation.conclusion
    assert "3.16e-3 and above is too high or diverged" in many


# What is said of the ends, and of how many.


def test_an_end_that_is_known_to_be_worse_is_not_open():
    """The best rate may be a little before the last one, which itself is far worse."""
    by_rate = {
        1e-5: (0.03503, 0.03562, 0.03545), 3.16e-5: (0.03069, 0.03082, 0.03073), 1e-4: (0.03273, 0.03171, 0.0298),
        3.16e-4: (0.02806, 0.02687, 0.02861), 1e-3: (0.08789, 0.07287, 0.0919),
    }  # fmt: skip
    found = judge([trial(lr, loss, s) for lr, losses in by_rate.items() for s, loss in enumerate(losses)])
    assert verdicts(found)[1e-3] == "too high"
    assert found.recommendation.interval_open == ()


def test_one_rate_at_an_end_is_named_without_what_lies_beyond():
    found = judge(study(lambda x: made.parabola(x, -4.0), [-5.5, -4.0, -3.0, -2.5, -2.0, -1.5], 3, 0.01))
    assert "3.16e-6 is too low" in found.recommendation.conclusion
    assert "1e-3 and above is too high" in found.recommendation.conclusion


def test_only_rates_with_a_score_are_counted_as_what_the_best_is_the_best_of():
    curves = study(made.parabola, X[2:5], 1)
    gone = [made.diverged(1.0), made.diverged(10.0)]
    assert "the best of 3 rates with a score, of 5 tried" in judge([*curves, *gone]).recommendation.reason
    assert "the only one of 3 rates with a score" in judge([curves[0], *gone]).recommendation.reason
    assert "the only rate tried" in judge(curves[:1]).recommendation.reason


def test_the_plateau_ends_where_rates_were_trained_to_the_end():
    """Paused rates bound where the best one may be; what lies between them and the others is no plateau."""
    whole = study(lambda x: made.parabola(x, -1.0, 0.02), np.linspace(-1.5, -0.5, 4), 3, 0.01)
    early = [made.paused(made.trial(lr, 2.0, s), 1) for lr in (1e-4, 1e-3) for s in range(3)]
    found = judge([*early, *whole], searched=True)
    lowest = min(curve.lr for curve in whole)
    assert found.response.plateau.low >= lowest * 0.95
    assert verdicts(found)[1e-4] == "too low"


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([2.3, 0.9, 0.5, 0.35, 0.3, 0.3, 0.3], "Settled at"),
        ([2.3, 0.9, 0.5, 0.35, 0.3, 0.3, 0.4], "Fell back by 0.10 between two evaluations and ended at 0.4"),
        ([2.3, 0.9, 0.5, 0.3, 0.4, 0.4, 0.4], "Fell back by 0.10 between two evaluations and ended at 0.4"),
        ([2.3, 0.9, 0.5, 0.35, 0.3, 0.3, 0.306], "Ended at"),
        ([2.3, 2.0, 1.7, 1.4, 1.1, 0.8, 0.5], "Still improving"),
    ],
)
def test_only_a_curve_that_did_not_change_at_the_end_is_said_to_have_settled(losses, words):
    curves = [made.trial(lr, loss, error=0.002) for lr, loss in ((1e-4, 0.2), (1e-3, 0.1))]
    last = made.trial(1e-2, 0.3, error=0.002)
    last.metrics["val_loss"][:] = losses
    assert judge([*curves, last]).rates[-1].reason.startswith(words)
